package intake_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/intake"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

func (w *world) unlimited() {
	operationstest.Put(w.t, w.World, records.QuotaKey(project), func(q *records.Quota) { q.Limits = &records.Limits{Volumes: -1, Snapshots: -1, GiB: -1} })
}

// TestWorkersShareWhatTheyHaveRoomFor: as many operations as two workers have room for are in work at the same moment, in every
// round: none is held by a worker that is busy while the other one is idle.
func TestWorkersShareWhatTheyHaveRoomFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.unlimited()
	const each, rounds = 2, 25
	inside, let := make(chan string, 2*each+1), make(chan struct{})
	start := func(name string) *worker {
		return w.work(func(s *setup) {
			s.cfg.Workers, s.cfg.Lease = each, time.Hour // no delivery is rescued by its lease
			s.drivers[backend] = driver.Intercept(s.drivers[backend], func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
				if m == driver.MethodCreateVolume {
					inside <- name
					<-let
				}
				return next(ctx)
			})
		})
	}
	a, b := start("a"), start("b")
	for round := range rounds {
		for range 2 * each {
			w.submit(block.OperationID(newID()), create(block.VolumeID(newID())))
		}
		count := map[string]int{}
		for n := range 2 * each {
			select {
			case name := <-inside:
				count[name]++
			case <-time.After(soon):
				t.Errorf("round %d: %d of %d operations are in work (%v), though there is room for all", round, n, 2*each, count)
				close(let)
				return
			}
		}
		if count["a"] != each || count["b"] != each {
			t.Errorf("round %d: in work %v, want %d each", round, count, each)
		}
		for range 2 * each {
			let <- struct{}{}
		}
		w.eventually("the round ends", func() bool { return a.count(intake.Ended)+b.count(intake.Ended) == 2*each*(round+1) })
	}
	close(let)
	w.requireNothingLeft()
}

// TestAnOperationThatWaitsToTryAgainLeavesItsSlot: what fails and is tried again later keeps nobody waiting; when it comes back it
// waits for a slot as others do.
func TestAnOperationThatWaitsToTryAgainLeavesItsSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodCreateVolume)
	other, waiting, wait := block.OperationID(newID()), make(chan struct{}, 1), make(chan struct{})
	tries := 0
	k := w.work(func(s *setup) {
		s.cfg.Workers = 1
		s.drivers[backend] = driver.Intercept(g, func(ctx context.Context, m driver.Method, ref driver.Ref, next func(context.Context) error) error {
			if m != driver.MethodCreateVolume || ref.ID != string(vol1) {
				return next(ctx)
			}
			if tries++; tries == 1 {
				return errTrouble
			}
			if w.record(other).Live() {
				t.Error("it is tried again while the only slot is taken")
			}
			return next(ctx)
		})
		s.saga = []saga.Option{saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
			if c.Action != saga.Waiting {
				return next(ctx)
			}
			waiting <- struct{}{}
			<-wait
			return nil
		})}
	})
	w.submit(opID, create(vol1))
	<-waiting
	w.submit(other, create(block.VolumeID(newID())))
	<-g.entered
	if n := k.Running(); n != 2 {
		t.Errorf("%d operations are here, want the one that waits and the one in work", n)
	}
	close(wait)
	close(g.open)
	k.await(intake.Ended, 2)
	w.requireDone(opID)
	w.requireDone(other)
	w.requireNothingLeft()
}

// TestAttemptsAndTakeOversAreCounted: a try that was lost with its worker is counted, and so is who took over from another worker; the
// first worker did not. Records and events say the same.
func TestAttemptsAndTakeOversAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit(opID, create(vol1))
	var updates sync.Map // of messages.Operation, by epoch
	sub, err := w.Store.Conn().Subscribe(messages.EventSubject(project, block.VolumeCreate, opID), func(m *nats.Msg) {
		var u messages.Update
		if err := messages.Decode(m.Data, &u); err != nil {
			t.Error(err)
		} else if u.Operation.Step == "create" {
			updates.LoadOrStore(u.Operation.Epoch, u.Operation)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for n := 1; n <= 3; n++ {
		g := gated(w.open(), driver.MethodCreateVolume)
		k := w.work(func(s *setup) { s.cfg.Lease, s.drivers[backend] = time.Second, g })
		<-g.entered
		rec := w.record(opID)
		st, err := sagakv.StatusOf(rec)
		if err != nil || st.Attempt() != n || rec.TakenOver != uint64(n-1) {
			t.Errorf("worker %d: attempt %d, taken over %d times, %v; want %d and %d", n, st.Attempt(), rec.TakenOver, err, n, n-1)
		}
		defer close(g.open)
		if n < 3 {
			k.conn.Close() // nothing of it reaches the server any more
			k.stop()
		}
		w.eventually("an event of this worker", func() bool { _, there := updates.Load(uint64(n)); return there || n == 1 })
	}
	for n := 2; n <= 3; n++ {
		op, _ := updates.Load(uint64(n))
		if op := op.(messages.Operation); op.Attempt != n || op.TakenOver != uint64(n-1) {
			t.Errorf("event of worker %d: attempt %d, taken over %d times; want %d and %d", n, op.Attempt, op.TakenOver, n, n-1)
		}
	}
}
