package kvlock_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TestAWakeIsServedThoughTheRequestForItWasLost: whoever serves wakes asks for them once and waits. A request that a server dropped, or had
// when it died, is made again, though nobody says so.
func TestAWakeIsServedThoughTheRequestForItWasLost(t *testing.T) {
	t.Parallel()
	lossy := &natstest.Lossy{}
	js, err := jetstream.New(natstest.Start(t).Conn(t, nats.SetCustomDialer(lossy)))
	if err != nil {
		t.Fatal(err)
	}
	store, err := kvtx.Ensure(t.Context(), js, kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	var seen eventLog
	locks := kvlock.New(store, kvlock.WithObserver(&seen))
	lossy.Lose("CONSUMER.MSG.NEXT")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serves := make(chan error, 1)
	go func() { serves <- locks.ServeWakes(ctx) }()
	if _, err := js.Publish(t.Context(), store.DispatchSubject("wake", "k", "1"), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the wake is served", func() bool { return len(seen.of(kvlock.Woken)) > 0 })
	cancel()
	if err := <-serves; err != nil || !lossy.Lost() {
		t.Errorf("ServeWakes: %v; the request was lost: %v", err, lossy.Lost())
	}
}
