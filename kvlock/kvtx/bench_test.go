package kvtx_test

import (
	"fmt"
	"testing"
)

// BenchmarkBare is the floor: bare atomic batches, one in flight, and as many plain updates sent together.
func BenchmarkBare(b *testing.B) {
	s := newStore(b)
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
