package kvlock_test

import (
	"context"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// granted makes an operation that waits for its first worker.
func granted(t *testing.T, store *kvtx.Store, l *kvlock.Locker, owner string, claims ...kvlock.Claim) kvlock.Record {
	t.Helper()
	var rec kvlock.Record
	res, err := store.Update(t.Context(), l.Keys(owner, claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) (err error) {
		rec, err = l.StageAcquire(s, tx, owner, []byte("request"), claims...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l.Committed(rec, res)
}

func intend(t *testing.T, l *kvlock.Locker, rec kvlock.Record, token string) kvlock.Grant {
	t.Helper()
	g, err := l.Intend(rec, "worker-of-"+token, token)
	if err != nil {
		t.Fatalf("Intend: %v", err)
	}
	return g
}

func TestAnIntendedTakeOverIsMadeByItsFirstSave(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	claim := kvlock.Exclusive("volume.v1")
	old := granted(t, store, l, "op-1", claim)
	g := intend(t, l, old, "d1")
	if now := record(t, l, "op-1"); now.Revision != old.Revision || !g.Fence().IsZero() || g.Epoch() != 1 {
		t.Errorf("record at %d after Intend, it was at %d; grant %+v: want nothing written and no fence", now.Revision, old.Revision, g)
	}
	if _, err := g.MarshalBinary(); err == nil {
		t.Error("a grant whose take-over is not made was encoded")
	}
	g = save(t, l, g, kvlock.Running, "one")
	now := record(t, l, "op-1")
	if now.Epoch != 1 || now.Position != 1 || now.Worker != "worker-of-d1" || string(now.Payload) != "one" || now.Phase != kvlock.Running ||
		g.Fence() != now.Fence() || g.Fence().Rev != uint64(now.Revision) || !old.Fence().Less(g.Fence()) {
		t.Errorf("grant %+v, record %+v: want one write that is take-over and save, its revision the fence", g, now)
	}
	g = save(t, l, g, kvlock.Running, "two")
	if next := record(t, l, "op-1"); next.Fence() != now.Fence() || next.Position != 2 || g.Fence() != now.Fence() {
		t.Errorf("record after the next save %+v, want the fence kept", next)
	}
	kvlocktest.RequireHeld(t, l, "op-1", claim)
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireFree(t, l)
}

func TestAnIntendedTakeOverMayBeTheEnd(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	g := intend(t, l, granted(t, store, l, "op-1", kvlock.Exclusive("volume.v1")), "d1")
	for range 2 {
		if err := l.End(t.Context(), g, kvlock.Done, []byte("all")); err != nil {
			t.Fatal(err)
		}
	}
	if now := record(t, l, "op-1"); now.Phase != kvlock.Done || now.Epoch != 1 {
		t.Errorf("record %+v, want it done in epoch 1", now)
	}
	kvlocktest.RequireFree(t, l)
}

func TestOfTwoWhoIntendATakeOverOneMakesIt(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	store := srv.Store(t)
	l, other := kvlock.New(store), kvlock.New(srv.Store(t))
	rec := granted(t, store, l, "op-1", kvlock.Exclusive("volume.v1"))
	first, second := intend(t, l, rec, "d1"), intend(t, other, rec, "d2")
	first = save(t, l, first, kvlock.Running, "mine")
	_, err := other.Save(t.Context(), second, kvlock.Running, []byte("mine"))
	wantErr(t, "Save of the second", err, kvlock.ErrAdopted)
	wantErr(t, "End of the second", other.End(t.Context(), second, kvlock.Done, nil), kvlock.ErrAdopted)
	wantErr(t, "Release of the second", other.Release(t.Context(), second), kvlock.ErrAdopted)

	third := adopt(t, other, "op-1", "d3")
	_, err = l.Save(t.Context(), first, kvlock.Running, nil)
	wantErr(t, "Save after the take-over", err, kvlock.ErrAdopted)
	save(t, other, third, kvlock.Running, "theirs")

	rec = granted(t, store, l, "op-2", kvlock.Exclusive("volume.v2"))
	late := intend(t, l, rec, "d1")
	adopt(t, other, "op-2", "d2")
	_, err = l.Save(t.Context(), late, kvlock.Running, nil)
	wantErr(t, "Save after an Adopt", err, kvlock.ErrAdopted)
}

// TestAnIntendedTakeOverWhoseAnswerIsLost: somebody wrote the record before the worker could look. The take-over is known by its token,
// and its fence is its own write's revision.
func TestAnIntendedTakeOverWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		srv := natstest.Start(t)
		store := srv.Store(t)
		calm := kvlock.New(store)
		old := granted(t, store, calm, "op-1", kvlock.Exclusive("volume.v1"))
		shaken := kvlock.New(srv.Store(t, kvtx.WithInterceptor(between(lost, func(ctx context.Context) error {
			_, err := calm.Cancel(ctx, "op-1", "user")
			return err
		}))))
		g, err := shaken.Save(t.Context(), intend(t, shaken, old, "d1"), kvlock.Running, []byte("one"))
		if err != nil {
			t.Fatal(err)
		}
		now := record(t, calm, "op-1")
		if now.Epoch != 1 || now.Position != 1 || now.Cancel == nil || g.Fence() != now.Fence() || !old.Fence().Less(g.Fence()) ||
			!lost && g.Fence().Rev >= uint64(now.Revision) {
			t.Errorf("request lost %t: grant %+v, record %+v: want one take-over with its own fence, and the cancel", lost, g, now)
		}
		save(t, calm, g, kvlock.Running, "two")
	}
}

func TestIntendIsForOperationsThatNobodyHad(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	rec := granted(t, store, l, "op-1", kvlock.Exclusive("volume.v1"))
	stale := intend(t, l, rec, "d0")
	g := adopt(t, l, "op-1", "d1")
	_, err := l.Intend(record(t, l, "op-1"), "w", "d2")
	wantErr(t, "Intend of one that was taken over", err, kvlock.ErrInvalid)
	save(t, l, g, kvlock.Stuck, "")
	_, err = l.Intend(record(t, l, "op-1"), "w", "d2")
	wantErr(t, "Intend of a stuck one", err, kvlock.ErrStuck)
	if err := l.Break(t.Context(), "op-1", "it must go", kvlock.NothingFenced); err != nil {
		t.Fatal(err)
	}
	_, err = l.Intend(record(t, l, "op-1"), "w", "d2")
	wantErr(t, "Intend of one that has ended", err, kvlock.ErrEnded)
	_, err = l.Intend(rec, "w", "")
	wantErr(t, "Intend without a token", err, kvlock.ErrInvalid)

	// The record expires, and the ID is used again.
	_, err = store.Update(t.Context(), l.Keys("op-1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := s.Get(kvlock.OwnerKey("op-1"))
		if err == nil {
			tx.Delete(e.Key, e.Revision)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	granted(t, store, l, "op-1", kvlock.Exclusive("volume.v1"))
	_, err = l.Save(t.Context(), stale, kvlock.Running, nil)
	wantErr(t, "Save with an intention for the first of two operations", err, kvlock.ErrAdopted)
}

func TestAnIntendedTakeOverIsOfOneDispatchAndOneEra(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	g := intend(t, l, granted(t, store, l, "op-1", kvlock.Exclusive("volume.v1")), "d1")
	_, err := store.Update(t.Context(), l.Keys("op-1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		_, err := l.StageRedispatch(s, tx, "op-1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Save(t.Context(), g, kvlock.Running, nil)
	wantErr(t, "Save of who got the old dispatch", err, kvlock.ErrAdopted)
	save(t, l, intend(t, l, record(t, l, "op-1"), "d2"), kvlock.Running, "of the new one")

	rec := granted(t, store, l, "op-2", kvlock.Exclusive("volume.v2"))
	restored := kvlock.New(store, kvlock.WithEra(2))
	_, err = restored.Intend(rec, "w", "d1")
	wantErr(t, "Intend in the next era", err, kvlock.ErrInvalid)
	adopt(t, restored, "op-2", "d1")
}
