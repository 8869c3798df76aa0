package admit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// Fences raises the fences of void operations at their backends.
type Fences interface {
	// RaiseFence returns nil when nothing of the operation lands on the backend any more. It may be repeated.
	RaiseFence(ctx context.Context, backend string, id block.OperationID) error
}

// WithFences says how fences are raised; without it locks cannot be broken.
func WithFences(f Fences) Option { return func(a *Admitter) { a.fences = f } }

// Break asks that a lock is taken away from the operation that holds it.
type Break struct {
	// Keys of one resource, of which the operation holds at least one.
	Keys []string
	// Operation says which one, where several hold them.
	Operation block.OperationID
	Reason    string
	// Force: also from an operation that runs, or is about to.
	Force bool
}

// Break takes all locks away from the operation that holds one of the keys, an operator's last resort. The operation becomes void, so that
// nobody goes on with it; its fence is raised at the backend, so that its worker writes nothing there any more; then its locks are given to
// who waits for them, and what it worked on becomes an error that names the reason, in one commit. The record keeps who did it and why.
//
// Where the fence cannot be raised the locks stay held. Break goes on from there when it is called again; Abandon ends it without a fence.
//
// A lock that names an operation which has ended, or has no record, is a corruption: it is mended, and the log tells of it.
func (a *Admitter) Break(ctx context.Context, c Caller, b Break) (block.OperationID, error) {
	if err := checkReason(b.Reason, "the lock is broken"); err != nil {
		return "", err
	}
	if a.fences == nil {
		return "", messages.Errorf(messages.CodeUnsupported, "this API node cannot raise fences, so it cannot break locks")
	}
	id, err := a.holder(ctx, b)
	if err != nil {
		return "", err
	}
	rec, err := a.breakable(ctx, b, string(id))
	if errors.Is(err, kvlock.ErrNotFound) || err == nil && !rec.Live() {
		return id, a.repair(ctx, c, b, string(id))
	}
	if err != nil {
		return id, a.operated(id, "broken", err)
	}
	if rec.Phase == kvlock.Void {
		a.again(ctx, c, id, "broken", b.Reason)
	}
	if rec, err = a.makeVoid(ctx, string(id), who(c, b.Reason)); err != nil {
		return id, a.operated(id, "broken", err)
	}
	if !rec.Live() {
		return id, nil // somebody else did it
	}
	op, err := operationOf(rec)
	if err != nil {
		return id, a.operated(id, "broken", err)
	}
	if err := a.fences.RaiseFence(ctx, op.Backend, id); err != nil {
		return id, messages.Errorf(messages.CodeUnavailable, "operation %s is void: nobody goes on with it; but its locks are still held, because its fence could not be "+
			"raised at backend %s: %v. Break it again when that is healed, or give its locks away without a fence: scoria operation abandon %s --reason TEXT", id, op.Backend, err, id)
	}
	return id, a.giveAway(ctx, c, rec, op, "broken", b.Reason)
}

// holder finds the operation that holds the keys: one, or the one that was named.
func (a *Admitter) holder(ctx context.Context, b Break) (block.OperationID, error) {
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	var all []string
	for _, key := range b.Keys {
		lock, err := a.locks.Holders(ctx, key)
		if err != nil {
			return "", a.refusal(err, "")
		}
		for _, h := range lock.Holders {
			if !slices.Contains(all, h.Owner) {
				all = append(all, h.Owner)
			}
		}
	}
	switch {
	case len(all) == 0:
		return "", messages.Errorf(messages.CodeConflict, "nobody holds %s: there is nothing to break", b.Keys[0])
	case b.Operation != "" && !slices.Contains(all, string(b.Operation)):
		return "", messages.Errorf(messages.CodeConflict, "operation %s does not hold %s", b.Operation, b.Keys[0])
	case b.Operation != "":
		return b.Operation, nil
	case len(all) > 1:
		return "", messages.Errorf(messages.CodeConflict, "%s is held by %d operations: say whose lock is to be broken: %s", b.Keys[0], len(all), first(all, 10))
	}
	return block.OperationID(all[0]), nil
}

// first lists some of the IDs.
func first(ids []string, most int) string {
	text := strings.Join(ids[:min(most, len(ids))], ", ")
	if more := len(ids) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// breakable returns the operation's record, or why it is not broken: it goes on by itself and nobody insists.
func (a *Admitter) breakable(ctx context.Context, b Break, owner string) (kvlock.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	entry, err := a.store.Get(ctx, kvlock.OwnerKey(owner))
	if err != nil {
		return kvlock.Record{}, err
	}
	rec, err := kvlock.DecodeRecord(entry)
	if err != nil {
		return rec, err
	}
	if b.Force || !rec.Live() || rec.Phase == kvlock.Stuck || rec.Phase == kvlock.Void {
		return rec, nil
	}
	h, _, err := holderOf(one{entry}, owner, kvlock.ModeExclusive)
	if err != nil {
		return rec, err
	}
	e := messages.Errorf(messages.CodeConflict, "operation %s is %s and gives its locks back at its end (%s): cancel it (scoria operation cancel %s), "+
		"or break it with --force (\"force\": true), which leaves what it works on half done", owner, rec.Phase, describe(h, a.now()), owner)
	e.Holder = h
	return rec, e
}

// makeVoid is the locker's Void, for as long as a caller should wait.
func (a *Admitter) makeVoid(ctx context.Context, owner, reason string) (kvlock.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	return a.locks.Void(ctx, owner, reason)
}

// repair takes an operation that has ended, or has no record, out of the locks that still name it.
func (a *Admitter) repair(ctx context.Context, c Caller, b Break, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	for _, key := range b.Keys {
		if err := a.locks.Repair(ctx, key, owner, who(c, b.Reason)); err != nil && !errors.Is(err, kvlock.ErrNotFound) {
			return a.refusal(err, "")
		}
	}
	return nil
}

// giveAway is the end of an operation that nobody will finish: its locks are released, and what it worked on becomes an error that names the
// reason, in one commit.
func (a *Admitter) giveAway(ctx context.Context, c Caller, rec kvlock.Record, op records.Operation, verb, reason string) error {
	id, at := op.ID, a.now().UTC().Truncate(time.Microsecond)
	var ended kvlock.Record
	_, err := a.update(ctx, needsLittle, a.locks.Keys(rec.Owner, rec.Claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		var err error
		if ended, err = a.locks.StageBroken(s, tx, rec, nil); err != nil {
			return err
		}
		return giveUp(s, tx, op, fmt.Sprintf("operation %s was %s: %s", id, verb, reason), at)
	})
	if errors.Is(err, kvlock.ErrApplied) {
		return nil
	}
	if err == nil {
		a.locks.Observe(kvlock.EventOf(kvlock.Broken, ended))
		a.log.WarnContext(ctx, "operation "+verb, "operation", id, "kind", op.Kind, "resource", op.Resource, "reason", reason, "user", c.User, "fence", rec.Fence().String())
	}
	return a.operated(id, verb, err)
}
