package kvlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Wait says how an operation waits in line.
type Wait struct {
	// Deadline is when it gives up; zero: never. Whoever goes through a line after it ends the operation; nobody does before.
	Deadline time.Time
	// Dispatch is the subject, below that of [kvtx.Store.DispatchSubject], under which workers are told of the operation, in the
	// commit that grants it; the dispatch number follows as the last token. "": nobody is told, the caller itself waits for it and
	// is its worker: once it is granted it is Running, in epoch 0.
	Dispatch string
}

// StageQueue stages a new operation that holds its claims, all of them, if nobody who holds or waits for one of the keys conflicts; else
// it stands at the end of the line of every key that it claims, and holds nothing. The record's phase says which: Granted (Running without
// a dispatch) or Queued.
// The dispatch, if it wants one, is published with the grant: here, or in the commit that grants it later. Read Keys(owner, claims...).
// Errors: *ExistsError; ErrTooLarge if a line is full; ErrDeadline if it would have to wait and may not any more; ErrInvalid, ErrBroken, ErrNewer.
func (l *Locker) StageQueue(s kvtx.Snapshot, tx *kvtx.Tx, owner string, payload []byte, wait Wait, claims ...Claim) (Record, error) {
	rec, err := l.newRecord(s, owner, payload, claims)
	if err != nil {
		return rec, err
	}
	rec.DispatchTo = wait.Dispatch
	locks := make([]Lock, len(rec.Claims))
	waits := false
	for i, c := range rec.Claims {
		if locks[i], err = readLock(s, c.Key); err != nil {
			return rec, err
		}
		if locks[i].Holds(owner) || locks[i].waits(owner) {
			return rec, kvtx.Sure(fmt.Errorf("%w: %s names operation %s, which has no record", ErrBroken, LockKey(c.Key), owner))
		}
		_, conflicts := locks[i].conflict(c)
		waits = waits || conflicts
	}
	if waits && !wait.Deadline.IsZero() && !wait.Deadline.After(rec.Since) {
		return rec, fmt.Errorf("%w: operation %s could wait until %s, and it is %s", ErrDeadline, owner,
			wait.Deadline.UTC().Format(time.RFC3339Nano), rec.Since.UTC().Format(time.RFC3339Nano))
	}
	if waits {
		rec.Phase, rec.Dispatch, rec.Deadline = Queued, 0, fromMillis(toMillis(wait.Deadline))
	} else {
		rec.Phase, rec.Granted = rec.letInAs(), rec.Since
	}
	if err := rec.stage(tx); err != nil { // first: consumers may see a prefix of the commit
		return rec, err
	}
	for i, c := range rec.Claims {
		if waits {
			locks[i].Line = append(slices.Clone(locks[i].Line), Waiter{Owner: owner, Mode: c.Mode, Since: rec.Since, Deadline: rec.Deadline})
		} else {
			locks[i].add(owner, c.Mode, rec.Since)
		}
		if err := locks[i].stage(tx); err != nil {
			return rec, err
		}
	}
	if !waits {
		l.publish(tx, rec)
	}
	return rec, nil
}

// waits says whether the owner stands in the line.
func (l *Lock) waits(owner string) bool {
	return slices.ContainsFunc(l.Line, func(w Waiter) bool { return w.Owner == owner })
}

// Queue is StageQueue as a commit of its own. Repeated with the same owner, it returns the record as it stands, with ErrExists.
// Errors: as StageQueue's; kvtx.ErrBusy.
func (l *Locker) Queue(ctx context.Context, owner string, payload []byte, wait Wait, claims ...Claim) (Record, error) {
	norm, err := Normalize(claims)
	if err != nil {
		return Record{}, err
	}
	rec, err := l.update(ctx, l.Keys(owner, norm...), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return l.StageQueue(s, tx, owner, payload, wait, norm...)
	}, kvtx.AssumeAbsent(OwnerKey(owner)), kvtx.Holds(len(payload)), kvtx.Yields())
	if err != nil {
		return rec, err
	}
	l.Observe(EventOf(map[Phase]EventKind{Queued: Enqueued, Granted: Acquired, Running: Acquired}[rec.Phase], rec))
	return rec, nil
}

// StageLeave stages that a queued operation gives up: it leaves all its lines, its record ends as void with the reason, and who was
// behind it is granted what that makes free. Read Keys(owner, claims...).
// Errors: ErrNotFound; ErrEnded; ErrInvalid if it does not wait any more: it has its claims.
func (l *Locker) StageLeave(s kvtx.Snapshot, tx *kvtx.Tx, owner, reason string) (Record, error) {
	if err := checkText("the reason of a leave", reason, maxText); err != nil {
		return Record{}, err
	}
	rec, err := read(s, owner)
	if err != nil {
		return rec, err
	}
	if !rec.Live() {
		return rec, fmt.Errorf("%w: %s, %s", ErrEnded, rec.Owner, rec.Phase)
	}
	if rec.Phase != Queued {
		return rec, fmt.Errorf("%w: operation %s is %s and does not wait in line", ErrInvalid, owner, rec.Phase)
	}
	rec.audit("leave", reason, l.now())
	rec.Phase = Void
	h := l.handover(s)
	if !h.leave(&rec) {
		return rec, h.err
	}
	h.run()
	if err := l.stageLeft(s, tx, &rec); err != nil {
		return rec, err
	}
	return rec, h.stage(tx, false)
}

// stageLeft stages the end of a waiter that left its lines.
func (l *Locker) stageLeft(s kvtx.Snapshot, tx *kvtx.Tx, rec *Record) error {
	if l.left != nil {
		payload, err := l.left(s, tx, *rec)
		if err != nil {
			return err
		}
		if err := rec.setPayload(payload); err != nil {
			return err
		}
	}
	rec.Ended = l.now()
	value, err := rec.encode()
	if err != nil {
		return err
	}
	tx.PutTTL(OwnerKey(rec.Owner), value, rec.Revision, l.retention)
	return nil
}

// Leave is StageLeave as a commit of its own.
func (l *Locker) Leave(ctx context.Context, owner, reason string) (Record, error) {
	rec, err := l.Record(ctx, owner)
	if err != nil {
		return rec, err
	}
	rec, err = l.update(ctx, l.Keys(owner, rec.Claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) (Record, error) {
		return l.StageLeave(s, tx, owner, reason)
	})
	if err != nil {
		return rec, err
	}
	l.Observe(EventOf(Left, rec))
	return rec, nil
}

// Acquire claims the keys for a new operation, all or none, and waits in line for them until ctx ends or the deadline has passed. The
// caller is the operation's worker in epoch 0, as with TryAcquire. If it dies while it waits, the operation is granted all the same:
// without a dispatch in wait nobody then hears of it until somebody breaks it, so a program whose operations matter gives one.
//
// A repeated call with the same owner and claims goes on waiting, or returns the grant.
// Errors: ctx's, with nothing left behind; ErrDeadline; ErrVoid if somebody else made it leave; *ExistsError if another worker has it;
// ErrTooLarge, ErrInvalid, ErrBroken, ErrNewer; kvtx.ErrBusy.
func (l *Locker) Acquire(ctx context.Context, owner string, payload []byte, wait Wait, claims ...Claim) (Grant, error) {
	norm, err := Normalize(claims)
	if err != nil {
		return Grant{}, err
	}
	if d, ok := ctx.Deadline(); ok && (wait.Deadline.IsZero() || d.Before(wait.Deadline)) {
		wait.Deadline = d
	}
	rec, err := l.enqueue(ctx, owner, payload, wait, norm)
	if err != nil && ctx.Err() != nil {
		return Grant{}, l.giveUp(ctx, Record{Owner: owner}, err) // its commit may have been made
	}
	if err != nil {
		return Grant{}, err
	}
	waits := rec.Phase == Queued
	if waits {
		if rec, err = l.await(ctx, rec); err != nil {
			return Grant{}, err
		}
	}
	if rec.Epoch != 0 {
		return Grant{}, &ExistsError{Record: rec}
	}
	if waits {
		l.Observe(EventOf(Acquired, rec))
	}
	return l.GrantOf(rec), nil
}

// enqueue is Queue, for who goes on with what a repeated call finds.
func (l *Locker) enqueue(ctx context.Context, owner string, payload []byte, wait Wait, norm []Claim) (Record, error) {
	rec, err := l.Queue(ctx, owner, payload, wait, norm...)
	if !errors.Is(err, ErrExists) || !rec.unadopted(norm) {
		return rec, err
	}
	stands, err := l.stands(ctx, owner, rec.Revision)
	if err != nil || stands {
		return rec, err
	}
	return l.enqueue(ctx, owner, payload, wait, norm)
}

// DeadlinePassed is the reason of a leave at the deadline.
const DeadlinePassed = "the deadline of its wait has passed"

// leaveLimit bounds the commit that takes a waiter out of its lines when its caller has given up.
const leaveLimit = 10 * time.Second

// await returns when the operation waits no more.
func (l *Locker) await(ctx context.Context, rec Record) (Record, error) {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	if !rec.Deadline.IsZero() {
		watch, cancel = context.WithDeadline(ctx, rec.Deadline)
		defer cancel()
	}
	err := l.store.Watch(watch, []string{OwnerKey(rec.Owner)}, func(ev kvtx.Event) error {
		if ev.CaughtUp {
			return nil
		}
		now, err := DecodeRecord(ev.Entry)
		if err != nil {
			return err
		}
		if rec = now; now.Phase != Queued {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) && rec.Phase == Void {
		return rec, rec.gone()
	}
	if errors.Is(err, errStop) {
		return rec, nil
	}
	return rec, l.giveUp(ctx, rec, err)
}

// gone says why an operation waits no more.
func (r Record) gone() error {
	if n := len(r.Audit); n > 0 {
		return fmt.Errorf("%w: operation %s left its line: %s", ErrVoid, r.Owner, r.Audit[n-1].Reason)
	}
	return fmt.Errorf("%w: operation %s", ErrVoid, r.Owner)
}

// leave is Leave, for who goes if there is nothing.
func (l *Locker) leave(ctx context.Context, owner, reason string) (Record, error) {
	rec, err := l.Leave(ctx, owner, reason)
	if !errors.Is(err, ErrNotFound) {
		return rec, err
	}
	gone, err := l.stands(ctx, owner, 0)
	if err != nil || gone {
		return Record{Owner: owner}, err
	}
	return l.leave(ctx, owner, reason)
}

// giveUp leaves the lines, or gives back what was granted at this very moment, and returns why.
func (l *Locker) giveUp(ctx context.Context, rec Record, why error) error {
	if ctx.Err() == nil && !rec.Deadline.IsZero() && !l.now().Before(rec.Deadline) {
		why = fmt.Errorf("%w: operation %s", ErrDeadline, rec.Owner)
	} else if ctx.Err() != nil {
		why = context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
	defer cancel()
	l.store.Cached(ctx, OwnerKey(rec.Owner)) // a commit with it that is on its way is waited for
	rec, err := l.leave(ctx, rec.Owner, why.Error())
	if errors.Is(err, ErrInvalid) && rec.Epoch == 0 { // it was granted meanwhile
		err = l.End(ctx, l.GrantOf(rec), Undone, nil)
	}
	if err != nil && !errors.Is(err, ErrEnded) && !errors.Is(err, ErrAdopted) {
		return errors.Join(why, fmt.Errorf("operation %s may still wait or hold its claims: %w", rec.Owner, err))
	}
	return why
}
