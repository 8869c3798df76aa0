package kvlock_test

import (
	"errors"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

func TestSmoke(t *testing.T) {
	t.Parallel()
	l := kvlock.New(natstest.Start(t).Store(t))
	ctx := t.Context()
	g, err := l.TryAcquire(ctx, "op-1", []byte("p"), kvlock.Exclusive("volume.v1"), kvlock.Shared("snapshot.s1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(g.Fence(), g.Revision())
	_, err = l.TryAcquire(ctx, "op-2", nil, kvlock.Shared("volume.v1"))
	if !errors.Is(err, kvlock.ErrConflict) {
		t.Fatal(err)
	}
	t.Log(err)
	g2, rec, err := l.Adopt(ctx, "op-1", "w1", "t1")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", rec)
	if err := l.Release(ctx, g); !errors.Is(err, kvlock.ErrAdopted) {
		t.Fatal(err)
	}
	g2, err = l.Save(ctx, g2, kvlock.Running, []byte("q"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(ctx, g2); err != nil {
		t.Fatal(err)
	}
	lk, err := l.Holders(ctx, "volume.v1")
	t.Logf("%+v %v", lk, err)
	for h, err := range l.Locks(ctx) {
		t.Error(h, err)
	}
	for r, err := range l.Records(ctx) {
		t.Log(r, err)
	}
}
