package kvlock

import (
	"context"
	"errors"
	"fmt"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// adoptTries bounds how often a take-over begins anew because others (a cancel, a dispatch) wrote the record.
const adoptTries = 16

// Adopt takes an operation over for a worker: the epoch rises by one, and every earlier grant is stale. It is one write
// of one message, and no lock is touched. token names this attempt and no other, such as an ID made for the delivery: it
// decides after a lost answer whether the take-over was this one, and a repeated Adopt with the same token returns the
// same grant. If the grant's epoch is not 1, the caller raises the fence at the resource before it looks at it.
// Errors: ErrNotFound, ErrEnded, ErrQueued, ErrVoid, ErrStuck, all but the first with the record; *AdoptedError if
// another worker took it over at the same moment.
func (l *Locker) Adopt(ctx context.Context, owner, worker, token string) (Grant, Record, error) {
	if err := errors.Join(checkOwner(owner), checkWorker(worker, token)); err != nil {
		return Grant{}, Record{}, err
	}
	if rec, ok := l.adoptKnown(ctx, owner, worker, token); ok {
		return l.adopted(ctx, rec)
	}
	var epoch uint64 // before the first try
	for try := range adoptTries {
		entry, err := l.store.Get(ctx, OwnerKey(owner))
		if err != nil {
			return Grant{}, Record{}, err
		}
		old, err := DecodeRecord(entry)
		if err != nil {
			return Grant{}, old, err
		}
		if try == 0 {
			epoch = old.Epoch
		}
		next, err := l.takeOver(old, worker, token)
		if errors.Is(err, ErrApplied) {
			return l.GrantOf(old), old, nil
		}
		if err == nil && old.Epoch != epoch {
			err = &AdoptedError{Epoch: epoch, Record: old}
		}
		if err != nil {
			return Grant{}, old, err
		}
		rec, err := l.writeAdopted(ctx, next)
		if err == nil {
			return l.adopted(ctx, rec)
		}
		if !errors.Is(err, kvtx.ErrConflict) {
			return Grant{}, old, err
		}
	}
	return Grant{}, Record{}, fmt.Errorf("take over operation %s: its record changed %d times meanwhile", owner, adoptTries)
}

// adoptKnown tries the take-over on the record as this process knows it, which is the rule where the process that accepted
// the operation also runs it: that saves the read. The write expects the revision, so a record that is out of date decides
// nothing, and neither does any error: then the record is read.
func (l *Locker) adoptKnown(ctx context.Context, owner, worker, token string) (Record, bool) {
	entry, ok := l.store.Cached(ctx, OwnerKey(owner))
	if !ok {
		return Record{}, false
	}
	old, err := DecodeRecord(entry)
	if err != nil {
		return Record{}, false
	}
	next, err := l.takeOver(old, worker, token)
	if err != nil {
		return Record{}, false
	}
	rec, err := l.writeAdopted(ctx, next)
	return rec, err == nil
}

// writeAdopted writes the record of a take-over; the token recognizes it after a lost answer.
func (l *Locker) writeAdopted(ctx context.Context, next Record) (Record, error) {
	return l.writeAlone(ctx, next, func(now Record) bool { return now.Epoch == next.Epoch && now.Token == next.Token })
}

func (l *Locker) adopted(ctx context.Context, rec Record) (Grant, Record, error) {
	l.Observe(EventOf(Adopted, rec))
	l.log.DebugContext(ctx, "operation taken over", "operation", rec.Owner, "epoch", rec.Epoch, "fence", rec.Fence())
	return l.GrantOf(rec), rec, nil
}

// StageAdopt stages a take-over into a commit of the caller's own; Adopt without one costs less. Read Keys(owner) for it.
// The grant is GrantOf(Committed(record, result)). Errors: as Adopt's; ErrApplied, with the record, if this token took
// it over before.
func (l *Locker) StageAdopt(s kvtx.Snapshot, tx *kvtx.Tx, owner, worker, token string) (Record, error) {
	if err := checkWorker(worker, token); err != nil {
		return Record{}, err
	}
	old, err := read(s, owner)
	if err != nil {
		return old, err
	}
	if old.FenceRev == 0 {
		// The write that began the epoch is in this very commit. Both would become one message, and two epochs have
		// one fence.
		return old, &AdoptedError{Epoch: old.Epoch, Record: old}
	}
	next, err := l.takeOver(old, worker, token)
	if err != nil {
		return old, err
	}
	return next, next.stage(tx)
}

// Intend returns the grant of a take-over that is not made yet: the first StageSave or StageEnd with it, or the verb of that name, makes
// it, in the same write. It saves a commit where the first thing that a worker does is a save. Until then the grant has no fence, and the
// worker may neither touch a resource nor rely on what it looked at. rec is an operation that nobody has taken over: there is no earlier
// worker whose writes could still land. If another worker comes first, or is told to, the save is refused with *AdoptedError.
// Errors: ErrEnded, ErrQueued, ErrVoid, ErrStuck; ErrInvalid if it was taken over before, or granted in another era.
func (l *Locker) Intend(rec Record, worker, token string) (Grant, error) {
	if err := checkWorker(worker, token); err != nil {
		return Grant{}, err
	}
	if err := rec.drivable(); err != nil {
		return Grant{}, err
	}
	if rec.Epoch != 0 || rec.Phase != Granted || rec.Revision.Pending() || rec.Era != l.era {
		return Grant{}, fmt.Errorf("%w: operation %s is %s in epoch %d of era %d: it is taken over with Adopt", ErrInvalid, rec.Owner, rec.Phase, rec.Epoch, rec.Era)
	}
	g := l.GrantOf(rec)
	g.epoch++
	g.intent = &intent{worker: worker, token: token, dispatch: rec.Dispatch}
	return g, nil
}

// intended returns the record of an intended grant's operation with its take-over in it, or as it stands if that was made.
func (l *Locker) intended(rec Record, g Grant) (Record, error) {
	if rec.Epoch == g.epoch && rec.Token == g.intent.token {
		return rec, nil
	}
	// The fence tells apart the records of two operations with one ID, of which the first expired.
	// Workers were told of it again: the take-over is for whoever got the higher number.
	if rec.Epoch != g.epoch-1 || rec.FenceRev == 0 || rec.Fence() != g.fence || rec.Dispatch != g.intent.dispatch {
		return rec, &AdoptedError{Epoch: g.epoch, Record: rec}
	}
	return l.takeOver(rec, g.intent.worker, g.intent.token)
}

// takeOver returns the record with its next epoch, or why it cannot begin.
func (l *Locker) takeOver(old Record, worker, token string) (Record, error) {
	if err := old.drivable(); err != nil {
		return old, err
	}
	if old.Token == token {
		return old, fmt.Errorf("%w: operation %s was taken over with this token", ErrApplied, old.Owner)
	}
	next := old
	next.begin(l, worker, token)
	if next.Phase == Granted {
		next.Phase = Running
	}
	return next, nil
}

// begin begins the next epoch. The write that says so cannot know its own revision: see Record.FenceRev.
func (r *Record) begin(l *Locker, worker, token string) {
	r.Epoch++
	r.FenceRev = 0
	r.Era = l.era
	if r.Worker != "" && worker != "" && worker != r.Worker {
		r.TakenOver++
	}
	r.Worker = worker
	r.Token = token
	r.Adopted = l.now()
}

// writeAlone commits a record as one single-message write; applied recognizes it after a lost answer, also when
// somebody else wrote the record since. It returns the record as it stands. Errors: kvtx's.
func (l *Locker) writeAlone(ctx context.Context, rec Record, applied func(now Record) bool) (Record, error) {
	var tx kvtx.Tx
	if err := rec.stage(&tx); err != nil {
		return rec, err
	}
	var found *Record
	tx.Prove(func(e kvtx.Entry) bool {
		found = nil
		now, err := DecodeRecord(e)
		if err != nil || !applied(now) {
			return false
		}
		found = &now
		return true
	})
	res, err := l.store.Commit(ctx, &tx)
	if err != nil {
		return rec, err
	}
	if found != nil {
		return *found, nil
	}
	return l.Committed(rec, res), nil
}

func checkWorker(worker, token string) error {
	for _, f := range [...]struct{ what, value string }{{"worker", worker}, {"token", token}} {
		if f.value == "" {
			return fmt.Errorf("%w: a take-over without a %s", ErrInvalid, f.what)
		}
		if err := checkText(f.what, f.value, maxName); err != nil {
			return err
		}
	}
	return nil
}
