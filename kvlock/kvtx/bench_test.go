package kvtx_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fmt"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// BenchmarkBare is the floor: bare atomic batches, one in flight, and as many plain updates sent together. Where they cross is
// maxPlain in send.go.
func BenchmarkBare(b *testing.B) {
	bareRuns(b, newStore(b))
}

// BenchmarkBareReplicated is the same on three servers, for maxPlainReplicated.
func BenchmarkBareReplicated(b *testing.B) {
	urls := serveCluster(b)
	js := connect(b, urls[0])
	var s *kvtx.Store
	until(b, func() bool {
		var err error
		c, cancel := context.WithTimeout(b.Context(), 5*time.Second)
		defer cancel()
		s, err = kvtx.Ensure(c, js, kvtx.Config{Replicas: 3})
		b.Log(err)
		return err == nil
	})
	b.Cleanup(func() { _ = s.Close() })
	bareRuns(b, s)
}

func bareRuns(b *testing.B, s *kvtx.Store) {
	bare := s.Bare(300)
	for _, n := range []int{1, 2, 4, 8, 12, 16, 24, 32, 64, 256, 500} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := bare.Batch(b.Context(), n); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "msgs/s")
		})
		if n > 64 {
			continue
		}
		b.Run(fmt.Sprintf("updates=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := bare.Updates(b.Context(), n); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
	if err := bare.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUpdate is what commits of functions make of the floor: each writes three records and a dispatch, one of them an own record that it
// wrote before, two new ones.
func BenchmarkUpdate(b *testing.B) {
	s := newStore(b)
	value := make([]byte, 300)
	for _, workers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("messages=4/workers=%d", workers), func(b *testing.B) {
			parallel(b, workers, 4, func(w, i int) error {
				own := fmt.Sprintf("own.%d", w)
				id := fmt.Sprintf("%d-%d-%d", b.N, w, i)
				a, c := "op."+id, "volume."+id
				_, err := s.Update(b.Context(), []string{own, a, c}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
					for _, key := range []string{own, a, c} {
						e, err := snap.Get(key)
						if err != nil {
							return err
						}
						tx.Put(key, value, e.Revision)
					}
					tx.Publish(s.DispatchSubject("req", "b", id, "1"), value, nil)
					return nil
				}, kvtx.AssumeAbsent(a, c))
				return err
			})
		})
	}
	for _, workers := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("messages=1/workers=%d", workers), func(b *testing.B) {
			parallel(b, workers, 1, func(w, i int) error {
				own := fmt.Sprintf("own.%d", w)
				_, err := s.Update(b.Context(), []string{own}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
					e, err := snap.Get(own)
					tx.Put(own, value, e.Revision)
					return err
				})
				return err
			})
		})
	}
	for _, workers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("counter/workers=%d", workers), func(b *testing.B) {
			parallel(b, workers, 1, func(w, i int) error {
				_, err := s.Update(b.Context(), []string{"quota.p"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
					e, err := snap.Get("quota.p")
					tx.Put("quota.p", append(e.Value[:0:0], value...), e.Revision)
					return err
				})
				return err
			})
		})
	}
}

// parallel runs b.N calls of do by so many workers, and reports what they wrote.
func parallel(b *testing.B, workers, messages int, do func(worker, i int) error) {
	b.ReportAllocs()
	var wg sync.WaitGroup
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	for w := range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				begin := time.Now()
				if err := do(w, i); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(begin)
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(b.N*messages)/b.Elapsed().Seconds(), "msgs/s")
}
