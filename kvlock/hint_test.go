package kvlock

import (
	"errors"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

// An ID may be used again when the record of its first operation has gone. A process that remembers that record must not take it for the
// one that waits.
func TestAWaiterIsNotJudgedByARememberedRecord(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	here, there := New(srv.Store(t)), New(srv.Store(t))
	here.retention, there.retention = time.Second, time.Second
	key := Exclusive("a")

	g, err := there.TryAcquire(t.Context(), "again", nil, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := there.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if rec, err := here.Record(t.Context(), "again"); err != nil || rec.Phase != Done {
		t.Fatalf("record %s, %v, want it done, to be remembered", rec.Phase, err)
	}
	holder, err := here.TryAcquire(t.Context(), "holder", nil, key)
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); !errors.Is(err, ErrNotFound); _, err = there.Record(t.Context(), "again") {
		if time.Since(begin) > time.Minute {
			t.Fatal("the record did not go")
		}
	}
	if rec, err := there.Queue(t.Context(), "again", nil, Wait{}, key); err != nil || rec.Phase != Queued {
		t.Fatalf("queued again: %s, %v", rec.Phase, err)
	}
	if err := here.Release(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	if rec, err := there.Record(t.Context(), "again"); err != nil || rec.Phase != Running {
		t.Errorf("the waiter is %s, %v, want it to have its claim", rec.Phase, err)
	}
}
