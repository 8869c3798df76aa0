package kvlock_test

import (
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func TestRepairTakesOutWhoDoesNotLiveAndGrants(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	store := srv.Store(t)
	l := kvlock.New(store)
	key := kvlock.Exclusive("volume.v1")
	acquire(t, l, "op-1", key)
	if _, err := l.Queue(t.Context(), "op-2", nil, kvlock.Wait{Dispatch: "req.op-2"}, key); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "Repair of a living one", l.Repair(t.Context(), "volume.v1", "op-1", "test"), kvlock.ErrInvalid)
	wantErr(t, "Repair of one that waits", l.Repair(t.Context(), "volume.v1", "op-2", "test"), kvlock.ErrInvalid)
	wantErr(t, "Repair of a stranger", l.Repair(t.Context(), "volume.v1", "op-9", "test"), kvlock.ErrNotFound)
	kvlocktest.RequireHeld(t, l, "op-1", key)

	// The record of op-1 is lost, which only a corruption does.
	var tx kvtx.Tx
	tx.Delete(kvlock.OwnerKey("op-1"), record(t, l, "op-1").Revision)
	if _, err := store.Commit(t.Context(), &tx); err != nil {
		t.Fatal(err)
	}
	if problems, err := l.Verify(t.Context()); err != nil || len(problems) != 1 || problems[0].Owner != "op-1" {
		t.Fatalf("verify = %v, %v", problems, err)
	}
	if err := l.Repair(t.Context(), "volume.v1", "op-1", "its record was lost"); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireHeld(t, l, "op-2", key)
	kvlocktest.RequireSound(t, l)
	if rec := record(t, l, "op-2"); rec.Phase != kvlock.Granted {
		t.Errorf("who waited is %s", rec.Phase)
	}
	wantErr(t, "Repair again", l.Repair(t.Context(), "volume.v1", "op-1", "test"), kvlock.ErrNotFound)
}
