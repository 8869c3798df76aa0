package kvtx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TestAWatchWhoseRequestIsLostBeginsAgain: a server that is stopped never answers the request for a consumer, and one that does not know yet
// where the consumer is drops the request for messages. However long the caller's own deadline is, both are made again.
func TestAWatchWhoseRequestIsLostBeginsAgain(t *testing.T) {
	t.Parallel()
	for _, request := range []string{"CONSUMER.CREATE", "CONSUMER.MSG.NEXT"} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			lossy := &natstest.Lossy{}
			nc, err := nats.Connect(serve(t).ClientURL(), nats.SetCustomDialer(lossy))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			s, err := kvtx.Ensure(ctx(t), js, kvtx.Config{}, kvtx.WithAckTimeout(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", nil, 0) })
			lossy.Lose(request)
			long, cancel := context.WithTimeout(ctx(t), 30*time.Second)
			defer cancel()
			enough := errors.New("enough")
			err = s.Watch(long, []string{"k.a"}, func(ev kvtx.Event) error {
				if ev.CaughtUp {
					return enough
				}
				return nil
			})
			if !errors.Is(err, enough) || !lossy.Lost() {
				t.Errorf("Watch = %v, a %s was lost: %v; want it to catch up all the same", err, request, lossy.Lost())
			}
		})
	}
}
