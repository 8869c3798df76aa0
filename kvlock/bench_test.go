package kvlock_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

// BenchmarkOwnKeys is an acquire and its release, each worker on a key of its own.
func BenchmarkOwnKeys(b *testing.B) {
	cycles(b, func(worker int) string { return fmt.Sprint("own-", worker) })
}

// BenchmarkHotKey is a key that is handed over from one worker to the next.
func BenchmarkHotKey(b *testing.B) {
	cycles(b, func(int) string { return "hot" })
}

// cycles shares b.N cycles among 1, 16 and 64 workers of one process.
func cycles(b *testing.B, key func(worker int) string) {
	l := kvlock.New(natstest.Start(b).Store(b))
	for _, workers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			todo := make(chan string, b.N)
			for i := range b.N {
				todo <- fmt.Sprintf("op-%d-%d-%d", workers, b.N, i)
			}
			close(todo)
			b.ResetTimer()
			var all sync.WaitGroup
			for w := range workers {
				all.Go(func() {
					for owner := range todo {
						g, err := l.Acquire(b.Context(), owner, nil, kvlock.Wait{}, kvlock.Exclusive(key(w)))
						if err == nil {
							err = l.Release(b.Context(), g)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
		})
	}
}
