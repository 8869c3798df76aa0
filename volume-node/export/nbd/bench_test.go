package nbd_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/export/nbd/nbdtest"
)

// BenchmarkRandom measures requests of 4 KiB at random offsets of a file in memory, at several depths, through one
// connection; client and server share the processors.
func BenchmarkRandom(b *testing.B) {
	const size = 64 * mib
	s := start(b, size, false)
	full := bytes.Repeat([]byte{1}, 8*mib)
	for off := int64(0); off < size; off += int64(len(full)) {
		want(b, "fill", s.dial(b).WriteAt(full, off), nil)
	}
	for _, command := range []uint16{nbdtest.Read, nbdtest.Write} {
		for _, depth := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/depth-%d", map[uint16]string{nbdtest.Read: "read", nbdtest.Write: "write"}[command], depth), func(b *testing.B) {
				c := s.dial(b)
				var left atomic.Int64
				left.Store(int64(b.N))
				b.SetBytes(4096)
				b.ReportAllocs()
				b.ResetTimer()
				var all sync.WaitGroup
				for range depth {
					all.Go(func() {
						p := make([]byte, 4096)
						for left.Add(-1) >= 0 {
							off := rand.Int64N(size/4096) * 4096
							if err := c.Do(command, 0, off, 4096, p); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "IOPS")
			})
		}
	}
}
