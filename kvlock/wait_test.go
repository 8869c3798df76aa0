package kvlock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// queue has an operation stand in line and returns its record.
func queue(t *testing.T, l *kvlock.Locker, owner string, claims ...kvlock.Claim) kvlock.Record {
	t.Helper()
	rec, err := l.Queue(t.Context(), owner, nil, kvlock.Wait{}, claims...)
	if err != nil {
		t.Fatalf("Queue(%s, %v): %v", owner, claims, err)
	}
	return rec
}

func wantPhase(t *testing.T, l *kvlock.Locker, phase kvlock.Phase, owners ...string) {
	t.Helper()
	for _, o := range owners {
		if rec := record(t, l, o); rec.Phase != phase {
			t.Errorf("operation %s is %s, want %s", o, rec.Phase, phase)
		}
	}
}

func release(t *testing.T, l *kvlock.Locker, owner string) {
	t.Helper()
	rec := record(t, l, owner)
	g := l.GrantOf(rec)
	if rec.Phase == kvlock.Granted {
		g = adopt(t, l, owner, "of-"+owner)
	}
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatalf("Release(%s): %v", owner, err)
	}
}

func TestTheReleaserGrantsTheNextInItsOwnCommit(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	v := "volume.v1"
	acquire(t, l, "op-1", kvlock.Exclusive(v))
	for _, o := range []string{"op-2", "op-3"} {
		if rec := queue(t, l, o, kvlock.Exclusive(v)); rec.Phase != kvlock.Queued {
			t.Errorf("%s is %s, want it to wait", o, rec.Phase)
		}
	}
	release(t, l, "op-1")
	wantPhase(t, l, kvlock.Running, "op-2")
	wantPhase(t, l, kvlock.Queued, "op-3")
	kvlocktest.RequireHeld(t, l, "op-2", kvlock.Exclusive(v))
	release(t, l, "op-2")
	release(t, l, "op-3")
	kvlocktest.RequireFree(t, l)
	kvlocktest.RequireSound(t, l)
}

func TestReadersDoNotPassAWaitingWriterAndAreLetInTogether(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	v := "snapshot.s1"
	acquire(t, l, "r-1", kvlock.Shared(v))
	queue(t, l, "w-1", kvlock.Exclusive(v))
	for _, r := range []string{"r-2", "r-3", "r-4"} {
		if rec := queue(t, l, r, kvlock.Shared(v)); rec.Phase != kvlock.Queued {
			t.Errorf("reader %s is %s: it passed the writer that waits", r, rec.Phase)
		}
	}
	_, err := l.TryAcquire(t.Context(), "r-5", nil, kvlock.Shared(v))
	wantErr(t, "TryAcquire of a reader", err, kvlock.ErrConflict)
	queue(t, l, "w-2", kvlock.Exclusive(v))
	release(t, l, "r-1")
	wantPhase(t, l, kvlock.Running, "w-1")
	wantPhase(t, l, kvlock.Queued, "r-2", "r-3", "r-4", "w-2")
	release(t, l, "w-1")
	wantPhase(t, l, kvlock.Running, "r-2", "r-3", "r-4")
	wantPhase(t, l, kvlock.Queued, "w-2")
	for _, r := range []string{"r-3", "r-2", "r-4"} {
		wantPhase(t, l, kvlock.Queued, "w-2")
		release(t, l, r)
	}
	release(t, l, "w-2")
	kvlocktest.RequireFree(t, l)
}

func TestAWaiterOfSeveralKeysIsGrantedAllOrNone(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	acquire(t, l, "op-a", kvlock.Exclusive("a"))
	acquire(t, l, "op-b", kvlock.Exclusive("b"))
	queue(t, l, "both", kvlock.Exclusive("a"), kvlock.Exclusive("b"), kvlock.Exclusive("c"))
	lock, err := l.Holders(t.Context(), "c")
	if err != nil || len(lock.Holders) != 0 || len(lock.Line) != 1 {
		t.Errorf("lock of c = %+v, %v: want it waited for and not held", lock, err)
	}
	release(t, l, "op-a")
	wantPhase(t, l, kvlock.Queued, "both")
	release(t, l, "op-b")
	wantPhase(t, l, kvlock.Running, "both")
	kvlocktest.RequireHeld(t, l, "both", kvlock.Exclusive("a"), kvlock.Exclusive("b"), kvlock.Exclusive("c"))
	release(t, l, "both")
	kvlocktest.RequireFree(t, l)
}

func TestTheDispatchIsPublishedWithTheGrant(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	wait := func(o string) kvlock.Wait { return kvlock.Wait{Dispatch: "req.local." + o} }
	dispatched := func(o string) bool {
		_, err := store.Stream().GetLastMsgForSubject(t.Context(), store.DispatchSubject("req", "local", o, "1"))
		return err == nil
	}
	for i, o := range []string{"op-1", "op-2"} {
		rec, err := l.Queue(t.Context(), o, nil, wait(o), kvlock.Exclusive("v"))
		if err != nil || dispatched(o) != (i == 0) || rec.Dispatch != uint64(1-i) {
			t.Errorf("%s: %s, dispatch number %d, dispatched %t, %v", o, rec.Phase, rec.Dispatch, dispatched(o), err)
		}
	}
	release(t, l, "op-1")
	if rec := record(t, l, "op-2"); !dispatched("op-2") || rec.Dispatch != 1 || rec.Granted.IsZero() {
		t.Errorf("record %+v, dispatched %t", rec, dispatched("op-2"))
	}
}

func TestAWaiterThatLeavesLetsThoseBehindIn(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	acquire(t, l, "r-1", kvlock.Shared("a"))
	queue(t, l, "w-1", kvlock.Exclusive("a"), kvlock.Exclusive("b"))
	queue(t, l, "r-2", kvlock.Shared("a"))
	queue(t, l, "r-3", kvlock.Shared("b"))
	rec, err := l.Leave(t.Context(), "w-1", "the user changed her mind")
	if err != nil || rec.Phase != kvlock.Void || rec.Live() || rec.Audit[0].Reason != "the user changed her mind" {
		t.Errorf("Leave = %+v, %v", rec, err)
	}
	wantPhase(t, l, kvlock.Running, "r-2", "r-3")
	_, err = l.Leave(t.Context(), "w-1", "again")
	wantErr(t, "Leave of one that left", err, kvlock.ErrEnded)
	_, err = l.Leave(t.Context(), "r-2", "no")
	wantErr(t, "Leave of one that was granted", err, kvlock.ErrInvalid)
	for _, o := range []string{"r-1", "r-2", "r-3"} {
		release(t, l, o)
	}
	kvlocktest.RequireFree(t, l)
	kvlocktest.RequireSound(t, l)
}

func TestBreakGrantsTheNext(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	acquire(t, l, "op-1", kvlock.Exclusive("a"))
	queue(t, l, "op-2", kvlock.Exclusive("a"))
	if err := l.Break(t.Context(), "op-1", "gone", kvlock.NothingFenced); err != nil {
		t.Fatal(err)
	}
	wantPhase(t, l, kvlock.Running, "op-2")
}

func TestAGranterEndsAWaiterPastItsDeadline(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	store := natstest.Start(t).Store(t)
	var left []string
	l := kvlock.New(store, kvlock.WithClock(clock), kvlock.WithLeft(func(s kvtx.Snapshot, tx *kvtx.Tx, r kvlock.Record) ([]byte, error) {
		e, err := s.Get("left." + r.Owner)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		left = append(left, r.Owner)
		tx.Put(e.Key, nil, e.Revision)
		return []byte("left"), nil
	}))
	acquire(t, l, "r-1", kvlock.Shared("a"))
	acquire(t, l, "x", kvlock.Exclusive("b"))
	wait := kvlock.Wait{Deadline: now.Add(time.Minute)}
	if _, err := l.Queue(t.Context(), "w-1", nil, wait, kvlock.Exclusive("a"), kvlock.Exclusive("b")); err != nil {
		t.Fatal(err)
	}
	queue(t, l, "r-2", kvlock.Shared("a"))
	queue(t, l, "r-3", kvlock.Shared("b"))
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	release(t, l, "x") // w-1 would be blocked at a; it has expired: r-3 here and r-2 at the other key are free
	wantPhase(t, l, kvlock.Void, "w-1")
	wantPhase(t, l, kvlock.Running, "r-2", "r-3")
	if rec := record(t, l, "w-1"); string(rec.Payload) != "left" || !slices.Contains(left, "w-1") || !kvtxExists(t, store, "left.w-1") {
		t.Errorf("record %+v, left %v: want what the caller stages with a leave", rec, left)
	}
	_, err := l.Queue(t.Context(), "late", nil, wait, kvlock.Exclusive("a"))
	wantErr(t, "Queue with a deadline in the past", err, kvlock.ErrDeadline)
	if rec, err := l.Queue(t.Context(), "free", nil, wait, kvlock.Exclusive("c")); err != nil || rec.Phase != kvlock.Running {
		t.Errorf("Queue of what need not wait = %s, %v", rec.Phase, err)
	}
	kvlocktest.RequireSound(t, l)
}

func kvtxExists(t *testing.T, s *kvtx.Store, key string) bool {
	t.Helper()
	e, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return e.Exists
}

func TestTheWaiterBeyondTheLimitIsRefusedInWords(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	acquire(t, l, "op-0", kvlock.Exclusive("a"))
	var wg sync.WaitGroup
	for i := range kvlock.MaxWaiters {
		wg.Go(func() { queue(t, l, fmt.Sprintf("op-%d", i+1), kvlock.Exclusive("a")) })
	}
	wg.Wait()
	_, err := l.Queue(t.Context(), "one-more", nil, kvlock.Wait{}, kvlock.Exclusive("a"))
	wantErr(t, "Queue of one more", err, kvlock.ErrTooLarge)
	if want := "257 operations would wait for key a, at most 256 are allowed"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want %q", err, want)
	}
	order := []string{}
	for range kvlock.MaxWaiters + 1 {
		lock, err := l.Holders(t.Context(), "a")
		if err != nil || len(lock.Holders) != 1 {
			t.Fatalf("lock %+v, %v", lock, err)
		}
		order = append(order, lock.Holders[0].Owner)
		release(t, l, lock.Holders[0].Owner)
	}
	kvlocktest.RequireFree(t, l)
	if len(order) != kvlock.MaxWaiters+1 {
		t.Errorf("%d operations had the key", len(order))
	}
}

// TestMoreReadersThanOneCommitGrantsAreOwedAWake: a writer ends, and 200 readers wait behind it.
func TestMoreReadersThanOneCommitGrantsAreOwedAWake(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	store := srv.Store(t)
	l := kvlock.New(store)
	acquire(t, l, "w", kvlock.Exclusive("a"))
	const readers = 200
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() { queue(t, l, fmt.Sprintf("r-%d", i), kvlock.Shared("a")) })
	}
	wg.Wait()
	release(t, l, "w")
	lock, err := l.Holders(t.Context(), "a")
	if err != nil || len(lock.Holders) != kvlock.MaxGrants {
		t.Errorf("%d holders, %v; want %d let in by the end itself", len(lock.Holders), err, kvlock.MaxGrants)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- kvlock.New(srv.Store(t)).ServeWakes(ctx) }()
	eventually(t, "all readers are in", func() bool {
		lock, err := l.Holders(t.Context(), "a")
		return err == nil && len(lock.Holders) == readers && len(lock.Line) == 0
	})
	eventually(t, "served wakes are purged", func() bool {
		_, err := store.Stream().GetLastMsgForSubject(t.Context(), store.DispatchSubject("wake", ">"))
		return errors.Is(err, jetstream.ErrMsgNotFound)
	})
	stop()
	if err := <-served; err != nil {
		t.Errorf("ServeWakes = %v", err)
	}
	kvlocktest.RequireSound(t, l)
}

// TestTwoEndsAtTheSameMomentDoNotForgetTheWaiterOfBoth: each reads the other's lock as still held.
func TestTwoEndsAtTheSameMomentDoNotForgetTheWaiterOfBoth(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	waker := kvlock.New(srv.Store(t))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := waker.ServeWakes(ctx); err != nil {
			t.Errorf("ServeWakes = %v", err)
		}
	})
	nodes := []*kvlock.Locker{kvlock.New(srv.Store(t)), kvlock.New(srv.Store(t))}
	for round := range 50 {
		keys := []string{fmt.Sprintf("a.%d", round), fmt.Sprintf("b.%d", round)}
		grants := make([]kvlock.Grant, 2)
		for i, l := range nodes {
			grants[i] = acquire(t, l, fmt.Sprintf("h-%d-%d", round, i), kvlock.Exclusive(keys[i]))
		}
		both := fmt.Sprintf("both-%d", round)
		queue(t, waker, both, kvlock.Exclusive(keys[0]), kvlock.Exclusive(keys[1]))
		for i, l := range nodes { // so that each remembers the other's lock as held
			if _, err := l.Holders(t.Context(), keys[1-i]); err != nil {
				t.Fatal(err)
			}
			record(t, l, both)
		}
		var ends sync.WaitGroup
		for i, l := range nodes {
			ends.Go(func() {
				if err := l.Release(t.Context(), grants[i]); err != nil {
					t.Errorf("Release: %v", err)
				}
			})
		}
		ends.Wait()
		eventually(t, "the waiter for both is granted", func() bool { return record(t, waker, both).Phase == kvlock.Running })
	}
	stop()
	wg.Wait()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !ok(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: it did not come true", what)
		}
	}
}

func TestAcquireWaitsAndGivesUp(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	g := acquire(t, l, "op-1", kvlock.Exclusive("a"))
	got := make(chan error, 1)
	var second kvlock.Grant
	go func() {
		var err error
		second, err = l.Acquire(t.Context(), "op-2", []byte("x"), kvlock.Wait{}, kvlock.Exclusive("a"))
		got <- err
	}()
	eventually(t, "the second waits", func() bool {
		lock, err := l.Holders(t.Context(), "a")
		return err == nil && len(lock.Line) == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := l.Acquire(ctx, "op-3", nil, kvlock.Wait{}, kvlock.Exclusive("a"))
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, kvlock.ErrDeadline) {
		t.Errorf("Acquire whose context ended = %v", err)
	}
	wantPhase(t, l, kvlock.Void, "op-3")
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	second = save(t, l, second, kvlock.Running, "mine")
	kvlocktest.RequireHeld(t, l, "op-2", kvlock.Exclusive("a"))
	if err := l.Release(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireFree(t, l)
}

func TestADowngradeLetsTheReadersInThatWait(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	g := acquire(t, l, "op-1", kvlock.Exclusive("a"), kvlock.Exclusive("b"))
	queue(t, l, "r-1", kvlock.Shared("a"))
	queue(t, l, "r-2", kvlock.Shared("a"), kvlock.Shared("b"))
	queue(t, l, "w-1", kvlock.Exclusive("a"))
	old := g
	g, err := l.Downgrade(t.Context(), g, "a")
	if err != nil {
		t.Fatal(err)
	}
	wantPhase(t, l, kvlock.Running, "r-1")
	wantPhase(t, l, kvlock.Queued, "r-2", "w-1")
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Shared("a"), kvlock.Exclusive("b"))
	if !slices.Equal(g.Claims(), []kvlock.Claim{kvlock.Shared("a"), kvlock.Exclusive("b")}) {
		t.Errorf("the grant says %v", g.Claims())
	}
	if again, err := l.Downgrade(t.Context(), old, "a"); err != nil || again.Position() != g.Position() {
		t.Errorf("repeated Downgrade = %+v, %v; want %+v", again, err, g)
	}
	_, err = l.Downgrade(t.Context(), g, "a")
	wantErr(t, "Downgrade of what is shared", err, kvlock.ErrInvalid)
	_, err = l.Save(t.Context(), old, kvlock.Running, []byte("x"))
	wantErr(t, "Save with the grant of before", err, kvlock.ErrBehind)
	if g, err = l.Downgrade(t.Context(), g, "b"); err != nil {
		t.Fatal(err)
	}
	wantPhase(t, l, kvlock.Running, "r-2")
	kvlocktest.RequireSound(t, l)
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	release(t, l, "r-1")
	release(t, l, "r-2")
	release(t, l, "w-1")
	kvlocktest.RequireFree(t, l)
}
