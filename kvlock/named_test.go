package kvlock_test

import (
	"context"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

// worker acquires a key for an operation and takes it over.
func worker(t *testing.T, l *kvlock.Locker, owner string) kvlock.Grant {
	t.Helper()
	acquire(t, l, owner, kvlock.Exclusive("volume."+owner))
	return adopt(t, l, owner, "d1")
}

func lockNamed(t *testing.T, l *kvlock.Locker, g kvlock.Grant, name string) {
	t.Helper()
	if err := l.LockNamed(t.Context(), g.Owner(), g.Fence(), name); err != nil {
		t.Fatalf("LockNamed(%s, %s): %v", g.Owner(), name, err)
	}
}

func TestANamedLockIsOneOperationsAtATime(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	one, two := worker(t, l, "op-1"), worker(t, l, "op-2")
	for range 2 { // repeated, it is no error
		lockNamed(t, l, one, "pool")
	}
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.op-1"), kvlock.Exclusive(kvlock.NamedKey("pool")))
	err := l.LockNamed(t.Context(), "op-2", two.Fence(), "pool")
	wantErr(t, "LockNamed of one that is held", err, kvlock.ErrConflict)
	lockNamed(t, l, two, "other")
	one = save(t, l, one, kvlock.Running, "its progress is left alone")
	for range 2 {
		if err := l.UnlockNamed(t.Context(), "op-1", one.Fence(), "pool"); err != nil {
			t.Fatal(err)
		}
	}
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.op-1"))
	lockNamed(t, l, two, "pool") // it gives the other one back
	kvlocktest.RequireHeld(t, l, "op-2", kvlock.Exclusive("volume.op-2"), kvlock.Exclusive(kvlock.NamedKey("pool")))
	lockNamed(t, l, one, "other")
	kvlocktest.RequireSound(t, l)
}

// The key of a named lock is no claim: it would be given back while its operation needs it.
func TestTheKeyOfANamedLockIsNoClaim(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	key := kvlock.Exclusive(kvlock.NamedKey("pool"))
	_, err := l.TryAcquire(t.Context(), "op-1", nil, kvlock.Exclusive("volume.v1"), key)
	wantErr(t, "TryAcquire", err, kvlock.ErrInvalid)
	_, err = l.Queue(t.Context(), "op-1", nil, kvlock.Wait{}, key)
	wantErr(t, "Queue", err, kvlock.ErrInvalid)
	kvlocktest.RequireFree(t, l)
}

// A worker that was overtaken neither takes a named lock nor gives its successor's back; the successor has what it left.
func TestAnOvertakenWorkerHasNoNamedLock(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	old := worker(t, l, "op-1")
	lockNamed(t, l, old, "pool")
	now := adopt(t, l, "op-1", "d2")
	wantErr(t, "LockNamed", l.LockNamed(t.Context(), "op-1", old.Fence(), "pool"), kvlock.ErrAdopted)
	wantErr(t, "UnlockNamed", l.UnlockNamed(t.Context(), "op-1", old.Fence(), "pool"), kvlock.ErrAdopted)
	held := kvlock.Exclusive(kvlock.NamedKey("pool"))
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.op-1"), held)
	lockNamed(t, l, now, "pool")
	wantErr(t, "LockNamed of another", l.LockNamed(t.Context(), "op-2", worker(t, l, "op-2").Fence(), "pool"), kvlock.ErrConflict)
	if err := l.UnlockNamed(t.Context(), "op-1", now.Fence(), "pool"); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireFree(t, l, held.Key)
}

// A worker gives a named lock back whose record its process remembers as it was before: the entry goes, and not only the claim.
func TestANamedLockGivenBackOnAnOldReadLeavesNoEntry(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	here, there := kvlock.New(srv.Store(t)), kvlock.New(srv.Store(t))
	for name, giveBack := range map[string]func(g kvlock.Grant) error{
		"unlocked":   func(g kvlock.Grant) error { return here.UnlockNamed(t.Context(), g.Owner(), g.Fence(), "pool") },
		"takes more": func(g kvlock.Grant) error { return here.LockNamed(t.Context(), g.Owner(), g.Fence(), "other") },
		"stuck": func(g kvlock.Grant) error {
			_, err := here.Save(t.Context(), g, kvlock.Stuck, nil)
			return err
		},
	} {
		before, op := worker(t, here, "before-"+strings.ReplaceAll(name, " ", "-")), "op-"+strings.ReplaceAll(name, " ", "-")
		lockNamed(t, here, before, "pool") // what is remembered here
		if err := there.UnlockNamed(t.Context(), before.Owner(), before.Fence(), "pool"); err != nil {
			t.Fatal(err)
		}
		lockNamed(t, there, worker(t, there, op), "pool")
		g := adopt(t, here, op, "d2")
		if err := giveBack(g); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		kvlocktest.RequireFree(t, here, kvlock.NamedKey("pool"))
		if err := there.Break(t.Context(), op, "test", kvlock.NothingFenced); err != nil {
			t.Fatal(err)
		}
	}
	kvlocktest.RequireSound(t, here)
}

// What a worker did not give back goes with its operation, also when that waits for a person.
func TestANamedLockOutlivesNoOperation(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context, *kvlock.Locker, kvlock.Grant) error{
		"done": func(ctx context.Context, l *kvlock.Locker, g kvlock.Grant) error {
			return l.End(ctx, g, kvlock.Done, nil)
		},
		"released": func(ctx context.Context, l *kvlock.Locker, g kvlock.Grant) error {
			return l.Release(ctx, g)
		},
		"stuck": func(ctx context.Context, l *kvlock.Locker, g kvlock.Grant) error {
			_, err := l.Save(ctx, g, kvlock.Stuck, nil)
			return err
		},
		"broken": func(ctx context.Context, l *kvlock.Locker, g kvlock.Grant) error {
			return l.Break(ctx, g.Owner(), "test", kvlock.NothingFenced)
		},
		"broken, raised under the lock": func(ctx context.Context, l *kvlock.Locker, g kvlock.Grant) error {
			return l.Break(ctx, g.Owner(), "test", func(ctx context.Context, r kvlock.Record, f kvlock.Fence) error {
				return l.LockNamed(ctx, r.Owner, f, "pool")
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLocker(t)
			g := worker(t, l, "op-1")
			lockNamed(t, l, g, "pool")
			if err := end(t.Context(), l, g); err != nil {
				t.Fatal(err)
			}
			kvlocktest.RequireFree(t, l, kvlock.NamedKey("pool"))
			kvlocktest.RequireSound(t, l)
			if err := l.LockNamed(t.Context(), "op-1", g.Fence(), "pool"); err == nil {
				t.Error("an operation that is not driven took the lock")
			}
		})
	}
}
