package saga

import (
	"errors"
	"fmt"
)

var (
	// ErrFenced says that somebody else took the run over (or broke it): this worker stops, at once.
	ErrFenced = errors.New("the run was taken over")

	// ErrParked says that this executor lacks the definition or version that the run began with.
	ErrParked = errors.New("the run waits for a node that has its definition")

	// ErrLeft says that a step left the run to somebody else, see Leave.
	ErrLeft = errors.New("the run was left to another")

	// ErrNotFound says that the journal knows no such run.
	ErrNotFound = errors.New("no such run")

	// ErrExists says that the journal has a run of this ID already.
	ErrExists = errors.New("the run exists")

	// ErrEnded says that the run is over.
	ErrEnded = errors.New("the run has ended")

	// ErrStuck says that the run waits for a person.
	ErrStuck = errors.New("the run is stuck")

	// ErrNotStuck says that there is nothing to resume by hand.
	ErrNotStuck = errors.New("the run is not stuck")

	// ErrUndone says that the run ended undone.
	ErrUndone = errors.New("the run was undone")

	// ErrCanceled is the cause of a run that was undone on request. A Log also answers it, with nothing
	// written, to an entry that heeds cancel requests.
	ErrCanceled = errors.New("canceled on request")

	// ErrPivot says that a cancel request came too late.
	ErrPivot = errors.New("the run is past the point of no return")

	// ErrFormat says that a record was written by a newer release, or is no record.
	ErrFormat = errors.New("unreadable journal record")

	errNothing = errors.New("nothing to undo")
)

// mark wraps an error with what the executor is to do about it.
type mark struct {
	kind kind
	err  error
}

type kind uint8

const (
	transient kind = iota // try again
	permanent
	unknown
	left
)

func (k kind) String() string {
	switch k {
	case transient:
		return "retry"
	case permanent:
		return "permanent"
	case unknown:
		return "unknown"
	case left:
		return "left"
	}
	return "?"
}

func (m *mark) Error() string { return m.err.Error() }
func (m *mark) Unwrap() error { return m.err }

func (m *mark) Is(target error) bool { return m.kind == left && target == ErrLeft }

func wrap(k kind, err error) error {
	if err == nil {
		return nil
	}
	return &mark{kind: k, err: err}
}

// Permanent marks an error that trying again will not heal. Nil stays nil.
func Permanent(err error) error { return wrap(permanent, err) }

// Unknown marks an error after which the step cannot tell whether it took effect. It outweighs Permanent
// inside or around it. Nil stays nil.
func Unknown(err error) error { return wrap(unknown, err) }

// Leave makes the executor stop driving the run without writing anything: the run was, or will be, handed
// elsewhere. It matches ErrLeft. Nil stays nil.
func Leave(err error) error { return wrap(left, err) }

// IsPermanent says whether err is marked Permanent (and not Unknown).
func IsPermanent(err error) bool { return classify(err) == permanent }

// IsUnknown says whether err is marked Unknown.
func IsUnknown(err error) bool { return classify(err) == unknown }

// classify finds the strongest mark in the tree of err: left, then unknown, then permanent.
func classify(err error) kind {
	k := transient
	walk(err, func(e error) {
		if m, ok := e.(*mark); ok && m.kind > k { //nolint:errorlint // walk visits what is wrapped
			k = m.kind
		}
	})
	return k
}

func walk(err error, visit func(error)) {
	for err != nil {
		visit(err)
		switch u := err.(type) { //nolint:errorlint // this is what unwraps
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e, visit)
			}
			return
		default:
			return
		}
	}
}

// Coded gives an error a code that is kept in the record, so that the cause of an undone run can be told
// apart after a crash too. Nil stays nil.
func Coded(code string, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code: code, err: err}
}

type codedError struct {
	code string
	err  error
}

func (c *codedError) Error() string { return c.err.Error() }
func (c *codedError) Unwrap() error { return c.err }

// RefusedError is what a Log answers if a staged write refused: nothing was committed, and Err is taken as
// the result of the step.
type RefusedError struct{ Err error }

func (r *RefusedError) Error() string { return fmt.Sprintf("a staged write refused: %v", r.Err) }
func (r *RefusedError) Unwrap() error { return r.Err }

// Cause says why a run was undone or got stuck, in a form that survives in the record.
type Cause struct {
	Step    string // empty if no step is to blame
	Code    string // of Coded
	Message string // cut to MaxError bytes
	Cancel  bool   // somebody asked for it
}

func (c *Cause) Error() string {
	if c.Step == "" {
		return c.Message
	}
	return c.Step + ": " + c.Message
}

// Is makes the cause of a canceled run match ErrCanceled.
func (c *Cause) Is(target error) bool { return c.Cancel && target == ErrCanceled }

// UndoneError says that a run ended undone, and why. It matches ErrUndone and, if that was the cause, ErrCanceled.
type UndoneError struct {
	ID    ID
	Cause *Cause
}

func (e *UndoneError) Error() string        { return fmt.Sprintf("run %s was undone: %v", e.ID, e.Cause) }
func (e *UndoneError) Is(target error) bool { return target == ErrUndone }
func (e *UndoneError) Unwrap() error        { return e.Cause }

// StuckError says that a run waits for a person, and why. It matches ErrStuck.
type StuckError struct {
	ID    ID
	Step  string
	Cause *Cause
}

func (e *StuckError) Error() string {
	return fmt.Sprintf("run %s is stuck at step %s: %v", e.ID, e.Step, e.Cause)
}
func (e *StuckError) Is(target error) bool { return target == ErrStuck }
func (e *StuckError) Unwrap() error        { return e.Cause }
