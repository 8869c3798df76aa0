// Package saga runs operations that consist of steps, so that each ends done, undone, or stuck and
// visible, whoever dies in between.
//
// # Nouns
//
// A [Definition] is a named, numbered list of steps over a typed state. A [Step] does one thing to one
// system (Do) and knows how to take it back (Undo). A [Run] is one execution of a definition, known by its
// [ID]. The [Journal] keeps one folded record of each run: the state, how far it came, its last tries with
// their errors, and whether somebody asked to cancel it. A [Log] is one worker's hold of one run: whoever
// takes the run over gets a new one, with a higher epoch and [Fence], and all older ones answer [ErrFenced].
// The pivot is the step after whose success nothing is undone. An [Executor] drives runs.
//
// # Invariants
//
//  1. Do and Undo run at least once: a crash, a lost answer or a take-over repeats them. Both must be
//     idempotent by name: the name is in the state before the thing is in the world.
//  2. Undo runs for every step whose Do began or may have begun, last first, the failed one included.
//  3. What a Do that failed wrote to the state is thrown away, and so is what it staged.
//  4. After the pivot nothing is undone: later steps are tried until they succeed, or the run is stuck.
//  5. Writes staged in a step are committed together with its completion, exactly once; those staged by the
//     hooks Done and Undone together with the end.
//  6. A step that said [Unknown] is asked again or checked, and is never undone before it is known whether
//     it took effect: if that cannot be found out, the run is stuck.
//  7. The end of a context stops driving and undoes nothing. Only a cancel request, seen before the pivot,
//     or a step that failed for good undoes.
//  8. A run goes on with the version of the definition that it began with. If the executor does not have
//     it, the run is parked ([ErrParked]): nothing is written, and an executor that has it may take it.
//  9. Stuck is a phase of the record, seen by [Fold], with an event; it is left only by a person's request.
//
// Furthermore: a run of k steps that meets no fault costs k journal writes (plus one for each step with
// Intent); the completion of the last step and the end are one write. A journal that answers ErrFenced stops
// the run at once: nothing more is written or undone by this worker. A record has a bound: a state of at
// most [MaxState], the last [MaxAttempts] failed tries, errors cut to [MaxError] bytes.
//
// # What it does not do
//
// It does not lock, dispatch or schedule: somebody hands it a run. It does not keep two workers' effects
// apart: a step passes the fence on to what it changes. It knows no NATS and no metrics library: journals
// and observers live in packages of their own.
package saga

import (
	"cmp"
	"context"
	"log/slog"
	"time"
)

// ID names a run. It is also the idempotency key: a second Exec with the same ID is the same run.
type ID string

// Fence orders the workers of a run: a resource that a step writes refuses a lower fence than it has seen.
type Fence struct {
	Era uint64 // raised when the journal was restored from a backup
	Rev uint64 // rises with each take-over within an era
}

// Compare orders fences by era, then revision.
func (f Fence) Compare(g Fence) int {
	if c := cmp.Compare(f.Era, g.Era); c != 0 {
		return c
	}
	return cmp.Compare(f.Rev, g.Rev)
}

// Less says whether f is older than g.
func (f Fence) Less(g Fence) bool { return f.Compare(g) < 0 }

// Write is a change that a step stages, to be committed with its completion. What it may be, the journal
// in use says; the executor only carries it.
type Write any

// Definition is a saga: what an operation of this name and version does.
//
// S is the state: it is encoded with msgpack after every step, so it has explicit msgpack tags, holds plain
// data, and stays under MaxState. Change the steps or the state in a way that a run under way would not
// survive, and the version must rise while the old definition stays registered until its runs have ended.
type Definition[S any] struct {
	Name    string // a token: [A-Za-z0-9_.-]{1,64}
	Version int    // from 1
	Steps   []Step[S]

	// Done stages what is committed together with the end of a run that succeeded. It may be called several
	// times and changes nothing by itself. An error counts as a failure of the last step.
	Done func(run Run, s S) error

	// Undone stages what is committed together with the end of a run that was undone. The cause is a *Cause.
	// It may be called several times. An error is retried as a failed undo is.
	Undone func(run Run, s S, cause error) error
}

// Step is one thing done to one system.
type Step[S any] struct {
	Name string // a token, unique in its definition

	// Do does the thing. Changes to s are kept if it returns nil. It may be called again after any end.
	Do func(ctx context.Context, run Run, s *S) error

	// Undo takes the thing back. It copes with nothing, half and all of it being there. Nothing[S] if Do
	// changes nothing outside of s. Nil only for the pivot (which then is never undone, see Pivot) and,
	// necessarily, for the steps after it. The state is that of the last completed step.
	Undo func(ctx context.Context, run Run, s S) error

	// Check finds out whether a Do that said Unknown took effect, and fills s as Do would have. An error
	// means that it is still not known. Without Check, Do itself is asked again.
	Check func(ctx context.Context, run Run, s *S) (done bool, err error)

	Retry     Retry         // of Do and Check
	UndoRetry Retry         // of Undo
	Timeout   time.Duration // of one try of Do, Undo or Check; zero: none. The function must heed its context.

	// Pivot marks the step after whose success nothing is undone; at most one in a definition. A pivot
	// without Undo says Unknown unless it knows that nothing took effect: a plain error or Permanent from it
	// undoes the steps before it. A try of it that ran into its time-out counts as Unknown, and if an
	// earlier worker may have begun it, a cancel request waits for its answer.
	Pivot bool

	// Records says that the first try of Do changes nothing outside of its state: it only stages writes, and looks at most at what no
	// earlier worker of the run can have written. It needs no fence, so Run.Fence may be zero in it, and in the first step of a
	// definition its completion may be the same write as the take-over.
	Records bool

	// Intent journals that the step begins before Do is called (one more write). Run.Again is then exact
	// over crashes: a destructive step uses it to prove first that no earlier try still lives.
	Intent bool
}

// Nothing is the Undo of a step that changes nothing outside of its state. It costs no journal write.
func Nothing[S any](context.Context, Run, S) error { return errNothing }

// Run is what a step is told about the run that it belongs to.
type Run struct {
	ID         ID
	Definition string
	Version    int
	Step       string
	Attempt    int    // counts the tries of this step, from 1, those that were lost in crashes too
	Again      bool   // an earlier try of this step may have begun, here or at an earlier worker
	Epoch      uint64 // counts the take-overs of the run
	Fence      Fence
	Log        *slog.Logger

	// Progress tells observers how far a long step is. It is cheap to call often.
	Progress func(done, total int64, unit string)

	// Waiting tells observers in words what the step waits for, such as "waits since 3s for the backend"; "": for nothing any more. Like
	// Progress it is called from the goroutine of the step.
	Waiting func(why string)

	// Stage adds a write to those that are committed with the completion of this step (or undo, or end).
	Stage func(Write)
}
