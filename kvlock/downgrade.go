package kvlock

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// StageDowngrade stages that the grant's operation holds the keys shared from now on, which it holds exclusively, and lets in the readers
// that wait for them: for work whose first part writes and whose second one only reads. There is no way back. It is a save: a payload
// of nil keeps the one that is there. Read Keys(g.Owner(), g.Claims()...); go on with GrantOf(Committed(record, result)).
// Errors: as StageSave's; ErrInvalid for a key that the operation does not hold exclusively.
func (l *Locker) StageDowngrade(s kvtx.Snapshot, tx *kvtx.Tx, g Grant, payload []byte, keys ...string) (Record, error) {
	now, err := l.current(s, g)
	if err != nil {
		return now, err
	}
	rec, err := l.progress(s, g, now.Phase, payload)
	if err != nil {
		return rec, err
	}
	rec.Claims = slices.Clone(rec.Claims)
	h := l.handover(s)
	for _, key := range keys {
		i := slices.Index(rec.Claims, Exclusive(key))
		if i < 0 {
			return rec, fmt.Errorf("%w: operation %s does not hold key %s exclusively", ErrInvalid, rec.Owner, key)
		}
		rec.Claims[i] = Shared(key)
		lk := h.lock(key)
		if lk == nil {
			return rec, h.err
		}
		if lk.Mode != ModeExclusive || !lk.Holds(rec.Owner) {
			return rec, kvtx.Sure(fmt.Errorf("%w: %s is %s and does not name operation %s", ErrBroken, LockKey(key), lk.Mode, rec.Owner))
		}
		lk.Mode = ModeShared
		h.write(lk)
	}
	h.run(keys...)
	return rec, h.stageWith(tx, &rec)
}

// Downgrade is StageDowngrade as a commit of its own. It returns the grant to go on with.
func (l *Locker) Downgrade(ctx context.Context, g Grant, keys ...string) (Grant, error) {
	rec, err := l.update(ctx, l.Keys(g.owner, g.claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return l.StageDowngrade(s, tx, g, nil, keys...)
	})
	shared := func(key string) bool { return slices.Contains(rec.Claims, Shared(key)) }
	if errors.Is(err, ErrApplied) && !slices.ContainsFunc(keys, func(key string) bool { return !shared(key) }) {
		return l.GrantOf(rec), nil
	}
	if err := l.stale(err); err != nil {
		return g, err
	}
	return l.GrantOf(rec), nil
}
