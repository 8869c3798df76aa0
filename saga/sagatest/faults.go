package sagatest

import (
	"context"
	"errors"
	"fmt"

	"github.com/scoria-storage/scoria/saga"
)

// scenario is a fault at a step, and how a run that meets it must end.
type scenario struct {
	name   string
	want   saga.Phase // at the end; for a fault that makes it stuck: after a person resumed
	sticks bool
	unlike bool // the snapshot must differ from the expected one
	around hook
}

type (
	call = func(context.Context) error
	hook = func(p *play, ctx context.Context, c saga.Call, next call) error
)

// effect is what a fault does at its point instead of, or around, the call.
type effect func(p *play, ctx context.Context, next call) error

func failBefore(err error) effect {
	return func(*play, context.Context, call) error { return err }
}

func failAfter(err error) effect {
	return func(_ *play, ctx context.Context, next call) error {
		if e := next(ctx); e != nil {
			return e
		}
		return err
	}
}

func repeat(_ *play, ctx context.Context, next call) error {
	if err := next(ctx); err != nil {
		return err
	}
	return next(ctx)
}

// overtake lets a second worker take over and drive the run to its end, and then goes on with the call.
func overtake(p *play, ctx context.Context, next call) error {
	st, err := p.w.Drive(ctx, quick())
	if err != nil || !st.Phase.Ended() {
		p.t.Errorf("the second worker: phase %s, error %v, %s; want it to end", st.Phase, err, tell(st))
	}
	return next(ctx)
}

// overtakeWrite is overtake around a journal write, which must be refused.
func overtakeWrite(p *play, ctx context.Context, next call) error {
	err := overtake(p, ctx, next)
	if !errors.Is(err, saga.ErrFenced) {
		p.t.Errorf("a worker that was overtaken wrote: %v, want ErrFenced", err)
	}
	return err
}

func cancel(p *play, ctx context.Context, next call) error {
	if err := p.w.(Canceler).Cancel(ctx); err != nil {
		p.t.Errorf("cancel: %v", err)
	}
	return next(ctx)
}

var crash = saga.Leave(errCrash)

// do makes a fault at Do of step i, limit times (0: always).
func do(i, limit int, e effect) hook {
	return func(p *play, ctx context.Context, c saga.Call, next call) error {
		if c.Action == saga.Doing && c.Index == i && p.fire(limit) {
			return e(p, ctx, next)
		}
		return next(ctx)
	}
}

// doWritten makes a fault, once, at the write that journals the completion of step i.
func doWritten(i int, e effect) hook {
	asked := false
	return func(p *play, ctx context.Context, c saga.Call, next call) error {
		if c.Action == saga.Doing && c.Index == i {
			asked = true // a write before that is the one of the step's intent
		}
		if c.Action == saga.Writing && c.Index == i && asked && p.fire(1) {
			return e(p, ctx, next)
		}
		return next(ctx)
	}
}

// scenarios lists every fault at every step of the reference run.
func (r *ref) scenarios() []scenario {
	var all []scenario
	for i := range r.steps {
		all = append(all, r.doScenarios(i)...)
	}
	for i := range r.steps {
		if r.undos[i] {
			all = append(all, r.undoScenarios(i)...)
		}
	}
	return append(all, r.blindness()...)
}

func (r *ref) doScenarios(i int) []scenario {
	s := r.steps[i]
	add := func(name string, want saga.Phase, around hook) scenario {
		return scenario{name: fmt.Sprintf("do %s/%s", s.Name, name), want: want, around: around}
	}
	all := []scenario{
		add("fails before once", saga.Done, do(i, 1, failBefore(errFault))),
		add("fails after once", saga.Done, do(i, 1, failAfter(errFault))),
		add("unknown before once", saga.Done, do(i, 1, failBefore(saga.Unknown(errFault)))),
		add("unknown after once", saga.Done, do(i, 1, failAfter(saga.Unknown(errFault)))),
		add("repeated", saga.Done, do(i, 1, repeat)),
		add("crash before", saga.Done, do(i, 1, failBefore(crash))),
		add("crash after", saga.Done, do(i, 1, failAfter(crash))),
		add("crash before the journal write", saga.Done, doWritten(i, failBefore(crash))),
		add("crash after the journal write", saga.Done, doWritten(i, failAfter(crash))),
		add("taken over before the journal write", saga.Done, doWritten(i, overtakeWrite)),
		add("taken over after the journal write", saga.Done, doWritten(i, func(p *play, ctx context.Context, next call) error {
			if err := next(ctx); err != nil {
				return err
			}
			return overtake(p, ctx, func(context.Context) error { return crash })
		})),
	}
	good := add("fails before for good", saga.Undone, do(i, 0, failBefore(saga.Permanent(errFault))))
	after := add("fails after for good", saga.Undone, do(i, 0, failAfter(saga.Permanent(errFault))))
	crashed := false
	lost := add("crash after, then fails for good", saga.Undone, do(i, 0, func(p *play, ctx context.Context, next call) error {
		if crashed {
			return saga.Permanent(errFault)
		}
		crashed = true
		return failAfter(crash)(p, ctx, next)
	}))
	switch {
	case s.Past:
		for _, sc := range []*scenario{&good, &after, &lost} {
			sc.want, sc.sticks = saga.Done, true
		}
	case !s.Undo: // a pivot that cannot be undone does not claim to have failed when it has taken effect
		after = add("unknown after for good", saga.Done, do(i, 0, failAfter(saga.Unknown(saga.Permanent(errFault)))))
		after.sticks = s.Tries() != saga.Forever
		if !after.sticks {
			after.around = do(i, 3, failAfter(saga.Unknown(errFault)))
		}
		all = append(all, good, after)
		return append(all, r.optional(i, add)...)
	}
	all = append(all, good, after, lost)
	return append(all, r.optional(i, add)...)
}

// optional lists the faults that only some worlds can make.
func (r *ref) optional(i int, add func(string, saga.Phase, hook) scenario) []scenario {
	var all []scenario
	if r.cancels {
		want := saga.Undone
		if r.steps[i].Pivot || r.steps[i].Past {
			want = saga.Done
		}
		all = append(all, add("canceled during it", want, do(i, 1, cancel)))
	}
	if r.fences {
		all = append(all, add("taken over before it, and goes on", saga.Done, do(i, 1, overtake)))
	}
	return all
}

// undo makes a fault at a call of Undo of step i, after everything went forward up to the trigger, which
// fails.
func (r *ref) undo(i, limit int, e effect) hook {
	return r.onTheWayBack(func(p *play, ctx context.Context, c saga.Call, next call) error {
		if c.Action == saga.Reverting && c.Index == i && p.fire(limit) {
			return e(p, ctx, next)
		}
		return next(ctx)
	})
}

// undoWritten makes a fault, once, at the write that journals the undo of step i.
func (r *ref) undoWritten(i int, e effect) hook {
	asked := false
	return r.onTheWayBack(func(p *play, ctx context.Context, c saga.Call, next call) error {
		if c.Action == saga.Reverting && c.Index == i {
			asked = true
		}
		if c.Action == saga.Writing && c.Index == i && asked && p.fire(1) {
			return e(p, ctx, next)
		}
		return next(ctx)
	})
}

// onTheWayBack sends the run back at the trigger, and hands everything else to f.
func (r *ref) onTheWayBack(f hook) hook {
	return func(p *play, ctx context.Context, c saga.Call, next call) error {
		if c.Action == saga.Doing && c.Index == r.trigger() {
			return r.failAtTrigger(ctx, next)
		}
		return f(p, ctx, c, next)
	}
}

func (r *ref) undoScenarios(i int) []scenario {
	add := func(name string, around hook) scenario {
		return scenario{name: fmt.Sprintf("undo %s/%s", r.steps[i].Name, name), want: saga.Undone, around: around}
	}
	stuck := add("fails for good", r.undo(i, 0, failBefore(saga.Permanent(errFault))))
	stuck.sticks = true
	all := []scenario{
		add("fails before once", r.undo(i, 1, failBefore(errFault))),
		stuck,
		add("crash before", r.undo(i, 1, failBefore(crash))),
	}
	if r.real[i] {
		all = append(all,
			add("fails after once", r.undo(i, 1, failAfter(errFault))),
			add("repeated", r.undo(i, 1, repeat)),
			add("crash after", r.undo(i, 1, failAfter(crash))),
		)
	}
	if r.writes[i] {
		all = append(all,
			add("crash before the journal write", r.undoWritten(i, failBefore(crash))),
			add("crash after the journal write", r.undoWritten(i, failAfter(crash))),
			add("taken over before the journal write", r.undoWritten(i, overtakeWrite)),
		)
	}
	return all
}

// blindness leaves out every undo: what the steps made must then be seen.
func (r *ref) blindness() []scenario {
	for i := range r.steps {
		if r.undos[i] && r.real[i] {
			return []scenario{{name: "every undo left out", want: saga.Undone, unlike: true,
				around: r.onTheWayBack(func(p *play, ctx context.Context, c saga.Call, next call) error {
					if c.Action == saga.Reverting && p.fire(0) {
						return nil
					}
					return next(ctx)
				})}}
		}
	}
	return nil
}
