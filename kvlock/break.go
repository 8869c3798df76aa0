package kvlock

import (
	"context"
	"errors"
	"fmt"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// RaiseFence raises the fence at every resource that the operation may be writing: when it returns nil, no write with a
// lower fence can land any more. It may be called again with the same fence.
type RaiseFence func(ctx context.Context, r Record, f Fence) error

// NothingFenced is the RaiseFence of programs whose operations write nothing but the bucket.
func NothingFenced(context.Context, Record, Fence) error { return nil }

// Break takes a live operation's locks away from it, an operator's last resort: it writes the operation void with a
// higher epoch, then raises the fence to the revision of that write, and then removes the entries and ends the record in
// one commit. What fails is gone on with by calling it again: the revision of the first void write is used. The record
// keeps who was driving it and the reason. Void and StageBroken are the parts, for callers that have records of their
// own to change with it.
// Errors: ErrNotFound, ErrEnded if it ended otherwise, ErrQueued, and raise's own.
func (l *Locker) Break(ctx context.Context, owner, reason string, raise RaiseFence) error {
	if raise == nil {
		return fmt.Errorf("%w: a break of operation %s without a way to raise its fence", ErrInvalid, owner)
	}
	rec, err := l.Void(ctx, owner, reason)
	if err != nil {
		return err
	}
	if !rec.Live() {
		return nil
	}
	if err := raise(ctx, rec, rec.Fence()); err != nil {
		return fmt.Errorf("raise the fence of operation %s to %s: %w", owner, rec.Fence(), err)
	}
	broken, err := l.update(ctx, l.Keys(owner, rec.Claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return l.StageBroken(s, tx, rec, nil)
	})
	if errors.Is(err, ErrApplied) {
		return nil
	}
	if err != nil {
		return err
	}
	l.Observe(EventOf(Broken, broken))
	l.log.WarnContext(ctx, "operation broken", "operation", owner, "reason", reason, "fence", broken.Fence())
	return nil
}

// Void is the first part of a break: from the moment it returns no worker can write the operation's record, and nobody
// can take it over; its locks are still held. A repeated Void writes nothing and returns what it finds, also after the
// end of the break. The fence to raise is the record's.
func (l *Locker) Void(ctx context.Context, owner, reason string) (Record, error) {
	if err := errors.Join(checkOwner(owner), checkText("the reason of a break", reason, maxText)); err != nil {
		return Record{}, err
	}
	for range adoptTries {
		entry, err := l.store.Get(ctx, OwnerKey(owner))
		if err != nil {
			return Record{}, err
		}
		old, err := DecodeRecord(entry)
		if err != nil || old.Phase == Void {
			return old, err
		}
		if err := old.active(); err != nil {
			return old, err
		}
		next := old
		if err := next.move(Void); err != nil {
			return old, err
		}
		next.audit("break", reason, l.now())
		next.Phase = Void
		next.begin(l, "", "")
		rec, err := l.writeAlone(ctx, next, func(now Record) bool { return now.Phase == Void && now.Epoch == next.Epoch })
		if err == nil {
			l.Observe(EventOf(Voided, rec))
			l.log.WarnContext(ctx, "operation void", "operation", owner, "reason", reason, "fence", rec.Fence())
			return rec, nil
		}
		if !errors.Is(err, kvtx.ErrConflict) {
			return old, err
		}
	}
	return Record{}, fmt.Errorf("break operation %s: its record changed %d times meanwhile", owner, adoptTries)
}

// StageBroken stages the last part of a break, after the fence was raised: the entries are removed and the void record
// ends. rec is what Void returned. Read Keys(rec.Owner, rec.Claims...) for it.
// Errors: ErrNotFound; *AdoptedError if the record is not that void one; ErrApplied, with the record, if it was done.
func (l *Locker) StageBroken(s kvtx.Snapshot, tx *kvtx.Tx, rec Record, payload []byte) (Record, error) {
	now, err := read(s, rec.Owner)
	if err != nil {
		return now, err
	}
	if now.Phase != Void || now.Epoch != rec.Epoch || now.Fence() != rec.Fence() {
		return now, &AdoptedError{Epoch: rec.Epoch, Record: now}
	}
	if !now.Live() {
		return now, fmt.Errorf("%w: operation %s was broken", ErrApplied, rec.Owner)
	}
	if err := now.move(Void); err != nil {
		return now, err
	}
	if err := now.setPayload(payload); err != nil {
		return now, err
	}
	return l.stageLast(s, tx, now)
}
