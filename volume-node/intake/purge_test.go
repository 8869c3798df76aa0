package intake_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/volume-node/intake"
)

// What is done stays in the stream for as long as nobody may purge, and goes afterwards.
func TestNothingIsPurgedWhileNobodyMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var may atomic.Bool
	var asked atomic.Int64
	k := w.work(func(s *setup) {
		s.store = append(s.store, kvtx.WithPurgeGate(func(context.Context) error {
			if asked.Add(1); may.Load() {
				return nil
			}
			return errors.New("the disk is full")
		}))
	})
	w.submit(opID, create(vol1))
	k.await(intake.Ended, 1)
	before := asked.Load()
	w.eventually("it was asked twice since", func() bool { return asked.Load() > before+1 })
	if n := len(w.dispatches()); n != 1 {
		t.Errorf("%d dispatches are left, want 1", n)
	}
	may.Store(true)
	w.requireNothingLeft()
}

// TestWhatOneFinishedWhoThenWentIsPurged by one that has nothing to do.
func TestWhatOneFinishedWhoThenWentIsPurged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.unlimited()
	goes := w.work(func(s *setup) { s.cfg.PurgeEvery = time.Hour })
	stays := w.work(sweeping)
	for n := 1; goes.count(intake.Ended) == 0; n++ {
		w.eventually("the stream is clean", func() bool { return len(w.dispatches()) == 0 })
		w.submit(block.OperationID(newID()), create(block.VolumeID(newID())))
		w.eventually("one of them has ended it", func() bool { return goes.count(intake.Ended)+stays.count(intake.Ended) == n })
	}
	goes.end()
	w.requireNothingLeft()
}
