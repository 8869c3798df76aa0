package kvtx_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scoria-storage/scoria/kvlock/internal/memserver"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TestNobodyWaitsLongAfterAServerThatDidNotAnswer: a group whose batch took ten minutes, because the server did not answer, is followed by a
// single commit. It does not wait for the others of that group to come again for half of those ten minutes.
func TestNobodyWaitsLongAfterAServerThatDidNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		takes := []time.Duration{time.Second, 10 * time.Minute}
		s, err := kvtx.OpenOn(t.Context(), memserver.New(kvtx.DefaultBucket).Conn(), kvtx.Config{}, kvtx.Chance{
			Jitter: func(d time.Duration) time.Duration { return d }, Turn: func(context.Context) {},
		}, kvtx.WithInterceptor(func(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
			if call.Kind == kvtx.Batch && len(takes) > 0 {
				d := takes[0]
				takes = takes[1:]
				<-time.After(d)
			}
			return next(ctx)
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		put := func(i int) {
			var tx kvtx.Tx
			tx.Put(fmt.Sprint("k.a", i), nil, 0)
			tx.Put(fmt.Sprint("k.b", i), nil, 0)
			if _, err := s.Commit(context.Background(), &tx); err != nil {
				t.Error(err)
			}
		}
		var all sync.WaitGroup
		for i := range 5 { // one, and then a group of those that came meanwhile
			all.Go(func() { put(i) })
			synctest.Wait()
		}
		all.Wait()
		if len(takes) > 0 {
			t.Fatal("no batch took long: the test is blind")
		}
		begin := time.Now()
		put(5)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("the next commit took %v", took)
		}
	})
}
