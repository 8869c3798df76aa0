package view

import (
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// The server may deliver the beginning of a commit before it has stored the end: the feed must not publish it.
func TestTheBeginningOfACommitIsNotPublished(t *testing.T) {
	t.Parallel()
	store, err := kvtx.Ensure(t.Context(), natstest.Start(t).JetStream(t), kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	v := New(store, nil)
	f := newFeed(v)
	defer f.stop()
	must(0, f.event(kvtx.Event{CaughtUp: true, Sequence: 1}))

	const op, vol = "6f2b3f4e-9d0c-4b7e-8a65-0123456789ab", "6f2b3f4e-9d0c-4b7e-8a65-0123456789ac"
	entry := acquired(t, store, op, vol)
	seq := func(n kvtx.Revision, key string, value []byte) kvtx.Event {
		return kvtx.Event{Sequence: n, Entry: kvtx.Entry{Key: key, Value: value, Revision: n, Exists: true}}
	}
	must(0, f.event(seq(10, entry.Key, entry.Value)))
	f.late() // the timer of an event before it went off, and waited for the lock
	if _, ok := v.Operation(op); ok || v.Applied() != 1 {
		t.Fatal("an operation is published without its commit")
	}
	volume := records.Encode(block.Volume{ID: vol, Project: "p1", Status: block.VolumeCreating})
	must(0, f.event(seq(12, records.VolumeKey(vol), volume)))
	if _, ok := v.Volume(vol); ok || v.Applied() != 1 {
		t.Fatal("a volume is published without its commit")
	}
	must(0, f.event(seq(13, receipts+"x", nil)))
	if row, ok := v.Volume(vol); !ok || row.Holder == nil || v.Applied() != 13 {
		t.Fatalf("after the receipt: %+v, %v, applied %d", row, ok, v.Applied())
	}
	// What is one message is published at once.
	must(0, f.event(seq(14, records.VolumeKey(vol), records.Encode(block.Volume{ID: vol, Project: "p1", Name: "n", Status: block.VolumeCreating}))))
	if row, _ := v.Volume(vol); row.Name != "n" || v.Applied() != 14 {
		t.Errorf("a single write is not published: %+v", row)
	}
	// What the server said would follow is waited for, and not for ever.
	ev := seq(15, records.VolumeKey(vol), records.Encode(block.Volume{ID: vol, Project: "p1", Name: "m", Status: block.VolumeCreating}))
	ev.Pending = 3
	must(0, f.event(ev))
	if v.Applied() != 14 {
		t.Error("published before what follows")
	}
	if err := v.Wait(t.Context(), 15); err != nil {
		t.Fatal(err)
	}
	// So is a receipt.
	f.mu.Lock()
	f.open, f.count, f.seq = true, 1, 16
	f.publishIn(time.Millisecond)
	f.mu.Unlock()
	if err := v.Wait(t.Context(), 16); err != nil {
		t.Fatal(err)
	}
}

func acquired(t *testing.T, store *kvtx.Store, op, vol string) kvtx.Entry {
	t.Helper()
	locks := kvlock.New(store)
	payload := sagakv.NewPayload(records.Encode(records.Operation{ID: block.OperationID(op), Kind: block.VolumeCreate, Version: 1, Project: "p1", Resource: vol,
		Request: messages.Encode(&messages.CreateVolume{Volume: block.VolumeID(vol), SizeGiB: 1}), Submitted: time.Now()}))
	if _, err := locks.TryAcquire(t.Context(), op, payload, kvlock.Exclusive("volume."+vol)); err != nil {
		t.Fatal(err)
	}
	e, err := store.Get(t.Context(), kvlock.OwnerKey(op))
	if err != nil {
		t.Fatal(err)
	}
	return e
}
