package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestSmallHeapsMayGrowByMoreThanTheirSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 400}, {1 << 20, 400}, {16 << 20, 400}, {32 << 20, 200}, {64 << 20, 100}, {1 << 30, 100}} {
		if got := gcPercent(c.live); got != c.want {
			t.Errorf("gcPercent(%d MiB) = %d, want %d", c.live>>20, got, c.want)
		}
	}
}

// The setting is the whole process's, so the test is not parallel.
func TestThePaceFollowsTheHeap(t *testing.T) { //nolint:paralleltest // see above
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	paceCollector()
	large := make([]byte, 128<<20)
	collectUntil(t, "a large heap may double", func(percent uint64) bool { return percent == 100 })
	runtime.KeepAlive(large)
	collectUntil(t, "a small heap may grow by more", func(percent uint64) bool { return percent > 100 })
}

func collectUntil(t *testing.T, what string, cond func(percent uint64) bool) {
	t.Helper()
	late := time.Now().Add(20 * time.Second)
	for now := []metrics.Sample{{Name: "/gc/gogc:percent"}}; ; metrics.Read(now) {
		if now[0].Value.Kind() == metrics.KindUint64 && cond(now[0].Value.Uint64()) {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("waited in vain until %s", what)
		}
		runtime.GC()
	}
}
