package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// drive is one worker's work on one run.
type drive struct {
	e   *Executor
	log Log
	def runner
	sh  *Shape
	rec record // what the journal has, but for undos of Nothing that need no write

	// begun says that the Do of step rec.Step began or may have begun: here, or at an earlier worker.
	begun bool
}

func newRecord(def runner, input any) (record, error) {
	state, err := def.encode(input)
	if err != nil {
		return record{}, err
	}
	sh := def.shape()
	now := time.Now().UnixMilli()
	return record{V: recordVersion, Name: sh.Name, Version: sh.Version, Phase: Running, At: sh.Steps[0].Name,
		Steps: len(sh.Steps), Epoch: firstEpoch, Since: now, Started: now, State: state}, nil
}

// drive goes on with a run until it has ended, is stuck, or cannot be driven on here. def may be nil if the run
// has a record; it counts only if it is the run's.
func (e *Executor) drive(ctx context.Context, log Log, def runner, input any) (Status, error) {
	d := &drive{e: e, log: log, def: def}
	if err := d.load(input); err != nil {
		if errors.Is(err, ErrParked) {
			d.observe(Event{Kind: RunParked, Err: err})
		}
		return d.rec.status(), fmt.Errorf("run %s: %w", log.ID(), err)
	}
	if d.rec.Phase.Ended() || d.rec.Phase == Stuck {
		return d.rec.status(), nil
	}
	if log.Epoch() > 1 {
		d.observe(Event{Kind: RunResumed})
	} else {
		d.observe(Event{Kind: RunBegan})
	}
	err := d.loop(ctx)
	st := d.rec.status()
	st.Cancel = log.Head().Cancel
	if err == nil {
		return st, nil
	}
	switch {
	case errors.Is(err, ErrFenced):
		d.observe(Event{Kind: RunFenced, Step: d.rec.At, Err: err})
	case errors.Is(err, ErrLeft):
		d.observe(Event{Kind: RunLeft, Step: d.rec.At, Err: err})
	default:
		d.observe(Event{Kind: RunPaused, Step: d.rec.At, Err: err})
	}
	return st, fmt.Errorf("run %s, step %s: %w", log.ID(), d.rec.At, err)
}

func (d *drive) load(input any) error {
	head := d.log.Head()
	if len(head.Record) == 0 {
		if d.def == nil {
			return fmt.Errorf("%w: nothing of it was journalled, and its input is not known here", ErrParked)
		}
		rec, err := newRecord(d.def, input)
		if err != nil {
			return err
		}
		d.rec, d.sh = rec, d.def.shape()
		d.rec.lose(d.log.Epoch())
		d.begun = d.log.Epoch() > 1 && !d.sh.Steps[0].Intent
		return nil
	}
	rec, err := decodeRecord(head.Record)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrParked, err)
	}
	d.rec = rec
	d.rec.lose(d.log.Epoch())
	if d.def == nil || d.def.shape().Name != rec.Name || d.def.shape().Version != rec.Version {
		if d.def, err = d.e.registry.lookup(rec.Name, rec.Version); err != nil {
			return err
		}
	}
	d.sh = d.def.shape()
	if err := d.fits(); err != nil {
		return err
	}
	if rec.Step < len(d.sh.Steps) {
		d.begun = rec.Begun || d.log.Epoch() > 1 && !d.sh.Steps[rec.Step].Intent
	}
	return nil
}

// fits refuses a definition that is not the one the run began with, in spite of its version.
func (d *drive) fits() error {
	i, steps := d.rec.Step, d.sh.Steps
	if d.rec.Phase == Undoing || d.rec.From == Undoing {
		i = max(d.rec.Left-1, 0)
	}
	switch {
	case d.rec.Phase.Ended():
		return nil
	case len(steps) != d.rec.Steps:
		return fmt.Errorf("%w: it began with %d steps, %s version %d has %d here", ErrParked, d.rec.Steps, d.sh.Name, d.sh.Version, len(steps))
	case i >= len(steps):
		return fmt.Errorf("%w: it is at step %d of %d", ErrParked, i+1, len(steps))
	case d.rec.Left > 0 && steps[i].Name != d.rec.At, d.rec.Phase == Running && steps[i].Name != d.rec.At:
		return fmt.Errorf("%w: its step %d is %s, in %s version %d here it is %s", ErrParked, i+1, d.rec.At, d.sh.Name, d.sh.Version, steps[i].Name)
	}
	return nil
}

// loop takes one action after the other: each reads d.rec and leaves it as the journal then has it.
func (d *drive) loop(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var err error
		switch d.rec.Phase {
		case Running:
			err = d.forward(ctx)
		case Undoing:
			err = d.backward(ctx)
		case Pending, Done, Undone, Stuck:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// forward does the next step once.
func (d *drive) forward(ctx context.Context) error {
	i := d.rec.Step
	step := &d.sh.Steps[i]
	if d.log.Head().Cancel != nil && d.mayTurn(step) {
		return d.turn(ctx, d.rec, d.canceled())
	}
	if step.Intent && !d.rec.Begun {
		rec := d.rec
		rec.Begun = true
		if err := d.append(ctx, rec, step, i, nil, !step.Past); err != nil {
			return d.heed(ctx, err)
		}
		d.rec = rec
	}
	t := d.newTry(step, d.begun || d.rec.Tried > 0)
	d.begun = true
	state, done, err := d.ask(ctx, t, i)
	t.took = time.Since(t.began)
	if stop := d.stops(ctx, err); stop != nil {
		return stop
	}
	if err != nil {
		return d.fail(ctx, t, err)
	}
	if !done { // checked, and found that nothing took effect: Do is called next
		d.rec.Unknown = false
		return nil
	}
	return d.complete(ctx, t, state)
}

// mayTurn says whether the run may go backward now: not past the pivot, not while it is unknown whether the
// step took effect.
func (d *drive) mayTurn(step *StepShape) bool {
	if d.begun && step.Pivot && !step.Undo {
		return false
	}
	return !step.Past && !d.rec.Unknown
}

func (d *drive) canceled() *cause {
	return &cause{Message: shorten(ErrCanceled.Error() + " by " + d.log.Head().Cancel.Who), Cancel: true}
}

// heed turns the run back if err is ErrCanceled.
func (d *drive) heed(ctx context.Context, err error) error {
	if errors.Is(err, ErrCanceled) && d.log.Head().Cancel != nil {
		return d.turn(ctx, d.rec, d.canceled())
	}
	return err
}

// ask calls Do, or Check if it is not known whether an earlier Do took effect.
func (d *drive) ask(ctx context.Context, t *try, i int) (state []byte, done bool, err error) {
	if d.rec.Unknown && t.step.Check {
		err = d.call(ctx, t, Checking, i, func(ctx context.Context) (err error) {
			t.staged = nil
			state, done, err = d.def.check(ctx, i, t.run, d.rec.State)
			return err
		})
		if err != nil {
			err = Unknown(err)
		}
		return state, done, err
	}
	err = d.call(ctx, t, Doing, i, func(ctx context.Context) (err error) {
		t.staged = nil
		state, err = d.def.do(ctx, i, t.run, d.rec.State)
		return err
	})
	if err == nil && state == nil { // something around the call left it out and said nil
		state = d.rec.State
	}
	return state, true, err
}

// call runs one function of a step, with its time-out; a panic is an error of the step.
func (d *drive) call(ctx context.Context, t *try, action Action, i int, f func(context.Context) error) error {
	tctx := ctx
	if t.step.timeout > 0 {
		var cancel context.CancelFunc
		tctx, cancel = context.WithTimeout(ctx, t.step.timeout)
		defer cancel()
	}
	c := Call{Action: action, ID: d.log.ID(), Step: *t.step, Index: i, Attempt: t.run.Attempt, Phase: d.rec.Phase}
	err := d.e.wrap(tctx, c, func(ctx context.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				t.run.Log.ErrorContext(ctx, "step panicked", "error", p, "stack", string(debug.Stack()))
				err = Permanent(fmt.Errorf("panic in step %s: %v", t.step.Name, p))
			}
		}()
		return f(ctx)
	})
	if err != nil && ctx.Err() == nil && tctx.Err() != nil && classify(err) < left && !errors.Is(err, errNothing) {
		err = fmt.Errorf("no answer within %s: %w", t.step.timeout, err)
		if action == Doing && t.step.Pivot && !t.step.Undo {
			err = Unknown(err)
		}
	}
	return err
}

// stops says whether an error of a step ends the work on the run here, with nothing written.
func (d *drive) stops(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, errNothing):
		return nil
	case classify(err) == left || errors.Is(err, ErrFenced):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w (the step said: %s)", context.Cause(ctx), err.Error())
	}
	return nil
}

// complete journals that the step succeeded; of the last one, that the run ended.
func (d *drive) complete(ctx context.Context, t *try, state []byte) error {
	rec := d.rec
	now := time.Now()
	rec.State, rec.Tried, rec.Lost, rec.Unknown, rec.Begun, rec.Since = state, 0, 0, false, false, now.UnixMilli()
	rec.Step++
	rec.Past = rec.Past || t.step.Pivot
	last := rec.Step == len(d.sh.Steps)
	if last {
		rec.Phase, rec.Ended = Done, now.UnixMilli()
		if err := d.def.done(t.run, state); err != nil {
			return d.fail(ctx, t, tookEffect(t.step, fmt.Errorf("end: %w", err)))
		}
	} else {
		rec.At = d.sh.Steps[rec.Step].Name
	}
	heed := last && !rec.Past
	if err := d.append(ctx, rec, t.step, d.rec.Step, t.staged, heed); err != nil {
		if refused := (*RefusedError)(nil); errors.As(err, &refused) {
			return d.fail(ctx, t, tookEffect(t.step, refused.Err))
		}
		return d.heed(ctx, err)
	}
	d.rec, d.begun = rec, false
	d.observe(Event{Kind: StepDone, Step: t.step.Name, Attempt: t.run.Attempt, Took: t.took})
	if last {
		d.observe(Event{Kind: RunDone, Took: now.Sub(fromMilli(rec.Started))})
	}
	return nil
}

// tookEffect says what it means that the completion of a step whose Do succeeded is refused: a pivot without Undo has happened, so
// whatever the error says, the steps before it must not be undone.
func tookEffect(step *StepShape, err error) error {
	if step.Pivot && !step.Undo && classify(err) != left {
		return Unknown(err)
	}
	return err
}

// fail journals a failed try and decides what comes next: another try, the way back, or a person.
func (d *drive) fail(ctx context.Context, t *try, err error) error {
	if errors.Is(err, ErrFenced) || classify(err) == left {
		return err // a staged write or a hook said so
	}
	rec := d.rec
	k := d.record(&rec, t, err, false)
	rec.Unknown = k == unknown || rec.Unknown && k != permanent
	d.observe(Event{Kind: StepFailed, Step: t.step.Name, Attempt: t.run.Attempt, Err: err, Took: t.took})
	if k != permanent && !t.step.retry.exhausted(rec.Tried) {
		if err := d.append(ctx, rec, t.step, rec.Step, nil, false); err != nil {
			return err
		}
		d.rec = rec
		if d.log.Head().Cancel != nil && d.mayTurn(t.step) {
			return nil // no need to wait
		}
		return d.wait(ctx, t, d.rec.Step, t.step.retry)
	}
	why := causeOf(t.step.Name, err)
	if rec.Past || rec.Unknown {
		return d.stick(ctx, rec, t.step, why)
	}
	return d.turn(ctx, rec, why)
}

// record notes a failed try in rec.
func (d *drive) record(rec *record, t *try, err error, undo bool) kind {
	k := classify(err)
	rec.Tried++
	rec.note(attempt{Step: t.step.Name, Undo: undo, N: t.run.Attempt, At: time.Now().UnixMilli(),
		Took: t.took.Milliseconds(), Kind: k.String(), Err: shorten(err.Error())})
	return k
}

func causeOf(step string, err error) *cause {
	c := &cause{Step: step, Message: shorten(err.Error())}
	if coded := (*codedError)(nil); errors.As(err, &coded) {
		c.Code = coded.code
	}
	return c
}

// turn goes backward from here, and ends at once if nothing began.
func (d *drive) turn(ctx context.Context, rec record, why *cause) error {
	rec.Phase, rec.Cause, rec.Tried, rec.Lost, rec.Since = Undoing, why, 0, 0, time.Now().UnixMilli()
	rec.Left = rec.Step
	if d.begun && d.sh.Steps[rec.Step].Undo {
		rec.Left++
	}
	rec.Unknown, rec.Begun = false, false
	d.observe(Event{Kind: RunTurned, Step: d.sh.Steps[rec.Step].Name, Err: why.export()})
	if rec.Left == 0 {
		d.rec = rec
		return d.endUndone(ctx, nil)
	}
	rec.At = d.sh.Steps[rec.Left-1].Name
	if err := d.append(ctx, rec, &d.sh.Steps[rec.Step], rec.Step, nil, false); err != nil {
		return err
	}
	d.rec = rec
	return nil
}

// stick leaves the run to a person.
func (d *drive) stick(ctx context.Context, rec record, step *StepShape, why *cause) error {
	rec.From, rec.Phase, rec.Stuck = rec.Phase, Stuck, why
	i := rec.Step
	if rec.From == Undoing {
		i = max(rec.Left-1, 0)
	}
	if err := d.append(ctx, rec, step, i, nil, false); err != nil {
		return err
	}
	d.rec = rec
	d.observe(Event{Kind: RunStuck, Step: step.Name, Err: why.export(), Took: time.Since(fromMilli(rec.Started))})
	return nil
}

// append commits rec as the new journal of the run. It outlives the end of ctx: a step that succeeded while
// the process is told to stop should not have to be done again.
func (d *drive) append(ctx context.Context, rec record, step *StepShape, i int, staged []Write, heed bool) error {
	b, err := rec.encode()
	if err != nil {
		return err
	}
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.e.writeTimeout)
	defer cancel()
	c := Call{Action: Writing, ID: d.log.ID(), Step: *step, Index: i, Phase: rec.Phase}
	return d.e.wrap(wctx, c, func(ctx context.Context) error {
		return d.log.Append(ctx, Entry{Record: b, Phase: rec.Phase, Writes: staged, Heed: heed})
	})
}

// wait pauses before the try after t, of step i.
func (d *drive) wait(ctx context.Context, t *try, i int, r Retry) error {
	pause := r.wait(d.rec.Tried)
	if d.e.ceiling > 0 {
		pause = min(pause, d.e.ceiling)
	}
	c := Call{Action: Waiting, ID: d.log.ID(), Step: *t.step, Index: i, Attempt: t.run.Attempt, Phase: d.rec.Phase}
	return d.e.wrap(ctx, c, func(ctx context.Context) error {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

func (d *drive) observe(ev Event) {
	if len(d.e.observers) == 0 {
		return
	}
	ev.ID, ev.Definition, ev.Version = d.log.ID(), d.rec.Name, d.rec.Version
	d.e.observe(ev)
}

// try is one call of a step's function.
type try struct {
	step   *StepShape
	run    Run
	staged []Write
	began  time.Time
	took   time.Duration
}

func (d *drive) newTry(step *StepShape, again bool) *try {
	t := &try{step: step, began: time.Now()}
	t.run = Run{
		ID: d.log.ID(), Definition: d.rec.Name, Version: d.rec.Version, Step: step.Name,
		Attempt: d.rec.Tried + d.rec.Lost + 1, Again: again, Epoch: d.log.Epoch(), Fence: d.log.Fence(),
		Stage: func(w Write) { t.staged = append(t.staged, w) },
	}
	t.run.Progress = d.progress(t)
	t.run.Waiting = func(why string) {
		d.observe(Event{Kind: Waits, Step: step.Name, Attempt: t.run.Attempt, Took: time.Since(t.began), Why: why})
	}
	t.run.Log = d.e.log
	if d.e.log.Handler() != slog.DiscardHandler {
		t.run.Log = d.e.log.With("operation", string(t.run.ID), "step", step.Name, "attempt", t.run.Attempt)
	}
	return t
}

// progressEvery keeps a copy that reports each block from flooding the observers.
const progressEvery = 250 * time.Millisecond

func (d *drive) progress(t *try) func(done, total int64, unit string) {
	if len(d.e.observers) == 0 {
		return func(int64, int64, string) {}
	}
	var last time.Time
	return func(done, total int64, unit string) {
		now := time.Now()
		if done != total && now.Sub(last) < progressEvery {
			return
		}
		last = now
		d.observe(Event{Kind: Progressed, Step: t.step.Name, Attempt: t.run.Attempt, Took: now.Sub(t.began), Done: done, Total: total, Unit: unit})
	}
}
