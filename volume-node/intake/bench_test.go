package intake_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/null"
	"github.com/scoria-storage/scoria/volume-node/intake"
	"github.com/scoria-storage/scoria/volume-node/operations"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// BenchmarkCreatesEnded measures creates from their admission to their end, admission and workers in one process, as in
// `scoria up`.
func BenchmarkCreatesEnded(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients-%d", clients), func(b *testing.B) { createsEnded(b, clients) })
	}
}

func createsEnded(b *testing.B, clients int) {
	var exchanges [4]atomic.Int64
	var took [4]atomic.Int64
	w := operationstest.New(b, natstest.Start(b).JetStream(b), kvtx.WithInterceptor(func(ctx context.Context, c kvtx.Call, next func(context.Context) error) error {
		began := time.Now()
		err := next(ctx)
		exchanges[c.Kind].Add(1)
		took[c.Kind].Add(int64(time.Since(began)))
		return err
	}))
	w.Register(b, backend, null.New(), 1<<30)
	operationstest.Put(b, w, records.QuotaKey(project), func(q *records.Quota) { q.Limits = &records.Limits{Volumes: -1, Snapshots: -1, GiB: -1} })
	admitter := admit.New(w.Store, w.Locks, cached{operationstest.Hints{T: b, World: w}.Backends()}, admit.Defaults{}, nil)
	var waiting sync.Map
	k, err := intake.New(intake.Config{Backends: []string{backend}, Worker: "w1"}, intake.Deps{
		Store: w.Store, Locks: w.Locks, Input: operations.Input,
		Registry: operations.Registry(operations.Env{Store: w.Store, Locks: w.Locks, Drivers: map[string]driver.Driver{backend: null.New()}, NodeName: "n1"}),
		Observe: func(e intake.Event) {
			if ch, ok := waiting.LoadAndDelete(e.Operation); ok && e.Kind == intake.Ended {
				close(ch.(chan struct{}))
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	<-k.Ready()
	b.ResetTimer()
	var n atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for n.Add(1) <= int64(b.N) {
				id := block.OperationID(newID())
				ch := make(chan struct{})
				waiting.Store(string(id), ch)
				_, err := admitter.Submit(ctx, admit.Submission{Caller: admit.Caller{Project: project, User: "u"}, Operation: id, Request: create("")})
				if err != nil {
					b.Error(err)
					return
				}
				<-ch
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
	for _, k := range []kvtx.Kind{kvtx.Read, kvtx.Write, kvtx.Batch} {
		n := max(exchanges[k].Load(), 1)
		b.Logf("%s: %.2f per create, %.2f ms each", k, float64(n)/float64(b.N), float64(took[k].Load())/float64(n)/1e6)
	}
	stop()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

// cached is what a view knows without asking.
type cached struct{ backends []records.Backend }

func (c cached) Backends() []records.Backend { return c.backends }
func (c cached) Backend(name string) (records.Backend, bool) {
	return c.backends[0], name == c.backends[0].Name
}
func (cached) Pool(name string) (records.Pool, bool) {
	return records.Pool{Backend: name, TotalBytes: -1}, true
}
func (cached) Nodes() []records.Node {
	return []records.Node{{Name: "n1", Backends: []string{backend}}}
}
func (cached) CreditNodes(string) []string { return nil }
