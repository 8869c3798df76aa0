package saga

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// backward undoes one step, once.
func (d *drive) backward(ctx context.Context) error {
	if d.rec.Left == 0 {
		return d.endUndone(ctx, nil)
	}
	i := d.rec.Left - 1
	step := &d.sh.Steps[i]
	if !step.Undo { // a pivot that said it did nothing
		d.rec.Left--
		d.rec.At = d.sh.Steps[max(i-1, 0)].Name
		return nil
	}
	t := d.newTry(step, true)
	err := d.call(ctx, t, Reverting, i, func(ctx context.Context) error {
		t.staged = nil
		return d.def.undo(ctx, i, t.run, d.rec.State)
	})
	t.took = time.Since(t.began)
	if stop := d.stops(ctx, err); stop != nil {
		return stop
	}
	nothing := errors.Is(err, errNothing)
	if err != nil && !nothing {
		return d.failUndo(ctx, t, err)
	}
	rec := d.rec
	rec.Left, rec.Tried, rec.Lost, rec.Since = i, 0, 0, time.Now().UnixMilli()
	rec.At = d.sh.Steps[max(i-1, 0)].Name
	if i == 0 {
		d.rec.At = step.Name
		return d.endUndone(ctx, t)
	}
	if nothing && len(t.staged) == 0 {
		d.rec = rec
		return nil
	}
	if err := d.append(ctx, rec, step, i, t.staged, false); err != nil {
		if refused := (*RefusedError)(nil); errors.As(err, &refused) {
			return d.failUndo(ctx, t, refused.Err)
		}
		return err
	}
	d.rec = rec
	d.observe(Event{Kind: StepUndone, Step: step.Name, Attempt: t.run.Attempt, Took: t.took})
	return nil
}

// failUndo journals a failed try of an undo. No number of tries makes it right to go on without it: the run
// is stuck when they are used up.
func (d *drive) failUndo(ctx context.Context, t *try, err error) error {
	if errors.Is(err, ErrFenced) || classify(err) == left {
		return err
	}
	rec := d.rec
	k := d.record(&rec, t, err, true)
	d.observe(Event{Kind: UndoFailed, Step: t.step.Name, Attempt: t.run.Attempt, Err: err, Took: t.took})
	if k == permanent || t.step.undoRetry.exhausted(rec.Tried) {
		return d.stick(ctx, rec, t.step, causeOf(t.step.Name, err))
	}
	if err := d.append(ctx, rec, t.step, max(rec.Left-1, 0), nil, false); err != nil {
		return err
	}
	d.rec = rec
	return d.wait(ctx, t, max(rec.Left-1, 0), t.step.undoRetry)
}

// endUndone ends the run after its last undo, in one write with it. last is nil if there was none.
func (d *drive) endUndone(ctx context.Context, last *try) error {
	t := last
	if t == nil {
		first := d.sh.Steps[0]
		first.undoRetry = Retry{}.withDefaults(DefaultUndoTries)
		t = d.newTry(&first, true)
	}
	now := time.Now()
	rec := d.rec
	rec.Phase, rec.Left, rec.Tried, rec.Lost, rec.Ended, rec.Since = Undone, 0, 0, 0, now.UnixMilli(), now.UnixMilli()
	if err := d.def.undone(t.run, rec.State, rec.Cause.export()); err != nil {
		return d.failUndo(ctx, t, fmt.Errorf("end: %w", err))
	}
	if err := d.append(ctx, rec, t.step, 0, t.staged, false); err != nil {
		if refused := (*RefusedError)(nil); errors.As(err, &refused) {
			return d.failUndo(ctx, t, refused.Err)
		}
		return err
	}
	d.rec = rec
	if last != nil {
		d.observe(Event{Kind: StepUndone, Step: t.step.Name, Attempt: t.run.Attempt, Took: t.took})
	}
	d.observe(Event{Kind: RunUndone, Err: rec.Cause.export(), Took: now.Sub(fromMilli(rec.Started))})
	return nil
}
