package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// worker takes dispatches, drives their operations, and acknowledges what has ended.
func (a *actor) worker() {
	q := a.p.w.queue
	for {
		subject, ok := a.offered("is told of an operation", func() bool { return len(q.open()) > 0 }, q.take)
		if !ok {
			return
		}
		seq := a.p.w.truth.sequence(subject)
		owner := strings.Split(subject, ".")[3]
		if a.drive(owner) {
			a.acknowledge(subject, seq)
		}
	}
}

// drive takes an operation over and ends it. It says whether the delivery is done.
func (a *actor) drive(owner string) bool {
	g, rec, err := a.takeOver(owner)
	switch {
	case errors.Is(err, kvlock.ErrEnded), errors.Is(err, kvlock.ErrNotFound), errors.Is(err, kvlock.ErrStuck):
		return true
	case !a.expect("take over", err, kvlock.ErrAdopted, kvlock.ErrVoid, kvlock.ErrQueued):
		return false
	}
	if g.Epoch() > 1 {
		if !a.turn("raises the fence") {
			return false
		}
		a.p.w.truth.raise(rec, g.Fence())
	}
	g, ok := a.work(g)
	if !ok {
		return false
	}
	switch a.rng.IntN(8) {
	case 0:
		return a.getStuck(g)
	case 1, 2:
		a.p.w.count("left to another worker")
		return false
	}
	phase := kvlock.Done
	if a.rng.IntN(4) == 0 {
		phase = kvlock.Undone
	}
	err = a.until("ends", func(ctx context.Context) error { return a.p.locks.End(ctx, g, phase, nil) })
	if !a.expect("End", err, kvlock.ErrAdopted, kvlock.ErrEnded, kvlock.ErrNotFound) {
		return false
	}
	a.gone(owner, "it was ended")
	return true
}

// getStuck leaves an operation to a person. It says whether the delivery is done: who resumes the operation makes another one.
func (a *actor) getStuck(g kvlock.Grant) bool {
	err := a.until("gets stuck", func(ctx context.Context) error {
		_, err := a.p.locks.Save(ctx, g, kvlock.Stuck, nil)
		return err
	})
	// It is behind if its answer was lost and the operation was resumed since.
	if a.expect("get stuck", err, kvlock.ErrAdopted, kvlock.ErrBehind, kvlock.ErrEnded, kvlock.ErrNotFound) {
		return true
	}
	if !errors.Is(err, kvlock.ErrBehind) {
		a.overtaken(g, err)
	}
	return false
}

// takeOver adopts an operation, or makes the take-over with its first save.
func (a *actor) takeOver(owner string) (g kvlock.Grant, rec kvlock.Record, err error) {
	a.again++
	token := fmt.Sprintf("%s-%d", a.name, a.again)
	intend := a.rng.IntN(3) == 0
	worker := a.p.label()
	err = a.until("takes over", func(ctx context.Context) (err error) {
		token := worker + "-" + token
		if intend {
			if rec, err = a.p.locks.Record(ctx, owner); err != nil {
				return err
			}
			if g, err = a.p.locks.Intend(rec, worker, token); err == nil {
				g, err = a.p.locks.Save(ctx, g, kvlock.Running, []byte("first"))
				return err
			}
		}
		g, rec, err = a.p.locks.Adopt(ctx, owner, worker, token)
		return err
	})
	return g, rec, err
}

// waker serves wakes.
func (a *actor) waker() {
	ctx := context.WithValue(a.p.ctx, whoKey{}, a.name)
	for a.turn("serves wakes") {
		switch err := a.p.locks.ServeWakes(ctx); {
		case a.p.dead():
		case err == nil:
			a.p.w.fail("%s: ServeWakes has ended", a.label())
		default:
			a.p.w.count("wakes not served")
		}
	}
}

// operator looks after what is stuck, and breaks, cancels and takes out of line, rarely; in the end it puts in order what crashes have left.
func (a *actor) operator() {
	t := a.p.w.truth
	for left := a.rng.IntN(4); ; left-- {
		owner, ok := a.offered("looks for work", func() bool {
			return len(t.orphans(a.p.w.healing)) > 0 || !a.p.w.healing && left > 0 && len(t.live()) > 2
		}, func() string {
			if orphans := t.orphans(a.p.w.healing); len(orphans) > 0 {
				return orphans[0]
			}
			live := t.live()
			return strings.Fields(live[a.p.w.rng.IntN(len(live))])[0]
		})
		if !ok {
			return
		}
		rec, _ := t.record(owner)
		may := []error{
			kvlock.ErrQueued, kvlock.ErrEnded, kvlock.ErrInvalid, kvlock.ErrVoid, kvlock.ErrAdopted, kvlock.ErrConflict,
			context.Canceled, context.DeadlineExceeded,
		}
		var err error
		switch {
		case rec.Phase == kvlock.Queued:
			err = a.call(func(ctx context.Context) error {
				_, err := a.p.locks.Leave(ctx, owner, "taken out of line")
				return err
			})
		case rec.Phase == kvlock.Stuck && a.rng.IntN(2) == 0:
			err = a.call(func(ctx context.Context) error { return a.resume(ctx, owner) })
		case !a.p.w.healing && a.rng.IntN(3) == 0:
			err = a.call(func(ctx context.Context) error {
				_, err := a.p.locks.Cancel(ctx, owner, "operator")
				return err
			})
		default:
			err = a.call(func(ctx context.Context) error {
				return a.p.locks.Break(ctx, owner, "simulated", a.raise)
			})
		}
		a.expect("operator", err, may...)
	}
}

// raise raises the fence of what is broken, now and then under a named lock.
func (a *actor) raise(ctx context.Context, rec kvlock.Record, f kvlock.Fence) error {
	if !a.turn("raises the fence of what is broken") {
		return errDead
	}
	if a.rng.IntN(2) == 0 {
		if err := a.p.locks.LockNamed(ctx, rec.Owner, f, a.anyName()); err != nil {
			return err
		}
	}
	a.p.w.truth.raise(rec, f)
	return nil
}

// resume lets workers go on with an operation that is stuck.
func (a *actor) resume(ctx context.Context, owner string) error {
	locks, store := a.p.locks, a.p.store
	_, err := store.Update(ctx, locks.Keys(owner), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		rec, err := locks.StageResume(s, tx, owner, kvlock.Running, "looked after", nil)
		if err == nil {
			tx.Publish(store.DispatchSubject(dispatches, owner, strconv.FormatUint(rec.Dispatch, 10)), nil, nil)
		}
		return err
	})
	if err == nil {
		a.p.w.count("resumed")
	}
	return err
}

// orphans are live operations that nobody will end by himself: stuck ones, and if all, too, those of processes that have ended and that no
// dispatch tells of, broken ones of which the end is missing, and those that wait past their deadline.
func (t *truth) orphans(all bool) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var orphans []string
	for _, owner := range slices.Sorted(maps.Keys(t.ops)) {
		rec := t.ops[owner]
		p := t.direct[owner]
		switch {
		case !rec.Live():
		case rec.Phase == kvlock.Stuck:
			orphans = append(orphans, owner)
		case !all:
		case p != nil && p.dead(), rec.Phase == kvlock.Void, rec.Phase == kvlock.Queued && !rec.Deadline.IsZero() && time.Now().After(rec.Deadline):
			orphans = append(orphans, owner)
		}
	}
	return orphans
}

// final looks at what there is in the end.
func (w *world) final() {
	t := w.truth
	for _, key := range slices.Sorted(maps.Keys(t.locks)) {
		if lock := t.locks[key]; len(lock.Holders)+len(lock.Line) > 0 {
			w.fail("in the end key %s is held by %v, waited for by %v", key, lock.Holders, lock.Line)
		}
	}
	for key, acked := range t.acked {
		n := 0
		for _, m := range w.server.Messages("$KV." + bucket + "." + key) {
			n = len(m.Data)
		}
		if n < acked || n > t.uncertain[key] {
			w.fail("%s is %d; %d increments were acknowledged, %d tried and not refused", key, n, acked, t.uncertain[key])
		}
	}
}
