package intake_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/intake"
	"github.com/scoria-storage/scoria/volume-node/workers"
)

// member is a process of a node, with the number of its looks at the others.
type member struct {
	*workers.Member
	looks atomic.Int64
}

func (m *member) Ended() ([]string, error) {
	defer m.looks.Add(1)
	return m.Member.Ended()
}

// join makes a process of the node that every worker here belongs to.
func (w *world) join(name string) *member {
	w.t.Helper()
	m, err := workers.Join(filepath.Join(filepath.Dir(w.dir), "workers"), name)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = m.Close() })
	return &member{Member: m}
}

// of makes a worker with a lease that no test waits for a process of the node.
func of(m *member, g *gate) func(*setup) {
	return func(s *setup) {
		s.cfg.Lease, s.cfg.LookEvery, s.workers = time.Hour, 10*time.Millisecond, m
		if g != nil {
			s.drivers[backend] = g
		}
	}
}

// The lease of what a process left that was killed does not matter to the others of its node, those that run and those
// that start later; it does as long as the process may go on.
func TestWhatAnEndedWorkerLeftIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		w := newWorld(t)
		g := gated(w.open(), driver.MethodCreateVolume)
		first := w.join("worker-1")
		dying := w.work(of(first, g))
		w.submit(opID, create(vol1))
		<-g.entered
		dying.conn.Close() // silent: stopped, or ended
		second := w.join("worker-2")
		var other *worker
		if running {
			other = w.work(of(second, nil))
			w.eventually("several looks at the other workers", func() bool { return second.looks.Load() >= 5 })
			if rec := w.record(opID); rec.Epoch != 1 || rec.Dispatch != 1 {
				t.Errorf("epoch %d, dispatch %d: a worker that may go on was not waited for", rec.Epoch, rec.Dispatch)
			}
		}
		if err := first.Close(); err != nil { // as the end of its process does
			t.Fatal(err)
		}
		if !running {
			other = w.work(of(second, nil))
		}
		other.await(intake.Ended, 1)
		if rec := w.requireDone(opID); rec.Epoch != 2 || rec.Worker != "worker-2" || rec.Dispatch != 2 {
			t.Errorf("epoch %d, worker %s, dispatch %d: want 2, worker-2, 2", rec.Epoch, rec.Worker, rec.Dispatch)
		}
		w.eventually("the worker that has ended forgotten", func() bool {
			ended, err := second.Member.Ended()
			return err == nil && len(ended) == 0
		})
		close(g.open)
		dying.stop()
	}
}

// What was delivered to a process that ended before it took the operation over is not waited for either; what no process
// has seen yet comes by itself.
func TestWhatWasDeliveredToAnEndedWorkerIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.work(of(w.join("worker-1"), nil)).end() // makes the consumer
	ended := w.join("ended")
	w.submit(opID, create(vol1))
	c, err := w.Store.Stream().Consumer(t.Context(), "node-"+backend)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next(jetstream.FetchMaxWait(soon)); err != nil {
		t.Fatal(err)
	}
	other := w.submit(block.OperationID(newID()), create(block.VolumeID(newID())))
	if err := ended.Close(); err != nil {
		t.Fatal(err)
	}
	k := w.work(of(w.join("worker-2"), nil))
	k.await(intake.Ended, 2)
	if rec := w.requireDone(opID); rec.Epoch != 1 || rec.Dispatch != 2 {
		t.Errorf("epoch %d, dispatch %d: want the first take-over, of dispatch 2", rec.Epoch, rec.Dispatch)
	}
	if rec := w.requireDone(other); rec.Dispatch != 1 {
		t.Errorf("dispatch %d of an operation that was never delivered before, want 1", rec.Dispatch)
	}
}
