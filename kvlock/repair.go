package kvlock

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Repair takes an operation out of a lock that it has no business in: it has ended, or has no record. That is a corruption, which no history of
// these verbs makes and which Verify names; it keeps others from the key for ever, and a person decides to mend it. Who waits for the key is
// let in as at an end. There is no record that could keep the reason, so it is logged.
// Errors: ErrNotFound if the lock does not name the operation; ErrInvalid if the operation lives: see Break; ErrBroken, ErrNewer.
func (l *Locker) Repair(ctx context.Context, key, owner, reason string) error {
	if err := errors.Join(checkOwner(owner), checkKey(key), checkText("the reason of a repair", reason, maxText)); err != nil {
		return err
	}
	_, err := l.update(ctx, l.Keys(owner, Exclusive(key)), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return l.stageRepair(s, tx, key, owner)
	})
	if err == nil {
		l.log.WarnContext(ctx, "lock repaired: it named an operation that does not live", "key", key, "operation", owner, "reason", reason)
	}
	return err
}

func (l *Locker) stageRepair(s kvtx.Snapshot, tx *kvtx.Tx, key, owner string) (Record, error) {
	rec, err := read(s, owner) // what was found absent, the commit checks by itself
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return rec, err
	case rec.Live():
		return rec, fmt.Errorf("%w: repair of the lock of operation %s, which is %s", ErrInvalid, owner, rec.Phase)
	default:
		tx.Check(OwnerKey(owner), rec.Revision) // the ID may have been used again since this was read
	}
	h := l.handover(s)
	lk := h.lock(key)
	if lk == nil {
		return rec, h.err
	}
	waited := len(lk.Line)
	lk.Line = slices.DeleteFunc(lk.Line, func(w Waiter) bool { return w.Owner == owner })
	if held := lk.remove(owner); !held && len(lk.Line) == waited {
		return rec, kvtx.Sure(fmt.Errorf("%w: key %s is not held or waited for by operation %s", ErrNotFound, key, owner))
	}
	h.write(lk)
	h.run(key)
	return rec, h.stage(tx, false)
}
