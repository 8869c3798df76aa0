package kvlock

import (
	"fmt"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Largest sizes of the records; a write beyond is refused with ErrTooLarge, never cut.
const (
	// MaxHolders is how many operations may share one key.
	MaxHolders = 4096
	// MaxWaiters is how many operations may wait for one key.
	MaxWaiters = 256
	// MaxOwnerRecord is the size of an owner record with its payload, in bytes.
	MaxOwnerRecord = 256 << 10
)

// Holder is one operation that holds a key.
type Holder struct {
	Owner string
	Since time.Time
}

// Waiter is one operation that waits for a key.
type Waiter struct {
	Owner    string
	Mode     Mode
	Since    time.Time
	Deadline time.Time // zero: waits for as long as it takes
}

// Lock is the state of one key.
type Lock struct {
	Key string
	// Mode is how the holders hold it.
	// Invariant: ModeNone exactly if there are no holders; ModeExclusive only with one.
	Mode Mode
	// Holders is a set: each owner once, oldest first. The number of readers is its length; there is no counter,
	// because taking one's own ID out of a set may be repeated after a lost reply and a decrement may not.
	Holders []Holder
	// Line holds the operations that wait, in the order of their commits.
	Line []Waiter
	// Revision is that of the entry read: 0 or the marker's if nobody holds the key or waits for it.
	Revision kvtx.Revision
}

// LockKey is the key of the record that says who holds the key.
func LockKey(key string) string { return lockPrefix + key }

const (
	lockPrefix  = "lock."
	ownerPrefix = "op."
)

type lockFields struct {
	Mode    uint8          `msgpack:"m"`
	Holders []holderFields `msgpack:"h"`
	Line    []waiterFields `msgpack:"l,omitempty"`
}

type holderFields struct {
	Owner string `msgpack:"o"`
	Since int64  `msgpack:"s"`
}

type waiterFields struct {
	Owner    string `msgpack:"o"`
	Mode     uint8  `msgpack:"m"`
	Since    int64  `msgpack:"s"`
	Deadline int64  `msgpack:"d,omitempty"`
}

// DecodeLock reads a lock record. An absent entry is a free key, and no error. Errors: ErrNewer and ErrBroken with the
// key alone, ErrInvalid.
func DecodeLock(e kvtx.Entry) (Lock, error) {
	if len(e.Key) <= len(lockPrefix) || e.Key[:len(lockPrefix)] != lockPrefix {
		return Lock{}, fmt.Errorf("%w: %q is not the key of a lock", ErrInvalid, e.Key)
	}
	l := Lock{Key: e.Key[len(lockPrefix):], Revision: e.Revision}
	if !e.Exists {
		return l, nil
	}
	var f lockFields
	if err := decode(kindLock, e.Value, &f); err != nil {
		return l, fmt.Errorf("%s: %w", e.Key, err)
	}
	l.Mode = Mode(f.Mode)
	if len(f.Holders) > 0 {
		l.Holders = make([]Holder, len(f.Holders), len(f.Holders)+1)
	}
	for i, h := range f.Holders {
		l.Holders[i] = Holder{Owner: h.Owner, Since: fromMillis(h.Since)}
	}
	for _, w := range f.Line {
		l.Line = append(l.Line, Waiter{
			Owner: w.Owner, Mode: Mode(w.Mode), Since: fromMillis(w.Since), Deadline: fromMillis(w.Deadline),
		})
	}
	if err := l.check(); err != nil {
		return l, fmt.Errorf("%w: %s: %v", ErrBroken, e.Key, err)
	}
	return l, nil
}

// check holds the invariants of a lock that was read.
func (l *Lock) check() error {
	switch {
	case l.Mode > ModeExclusive:
		return fmt.Errorf("unknown mode %d", l.Mode)
	case (l.Mode == ModeNone) != (len(l.Holders) == 0):
		return fmt.Errorf("%d holders of a lock that is %s", len(l.Holders), l.Mode)
	case l.Mode == ModeExclusive && len(l.Holders) > 1:
		return fmt.Errorf("%d exclusive holders", len(l.Holders))
	}
	for _, w := range l.Line {
		if w.Mode != ModeShared && w.Mode != ModeExclusive {
			return fmt.Errorf("unknown mode %d of waiter %q", w.Mode, w.Owner)
		}
	}
	return nil
}

// encode returns the record's value. Errors: ErrTooLarge.
func (l *Lock) encode() ([]byte, error) {
	if n := len(l.Holders); n > MaxHolders {
		return nil, fmt.Errorf("%w: key %s would have %d holders, at most %d are allowed", ErrTooLarge, l.Key, n, MaxHolders)
	}
	if n := len(l.Line); n > MaxWaiters {
		return nil, fmt.Errorf("%w: %d operations would wait for key %s, at most %d are allowed", ErrTooLarge, n, l.Key, MaxWaiters)
	}
	f := lockFields{Mode: uint8(l.Mode), Holders: make([]holderFields, len(l.Holders))}
	for i, h := range l.Holders {
		f.Holders[i] = holderFields{Owner: h.Owner, Since: toMillis(h.Since)}
	}
	for _, w := range l.Line {
		f.Line = append(f.Line, waiterFields{
			Owner: w.Owner, Mode: uint8(w.Mode), Since: toMillis(w.Since), Deadline: toMillis(w.Deadline),
		})
	}
	return encode(kindLock, &f)
}

// Holds says whether the owner holds the key.
func (l *Lock) Holds(owner string) bool {
	return slices.ContainsFunc(l.Holders, func(h Holder) bool { return h.Owner == owner })
}

// conflict says what refuses the claim: holders whose mode conflicts, or a waiter that conflicts. Every waiter is older
// than the claim; passing it would starve it.
func (l *Lock) conflict(c Claim) (Conflict, bool) {
	out := Conflict{Claim: c}
	if c.Mode.conflicts(l.Mode) {
		out.Mode = l.Mode
		out.Holders = slices.Clone(l.Holders)
	}
	for _, w := range l.Line {
		if c.Mode.conflicts(w.Mode) {
			out.Waiter = &w
			break
		}
	}
	return out, len(out.Holders) > 0 || out.Waiter != nil
}

// add lets the owner in. The caller has made sure that nothing conflicts.
func (l *Lock) add(owner string, mode Mode, since time.Time) {
	l.Mode = max(l.Mode, mode)
	l.Holders = append(l.Holders, Holder{Owner: owner, Since: since})
}

// remove takes the owner's own ID out of the holders, and nobody else's. It says whether the ID was there.
func (l *Lock) remove(owner string) bool {
	n := len(l.Holders)
	l.Holders = slices.DeleteFunc(l.Holders, func(h Holder) bool { return h.Owner == owner })
	if len(l.Holders) == 0 {
		l.Mode = ModeNone
	}
	return len(l.Holders) < n
}

// stage writes the lock, or deletes its record when nobody holds the key or waits for it.
func (l *Lock) stage(tx *kvtx.Tx) error {
	switch {
	case len(l.Holders) > 0 || len(l.Line) > 0:
	case l.Revision == 0: // It was read before, or after, those whose entries were taken out of it had any: the commit depends on it.
		tx.Check(LockKey(l.Key), 0)
		return nil
	default:
		tx.Delete(LockKey(l.Key), l.Revision)
		return nil
	}
	value, err := l.encode()
	if err != nil {
		return err
	}
	tx.Put(LockKey(l.Key), value, l.Revision)
	return nil
}
