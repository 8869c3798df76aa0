package kvtx_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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

// TestOfTwoWhoCreateADeletedKeyOneDoes: a key that was deleted has a marker, on which the server refuses to create it. Whoever then simply
// writes it takes it from the one who was faster.
func TestOfTwoWhoCreateADeletedKeyOneDoes(t *testing.T) {
	t.Parallel()
	url := serve(t).ClientURL()
	var stores []*kvtx.Store
	for range 4 {
		stores = append(stores, open(t, url))
	}
	for round := range 20 {
		if e := get(t, stores[0], "k.a"); e.Exists {
			commit(t, stores[0], func(tx *kvtx.Tx) { tx.Delete("k.a", e.Revision) })
		}
		for _, s := range stores {
			get(t, s, "k.a") // Each knows that it is absent, or the marker.
		}
		var all sync.WaitGroup
		var made atomic.Int64
		for i, s := range stores {
			all.Go(func() {
				var tx kvtx.Tx
				tx.Put("k.a", fmt.Appendf(nil, "%d", i), 0)
				if round%2 == 1 { // As a batch.
					tx.Put(fmt.Sprintf("own.%d.%d", i, round), nil, 0)
				}
				switch _, err := s.Commit(ctx(t), &tx); {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, kvtx.ErrConflict):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := made.Load(); n != 1 {
			t.Fatalf("round %d: %d of %d created the key, want one", round, n, len(stores))
		}
	}
}

// TestAKeyValueClientThatTakesTheBucketIsNoticed: CreateOrUpdateKeyValue on the bucket restores direct reads and drops the dispatch subjects
// and the flag for batches, without an error.
func TestAKeyValueClientThatTakesTheBucketIsNoticed(t *testing.T) {
	t.Parallel()
	for name, stage := range map[string]func(*kvtx.Store, *kvtx.Tx){
		"batch": func(_ *kvtx.Store, tx *kvtx.Tx) { tx.Put("k.a", nil, 0); tx.Put("k.b", nil, 0) },
		"dispatch": func(s *kvtx.Store, tx *kvtx.Tx) {
			tx.Put("k.a", nil, 0)
			tx.Publish(s.DispatchSubject("req", "1"), nil, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t).ClientURL()
			s := open(t, url)
			if _, err := connect(t, url).CreateOrUpdateKeyValue(ctx(t), jetstream.KeyValueConfig{Bucket: s.Bucket(), Storage: jetstream.FileStorage, LimitMarkerTTL: time.Hour}); err != nil {
				t.Fatal(err)
			}
			var tx kvtx.Tx
			stage(s, &tx)
			_, err := s.Commit(ctx(t), &tx)
			var differs *kvtx.StreamError
			if !errors.As(err, &differs) {
				t.Fatalf("Commit = %v, want a StreamError", err)
			}
			if _, err := s.Get(ctx(t), "k.a"); !errors.As(err, &differs) {
				t.Errorf("Get after that = %v, want a StreamError: nothing goes on", err)
			}
			if _, err := kvtx.Open(ctx(t), connect(t, url), kvtx.Config{}); !errors.As(err, &differs) {
				t.Errorf("Open = %v, want a StreamError", err)
			}
		})
	}
}

// TestRevisionsAreThoseOfTheMessages: the server acknowledges a batch with its last sequence alone. What a commit says of its keys is what
// stands there, with checks before them and messages behind them.
func TestRevisionsAreThoseOfTheMessages(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	anchor := commit(t, s, func(tx *kvtx.Tx) { tx.Put("anchor", nil, 0) }).Revision("anchor")
	r := commit(t, s, func(tx *kvtx.Tx) {
		tx.Check("anchor", anchor)
		tx.Check("nothing", 0)
		tx.Put("k.a", nil, 0)
		tx.Put("k.b", nil, 0)
		tx.Publish(s.DispatchSubject("req", "1"), nil, nil)
	})
	for _, key := range []string{"k.a", "k.b"} {
		if e := get(t, s, key); r.Revision(key) != e.Revision {
			t.Errorf("%s is at %d, the commit says %d", key, e.Revision, r.Revision(key))
		}
	}
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", nil, r.Revision("k.a")) })
}
