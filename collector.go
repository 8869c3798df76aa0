package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How far the heap may grow until the next garbage collection: to its double, or by growth bytes where that is more, but by no more than
// maxPercent. Go's own setting, to double always, collects the small heap of a fresh process many times a second under load.
const (
	growth     = 64 << 20
	maxPercent = 400
)

// paceCollector sets when the next collection begins, now and after each collection.
func paceCollector() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(gcPercent(live[0].Value.Uint64()))
	type mark struct{ _ *byte } // garbage at once: its cleanup runs after the next collection
	runtime.AddCleanup(new(mark), func(struct{}) { paceCollector() }, struct{}{})
}

func gcPercent(live uint64) int {
	return int(min(max(100, 100*growth/max(live, 1)), maxPercent))
}
