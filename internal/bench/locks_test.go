package bench

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

func TestEveryCaseOfLocksIsMeasuredAndLeavesNoLock(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	var asked atomic.Uint64
	sent := func() Sent { n := asked.Add(1); return Sent{Bytes: 1000 * n, Batches: n} }
	length := Length{Warm: 40 * time.Millisecond, Row: 400 * time.Millisecond, Floor: 40 * time.Millisecond}
	rows, err := Locks(t.Context(), LockTarget{Store: store, Sent: sent}, length, nil, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	got, ops := map[string]int{}, map[string]float64{}
	for _, r := range rows {
		got[r.Case]++
		ops[r.Case] += r.Ops
		if r.Floor <= 0 || r.Messages < 2 || r.Bytes <= 0 {
			t.Errorf("row without figures: %+v", r)
		}
		if r.Jain > 1 || r.Case != "hot-key" && r.Jain > 0 {
			t.Errorf("fairness of %+v", r)
		}
	}
	for name, want := range map[string]int{"own-keys": 4, "hot-key": 3, "readers-writer": 3, "thousand-readers": 3} {
		if got[name] != want {
			t.Errorf("%d rows of %s, want %d", got[name], name, want)
		}
		if ops[name] <= 0 {
			t.Errorf("no row of %s counted a cycle", name)
		}
	}
	kvlocktest.RequireFree(t, kvlock.New(store))
}

func TestFairness(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		shares []int
		want   float64
	}{{[]int{5, 5, 5, 5}, 1}, {[]int{9, 0, 0}, 0.333}, {[]int{1, 3}, 0.8}, {[]int{0, 0}, 0}} {
		workers := make([][]time.Duration, len(c.shares))
		for i, n := range c.shares {
			workers[i] = make([]time.Duration, n)
		}
		if got := jain(workers); got != c.want {
			t.Errorf("jain(%v) = %v, want %v", c.shares, got, c.want)
		}
	}
}
