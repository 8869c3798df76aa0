package kvlock_test

import (
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// A waiter of two keys is let in when both are free of holders and of older waiters that conflict, also on the key that the commit did not write.
func TestAWaiterOfTwoKeysDoesNotPassAnOlderOneOfTheOtherKey(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	acquire(t, l, "holder", kvlock.Exclusive("a"))
	acquire(t, l, "reader", kvlock.Shared("b"))
	queue(t, l, "older", kvlock.Exclusive("b"))
	queue(t, l, "both", kvlock.Exclusive("a"), kvlock.Shared("b")) // no holder of b conflicts
	release(t, l, "holder")
	wantPhase(t, l, kvlock.Queued, "both")
	release(t, l, "reader")
	wantPhase(t, l, kvlock.Running, "older")
	wantPhase(t, l, kvlock.Queued, "both")
	release(t, l, "older")
	wantPhase(t, l, kvlock.Running, "both")
}

// As TestEndOnAnOldReadOfALockLeavesNoEntry, of a lock that others hold, too: it is there, and does not name the operation.
func TestEndOnAnOldReadOfASharedLockLeavesNoEntry(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	here, store := kvlock.New(srv.Store(t)), srv.Store(t)
	there := kvlock.New(store)
	claim := kvlock.Shared("snapshot.s1")
	acquire(t, here, "reader", claim)
	if _, err := store.Update(t.Context(), there.Keys("op-1", claim), func(s kvtx.Snapshot, _ *kvtx.Tx) error {
		_, err := s.Get(kvlock.LockKey("snapshot.s1")) // known there from now on: held by the other one
		return err
	}); err != nil {
		t.Fatal(err)
	}
	acquire(t, here, "op-1", claim)
	if err := there.Release(t.Context(), adopt(t, there, "op-1", "d1")); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireHeld(t, here, "reader", claim)
	kvlocktest.RequireSound(t, here)
}

// Each take-over is an epoch of its own: drivers raise their fence from the second one on.
func TestEachTakeOverIsAnEpoch(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	g := acquire(t, l, "op-1", kvlock.Exclusive("a"))
	for want := range uint64(4) {
		if rec := record(t, l, "op-1"); g.Epoch() != want || rec.Epoch != want {
			t.Fatalf("epoch %d of the grant, %d of the record, want %d", g.Epoch(), rec.Epoch, want)
		}
		g = adopt(t, l, "op-1", string(rune('a'+want)))
	}
}
