package intake_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/intake"
)

func (w *world) open2() driver.Driver {
	return w.openAt(filepath.Join(w.t.TempDir(), "second"))
}

func sweeping(s *setup) { s.cfg.SweepEvery = 20 * time.Millisecond }

func TestSweeperDispatchesAgainWhatIsGoneFromTheStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit(opID, create(vol1))
	if err := w.Store.Stream().Purge(t.Context(), jetstream.WithPurgeSubject(w.Store.DispatchSubject(">"))); err != nil {
		t.Fatal(err)
	}
	k := w.work(sweeping)
	k.await(intake.Redispatched, 1)
	k.await(intake.Ended, 1)
	if rec := w.requireDone(opID); rec.Dispatch != 2 {
		t.Errorf("dispatch number %d, want 2", rec.Dispatch)
	}
	w.requireNothingLeft()
}

func TestSweeperDispatchesAgainWhatWasAcknowledgedTooEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.work(nil).end() // makes the consumer
	w.submit(opID, create(vol1))
	c, err := w.Store.Stream().Consumer(t.Context(), "node-"+backend)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := w.work(sweeping)
	k.await(intake.Redispatched, 1)
	k.await(intake.Ended, 1)
	w.requireDone(opID)
	w.requireNothingLeft()
}

func TestSweeperLeavesASlowOperationAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lost := w.submit("99999999-0000-4000-8000-000000000002", create("11111111-0000-4000-8000-000000000002"))
	if err := w.Store.Stream().Purge(t.Context(), jetstream.WithPurgeSubject(w.Store.DispatchSubject(">"))); err != nil {
		t.Fatal(err)
	}
	g := gated(w.open(), driver.MethodCreateVolume)
	g.only = string(vol1)
	w.work(func(s *setup) { s.drivers[backend] = g })
	w.submit(opID, create(vol1))
	<-g.entered
	idle := w.work(sweeping) // another process: it does not know what runs here
	idle.await(intake.Redispatched, 1)
	w.eventually("the lost operation ended", func() bool { return !w.record(lost).Live() }) // so a sweep has looked at both
	if rec := w.record(opID); rec.Dispatch != 1 || rec.Epoch != 1 {
		t.Errorf("dispatch %d, epoch %d of the slow operation: it was not left alone", rec.Dispatch, rec.Epoch)
	}
	close(g.open)
	w.eventually("the slow operation ended", func() bool { return !w.record(opID).Live() })
	w.requireNothingLeft()
}
