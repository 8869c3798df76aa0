package saga

import (
	"fmt"
	"slices"
	"time"
)

// Resumed makes the record of a stuck run that goes on where it got stuck, with all tries before it. It is
// pure, for Journal.Resume. ErrNotStuck, ErrFormat.
func Resumed(b []byte) (Entry, error) {
	rec, err := decodeStuck(b)
	if err != nil {
		return Entry{}, err
	}
	rec.Phase, rec.From, rec.Stuck, rec.Tried, rec.Since = rec.From, Pending, nil, 0, time.Now().UnixMilli()
	rec.released()
	return rec.entry()
}

// rewind makes the record of a stuck run that goes forward again from a step that it had come to.
func rewind(b []byte, sh *Shape, step string) (Entry, error) {
	rec, err := decodeStuck(b)
	if err != nil {
		return Entry{}, err
	}
	reached := rec.Step
	if rec.From == Undoing {
		reached = rec.Left
	}
	i := slices.IndexFunc(sh.Steps, func(s StepShape) bool { return s.Name == step })
	switch {
	case i < 0:
		return Entry{}, fmt.Errorf("saga %s version %d has no step %s", rec.Name, rec.Version, step)
	case i > reached:
		return Entry{}, fmt.Errorf("the run has not come to step %s", step)
	}
	rec.Phase, rec.From, rec.Step, rec.Left, rec.Cause, rec.Stuck = Running, Pending, i, 0, nil, nil
	rec.At, rec.Past, rec.Unknown, rec.Tried, rec.Since = step, sh.Steps[i].Past, false, 0, time.Now().UnixMilli()
	rec.Begun = sh.Steps[i].Intent // it may have begun: Run.Again
	rec.released()
	return rec.entry()
}

func decodeStuck(b []byte) (record, error) {
	if len(b) == 0 {
		return record{}, ErrNotStuck
	}
	rec, err := decodeRecord(b)
	if err == nil && rec.Phase != Stuck {
		return record{}, fmt.Errorf("%w: it is %s", ErrNotStuck, rec.Phase)
	}
	return rec, err
}

func (r *record) entry() (Entry, error) {
	b, err := r.encode()
	return Entry{Record: b, Phase: r.Phase}, err
}
