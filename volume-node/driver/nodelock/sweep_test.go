package nodelock

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sweepForever is a child process that would remove every lock file at once, until it is ended.
func sweepForever(f *Folder) error {
	say("sweeps")
	for {
		if err := f.Sweep(context.Background(), 0, func(string) (bool, error) { return true, nil }); err != nil {
			return err
		}
	}
}

// TestSweepsOfOtherProcessesNeverLetTwoHoldOneLock takes a lock whose file four other processes remove whenever they can.
func TestSweepsOfOtherProcessesNeverLetTwoHoldOneLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 4 {
		start(t, roleSweep, dir, 1).expect(t, "sweeps")
	}
	const wanted = 200
	var holders, removed, operations atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for range 2 { // each with descriptors of its own, as processes have
		f := open(t, dir, Options{})
		all.Go(func() {
			for removed.Load() < wanted && ctx.Err() == nil {
				l, err := f.Acquire(ctx, "v1", claim(1, fmt.Sprintf("op-%d", operations.Add(1))))
				if err != nil {
					break
				}
				if n := holders.Add(1); n > 1 {
					t.Errorf("%d hold the lock", n)
				}
				if err := l.Durable(); err != nil { // which takes its time
					t.Error(err)
				}
				if r, ok, err := f.Last("v1"); !ok || err != nil {
					t.Errorf("the file of a lock that is held is gone: %v, %v", ok, err)
				} else if r.Seq == 1 {
					removed.Add(1) // the file is a new one: else there is a record before
				}
				holders.Add(-1)
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := removed.Load(); n < wanted {
		t.Errorf("the file was removed %d times, want %d: nothing was proved", n, wanted)
	}
}
