package kvlock

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TryAcquire claims the keys for a new operation, all or none, and does not wait. The caller is its worker: the
// operation is Running in epoch 0. A repeated call with the same owner and claims returns the same grant, as long as
// nobody has taken the operation over.
// Errors: *ConflictError, *ExistsError, ErrTooLarge, ErrInvalid, ErrBroken, ErrNewer; kvtx.ErrBusy.
func (l *Locker) TryAcquire(ctx context.Context, owner string, payload []byte, claims ...Claim) (Grant, error) {
	norm, err := Normalize(claims)
	if err != nil {
		return Grant{}, err
	}
	rec, err := l.update(ctx, l.Keys(owner, norm...), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return l.stageAcquire(s, tx, Running, owner, payload, norm)
	}, kvtx.AssumeAbsent(OwnerKey(owner)), kvtx.Holds(len(payload)), kvtx.Yields())
	switch {
	case errors.Is(err, ErrExists) && rec.unadopted(norm):
		stands, err := l.stands(ctx, owner, rec.Revision)
		switch {
		case err != nil:
			return Grant{}, err
		case !stands:
			return l.TryAcquire(ctx, owner, payload, norm...)
		}
		return l.GrantOf(rec), nil
	case errors.Is(err, ErrExists):
		return Grant{}, &ExistsError{Record: rec}
	case errors.Is(err, ErrConflict):
		l.Observe(Event{Kind: Refused, Owner: owner, Err: err})
		return Grant{}, err
	case err != nil:
		return Grant{}, err
	}
	l.Observe(EventOf(Acquired, rec))
	l.log.DebugContext(ctx, "claims acquired", "operation", owner, "claims", norm)
	return l.GrantOf(rec), nil
}

// unadopted says whether the record is that of a client's own operation with these claims, of which a repeated call is told.
func (r Record) unadopted(norm []Claim) bool {
	return r.Live() && r.Epoch == 0 && slices.Equal(r.Claims, norm)
}

// stands says whether the owner's record is at the revision that was read, 0 if it was absent, by a commit that checks it. What a caller
// goes on with, and writes nothing that would tell, must not rest on a read alone: of a replicated stream a server may have answered it that
// was deposed and does not know it yet.
func (l *Locker) stands(ctx context.Context, owner string, at kvtx.Revision) (bool, error) {
	var tx kvtx.Tx
	tx.Check(OwnerKey(owner), at)
	_, err := l.store.Commit(ctx, &tx)
	if errors.Is(err, kvtx.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// Save writes the progress of the grant's worker and returns the grant to go on with. See StageSave.
func (l *Locker) Save(ctx context.Context, g Grant, phase Phase, payload []byte) (Grant, error) {
	rec, err := l.update(ctx, l.Keys(g.owner), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return l.stageSave(s, tx, g, phase, payload)
	}, kvtx.Holds(len(payload)))
	if err := l.stale(err); err != nil && !errors.Is(err, ErrApplied) {
		return g, err
	}
	return l.GrantOf(rec), nil
}

// End ends the grant's operation and removes its entries. Repeated, it is no error. See StageEnd.
func (l *Locker) End(ctx context.Context, g Grant, phase Phase, payload []byte) error {
	rec, err := l.update(ctx, l.Keys(g.owner, g.claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return l.stageEnd(s, tx, g, phase, payload)
	}, kvtx.Holds(len(payload)))
	return l.ended(ctx, rec, err)
}

// Release ends the grant's operation as it goes: Done, or Undone if it was Undoing. It is no error if the operation has
// ended in the grant's epoch. Errors: *AdoptedError if somebody took it over, ErrBehind, ErrStuck, ErrEra.
func (l *Locker) Release(ctx context.Context, g Grant) error {
	rec, err := l.update(ctx, l.Keys(g.owner, g.claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		now, err := l.current(s, g)
		if err != nil {
			return now, err
		}
		if !now.Live() {
			return now, fmt.Errorf("%w: %s", ErrApplied, g.owner)
		}
		if err := now.drivable(); err != nil {
			return now, err
		}
		if now.Phase == Undoing {
			return l.stageEnd(s, tx, g, Undone, nil)
		}
		return l.stageEnd(s, tx, g, Done, nil)
	})
	if errors.Is(err, ErrNotFound) {
		gone, err := l.stands(ctx, g.owner, 0)
		if err != nil || gone {
			return err // it ended longer ago than the retention
		}
		return l.Release(ctx, g)
	}
	return l.ended(ctx, rec, err)
}

// ended tells of an end and makes a repeated one no error.
func (l *Locker) ended(ctx context.Context, rec Record, err error) error {
	if errors.Is(err, ErrApplied) {
		return nil
	}
	if err != nil {
		return l.stale(err)
	}
	l.Observe(EventOf(Released, rec))
	l.log.DebugContext(ctx, "operation ended", "operation", rec.Owner, "phase", rec.Phase)
	return nil
}

// Cancel wishes that a live operation ends early; its worker decides what comes of it. Repeated, it is no error, and
// the first wish stands. Errors: ErrNotFound, ErrEnded, ErrVoid, ErrQueued.
func (l *Locker) Cancel(ctx context.Context, owner, who string) (Record, error) {
	rec, err := l.update(ctx, l.Keys(owner), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return l.StageCancel(s, tx, owner, who)
	})
	if errors.Is(err, ErrApplied) {
		return rec, nil
	}
	if err != nil {
		return rec, err
	}
	l.Observe(EventOf(Canceled, rec))
	l.log.DebugContext(ctx, "cancel wished", "operation", owner)
	return rec, nil
}

// Check reads the operation's record and says whether the grant is still the one of its epoch. Only a write decides:
// the answer may be old when it arrives. Errors: *AdoptedError, ErrEnded, ErrNotFound, ErrEra, all but the last with
// the record.
func (l *Locker) Check(ctx context.Context, g Grant) (Record, error) {
	rec, err := l.current(l.leader(ctx), g)
	if err != nil {
		return rec, err
	}
	if !rec.Live() {
		return rec, fmt.Errorf("%w: %s, %s", ErrEnded, rec.Owner, rec.Phase)
	}
	return rec, nil
}

// getter is a snapshot of one function.
type getter func(key string) (kvtx.Entry, error)

func (get getter) Get(key string) (kvtx.Entry, error) { return get(key) }

// leader reads each key from the leader when it is asked for.
func (l *Locker) leader(ctx context.Context) kvtx.Snapshot {
	return getter(func(key string) (kvtx.Entry, error) { return l.store.Get(ctx, key) })
}

// update runs a staged verb as a commit of its own and returns its record as it stands after it, or as it was found
// when the verb refused.
func (l *Locker) update(ctx context.Context, keys []string, stage func(kvtx.Snapshot, *kvtx.Tx) (Record, error), opts ...kvtx.UpdateOption) (Record, error) {
	var rec Record
	res, err := l.store.Update(ctx, keys, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		var err error
		rec, err = stage(s, tx)
		return err
	}, opts...)
	if err == nil {
		return l.Committed(rec, res), nil
	}
	if rec.Revision.Pending() { // found in the commit that was being made at the same moment: now it has its revision
		now, readErr := l.Record(ctx, rec.Owner)
		if readErr != nil {
			return rec, readErr
		}
		rec = now
	}
	return rec, err
}

// stale tells of a grant that was refused.
func (l *Locker) stale(err error) error {
	var adopted *AdoptedError
	if errors.As(err, &adopted) {
		l.Observe(Event{Kind: Overtaken, Owner: adopted.Record.Owner, Phase: adopted.Record.Phase, Epoch: adopted.Record.Epoch, Err: err})
	}
	return err
}
