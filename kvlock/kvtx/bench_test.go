package kvtx_test

import (
	"context"
	"errors"
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

// BenchmarkBareReplicated is the same on three servers.
func BenchmarkBareReplicated(b *testing.B) {
	urls := serveCluster(b)
	js := connect(b, urls[0])
	var s *kvtx.Store
	until(b, func() bool {
		var err error
		c, cancel := context.WithTimeout(b.Context(), 5*time.Second)
		defer cancel()
		s, err = kvtx.Ensure(c, js, kvtx.Config{Replicas: 3})
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

// BenchmarkShareOfFloor takes turns between commits of 4 messages by many workers and bare batches of as many messages, so that a disk
// that others use is the same for both, and reports the share of the floor that the commits reach, and how many commits a batch has.
func BenchmarkShareOfFloor(b *testing.B) {
	for _, workers := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			var f faults
			s := newStore(b, f.option())
			bare := s.Bare(300)
			value := make([]byte, 300)
			var floor, ours time.Duration
			var n, batches int
			for b.Loop() {
				begin, before := time.Now(), f.seen(kvtx.Batch)
				var wg sync.WaitGroup
				for w := range workers {
					wg.Go(func() {
						for i := range 50 {
							if err := create(b.Context(), s, fmt.Sprintf("own.%d", w), fmt.Sprintf("%d-%d-%d", n, w, i), value); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				n += workers * 50
				ours += time.Since(begin)
				batches += f.seen(kvtx.Batch) - before
				size := min(workers*4, 500)
				for range workers * 50 * 4 / size {
					took, err := bare.Batch(b.Context(), size)
					if err != nil {
						b.Fatal(err)
					}
					floor += took
				}
			}
			b.ReportMetric(float64(floor)/float64(ours), "share")
			b.ReportMetric(float64(n)/float64(batches), "commits/batch")
			b.ReportMetric(float64(n)/ours.Seconds(), "commits/s")
		})
	}
}

// create is a commit of three records and a dispatch: one that the worker has written before, and two new ones.
func create(ctx context.Context, s *kvtx.Store, own, id string, value []byte) error {
	a, c := "op."+id, "volume."+id
	_, err := s.Update(ctx, []string{own, a, c}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
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
}

// BenchmarkUpdate is what commits of functions make of the floor: each writes three records and a dispatch, one of them an own record that it
// wrote before, two new ones.
func BenchmarkUpdate(b *testing.B) {
	s := newStore(b)
	value := make([]byte, 300)
	for _, workers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("messages=4/workers=%d", workers), func(b *testing.B) {
			parallel(b, workers, 4, func(w, i int) error {
				return create(b.Context(), s, fmt.Sprintf("own.%d", w), fmt.Sprintf("%d-%d-%d", b.N, w, i), value)
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

// BenchmarkContended is one record that two processes increment all the time.
func BenchmarkContended(b *testing.B) {
	url := serve(b).ClientURL()
	stores := []*kvtx.Store{open(b, url), open(b, url)}
	parallel(b, 32, 1, func(w, i int) error {
		keys := []string{"hot", fmt.Sprintf("own.%d", w)}
		_, err := stores[w%2].Update(b.Context(), keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error { return incrementAll(snap, tx, keys) })
		return err
	})
}

// BenchmarkWatch is the time until a watch of 10,000 records of 500 bytes has caught up.
func BenchmarkWatch(b *testing.B) {
	s := newStore(b)
	for i := range 20 {
		commit(b, s, func(tx *kvtx.Tx) {
			for j := range kvtx.MaxMessages {
				tx.Put(fmt.Sprintf("volume.%d-%d", i, j), make([]byte, 500), 0)
			}
		})
	}
	enough := errors.New("enough")
	for b.Loop() {
		n := 0
		err := s.Watch(b.Context(), []string{"volume.*", "op.*", "snapshot.*"}, func(ev kvtx.Event) error {
			if ev.CaughtUp {
				return enough
			}
			n++
			return nil
		})
		if !errors.Is(err, enough) || n != 20*kvtx.MaxMessages {
			b.Fatal(n, err)
		}
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
