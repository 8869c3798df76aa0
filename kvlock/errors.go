package kvlock

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// What a caller branches on. The errors returned add the operand.
var (
	// ErrConflict: another operation holds or waits for a key. Read *ConflictError.
	ErrConflict = errors.New("claims conflict")
	// ErrExists: the owner has a record already. Read *ExistsError. For who repeats a request it is the answer: hence sure.
	ErrExists = kvtx.Sure(errors.New("operation exists"))
	// ErrNotFound: the owner has no record: it never had one, or ended longer ago than the retention.
	ErrNotFound = errors.New("operation not found")
	// ErrAdopted: another worker has taken the operation over, or it was broken; the grant is stale. Read *AdoptedError.
	ErrAdopted = errors.New("grant is stale: the operation was taken over")
	// ErrBehind: the record was saved with a copy of this grant. Read the record; do not save from old state.
	ErrBehind = errors.New("grant is behind the operation's record")
	// ErrApplied: this very change stands in the record already. A function given to an update returns it and stages
	// nothing: what belonged to the change was committed with it.
	ErrApplied = kvtx.Sure(errors.New("change was applied before"))
	// ErrEnded: the operation has ended and holds nothing.
	ErrEnded = errors.New("operation has ended")
	// ErrQueued: the operation still waits in line and holds nothing.
	ErrQueued = errors.New("operation waits in line")
	// ErrDeadline: the deadline of a wait has passed; the operation left its lines, or never stood in them.
	ErrDeadline = errors.New("the deadline of the wait has passed")
	// ErrStuck: the operation waits for a person; its locks are held on purpose.
	ErrStuck = errors.New("operation is stuck")
	// ErrVoid: the operation was broken.
	ErrVoid = errors.New("operation is void")
	// ErrEra: the grant was made before the stream was restored from a backup, or after it.
	ErrEra = errors.New("grant is of another era")
	// ErrInvalid: an argument that no state of the bucket would make right.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge: a record would grow past its stated size.
	ErrTooLarge = errors.New("too large")
	// ErrNewer: a record or grant was written by a newer release.
	ErrNewer = errors.New("written by a newer release")
	// ErrBroken: bytes that are not what their key says, or a lock entry whose operation is missing.
	ErrBroken = errors.New("broken record")
)

// Conflict says why one claim was refused.
type Conflict struct {
	Claim   Claim    // what was wanted
	Mode    Mode     // how the key is held; ModeNone if only a waiter conflicts
	Holders []Holder // who holds it, oldest first; empty if only a waiter conflicts
	Waiter  *Waiter  // the oldest waiter that conflicts, if the line has one
}

// ConflictError says which claims were refused, all of them, in order of their keys.
type ConflictError struct {
	Owner     string
	Conflicts []Conflict // at least one
}

// On returns the conflict on the key.
func (e *ConflictError) On(key string) (Conflict, bool) {
	for _, c := range e.Conflicts {
		if c.Claim.Key == key {
			return c, true
		}
	}
	return Conflict{}, false
}

// maxNamed is how many holders an error text names; all of them are in the error's fields.
const maxNamed = 3

// Error names the holders and the oldest waiter.
func (e *ConflictError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "operation %s: ", e.Owner)
	for i, c := range e.Conflicts {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s", c.Claim)
		if len(c.Holders) > 0 {
			fmt.Fprintf(&b, " conflicts with %s hold of", c.Mode)
		}
		for j, h := range c.Holders {
			if j == maxNamed {
				fmt.Fprintf(&b, " and %d more", len(c.Holders)-j)
				break
			}
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, " operation %s since %s", h.Owner, h.Since.UTC().Format(time.RFC3339))
		}
		if c.Waiter != nil {
			fmt.Fprintf(&b, " conflicts with operation %s, waiting for it %s since %s",
				c.Waiter.Owner, c.Waiter.Mode, c.Waiter.Since.UTC().Format(time.RFC3339))
		}
	}
	return b.String()
}

// Is makes the error match ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// ExistsError carries the record that the owner has. It matches ErrExists, and ErrEnded if the operation has ended.
type ExistsError struct{ Record Record }

// Error names the operation and its phase.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("operation %s exists already and is %s", e.Record.Owner, e.Record.Phase)
}

// Is makes the error match ErrEnded if the operation has ended.
func (e *ExistsError) Is(target error) bool { return target == ErrEnded && !e.Record.Live() }

// Unwrap makes the error match ErrExists.
func (e *ExistsError) Unwrap() error { return ErrExists }

// AdoptedError says who made a grant stale. It matches ErrAdopted; after a break it matches ErrVoid, too, and once the
// operation has ended, ErrEnded.
type AdoptedError struct {
	Epoch  uint64 // that the caller had
	Record Record // as it stands now
}

// Error names the successor.
func (e *AdoptedError) Error() string {
	if e.Record.Epoch < e.Epoch {
		return fmt.Sprintf("operation %s was changed before it was taken over: it is dispatched with number %d", e.Record.Owner, e.Record.Dispatch)
	}
	if e.Record.Phase == Void {
		return fmt.Sprintf("operation %s was broken: what was granted in epoch %d is stale", e.Record.Owner, e.Epoch)
	}
	return fmt.Sprintf("operation %s was taken over by worker %q: epoch %d, what was granted in epoch %d is stale",
		e.Record.Owner, e.Record.Worker, e.Record.Epoch, e.Epoch)
}

// Is makes the error match ErrAdopted and what the record says.
func (e *AdoptedError) Is(target error) bool {
	return target == ErrAdopted ||
		target == ErrVoid && e.Record.Phase == Void ||
		target == ErrEnded && !e.Record.Live()
}
