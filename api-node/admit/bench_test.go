package admit_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
)

// BenchmarkSubmit is an accepted create of an empty volume, beside a bare commit of four records.
func BenchmarkSubmit(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("bare4-%d", clients), func(b *testing.B) {
			store := openStore(b)
			parallel(b, clients, func() error {
				var tx kvtx.Tx
				for range 4 {
					tx.Put("bare."+string(newOp()), make([]byte, 300), 0)
				}
				_, err := store.Commit(b.Context(), &tx)
				return err
			})
		})
		b.Run(fmt.Sprintf("create-%d", clients), func(b *testing.B) {
			store := openStore(b)
			v := view.New(store, nil)
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- v.Run(ctx) }()
			defer func() { cancel(); <-done }()
			locks := kvlock.New(store)
			w := admittest.New(store, locks, "n1")
			if err := w.Register(b.Context(), records.Backend{Name: "b1"}, -1); err != nil {
				b.Fatal(err)
			}
			for _, ok := v.Pool("b1"); !ok; _, ok = v.Pool("b1") {
			}
			a := admit.New(store, locks, v, admit.Defaults{Limits: roomy}, nil)
			parallel(b, clients, func() error {
				acc, err := a.Submit(b.Context(), admit.Submission{Caller: alice, Request: &messages.CreateVolume{SizeGiB: 1}})
				if err != nil {
					return err
				}
				return v.Wait(b.Context(), acc.Revision)
			})
		})
	}
}

func openStore(b *testing.B) *kvtx.Store {
	b.Helper()
	store, err := kvtx.Ensure(b.Context(), natstest.Start(b).JetStream(b), kvtx.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	return store
}

func parallel(b *testing.B, clients int, f func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
