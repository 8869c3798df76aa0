package intake_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/intake"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

func TestOperationRunsAndIsAcknowledged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.work(nil)
	w.submit(opID, create(vol1))
	k.await(intake.Ended, 1)
	rec := w.requireDone(opID)
	if rec.Epoch != 1 || rec.Worker != "worker-1" {
		t.Errorf("epoch %d, worker %s: want the first take-over by worker-1", rec.Epoch, rec.Worker)
	}
	if v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1)); v.Status != block.VolumeAvailable {
		t.Errorf("volume is %s, want available", v.Status)
	}
	w.requireNothingLeft()
}

func TestWorkerThatDiesInMidStepIsTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodCreateVolume)
	dying := w.work(func(s *setup) { s.cfg.Lease = time.Second; s.drivers[backend] = g })
	w.submit(opID, create(vol1))
	<-g.entered
	dying.conn.Close() // nothing of it reaches the server any more
	other := w.work(func(s *setup) { s.cfg.Lease = time.Second })
	other.await(intake.Ended, 1)
	if rec := w.requireDone(opID); rec.Epoch != 2 || rec.Worker != "worker-2" {
		t.Errorf("epoch %d, worker %s: want 2 by worker-2", rec.Epoch, rec.Worker)
	}
	close(g.open)
	dying.stop()
	w.requireNothingLeft()
}

// The lease of a worker that is alive but silent runs out: its successor ends the operation, and what the slow one
// does afterwards has no effect, nor does it acknowledge anything.
func TestStaleWorkerChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodCreateVolume)
	slow := w.work(func(s *setup) { s.cfg.Lease = time.Hour; s.drivers[backend] = g }) // so it never extends its lease
	w.submit(opID, create(vol1))
	<-g.entered
	other := w.work(func(s *setup) { s.cfg.Lease = time.Second }) // brings the consumer's lease down; it counts from the delivery
	other.await(intake.Ended, 1)
	before := w.requireDone(opID)
	close(g.open)
	slow.await(intake.Overtaken, 1)
	if after := w.record(opID); after.Revision != before.Revision {
		t.Errorf("the operation's record was written again: revision %d, then %d", before.Revision, after.Revision)
	}
	if slow.count(intake.Ended) > 0 {
		t.Error("the slow worker acknowledged")
	}
	w.requireNothingLeft()
}

func TestRedeliveryWhileItRunsJoinsTheRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodCreateVolume)
	k := w.work(func(s *setup) { s.cfg.Lease = time.Hour; s.drivers[backend] = g })
	w.lease(time.Second) // the worker believes in an hour, so it is late to extend
	w.submit(opID, create(vol1))
	<-g.entered
	k.await(intake.Joined, 2)
	close(g.open)
	k.await(intake.Ended, 1)
	if rec := w.requireDone(opID); rec.Epoch != 1 {
		t.Errorf("epoch %d: the process took the operation over from itself", rec.Epoch)
	}
	if n := g.calls(); n != 1 {
		t.Errorf("%d calls of the driver, want 1", n)
	}
	w.requireNothingLeft()
}

// lease changes the consumer's lease, as another process with other settings does.
func (w *world) lease(d time.Duration) {
	w.t.Helper()
	info := w.consumer()
	info.Config.AckWait = d
	if _, err := w.Store.Stream().UpdateConsumer(w.t.Context(), info.Config); err != nil {
		w.t.Fatal(err)
	}
}

func TestLongStepKeepsItsLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodCreateVolume)
	k := w.work(func(s *setup) { s.cfg.Lease = time.Second; s.drivers[backend] = g })
	w.submit(opID, create(vol1))
	<-g.entered
	began := time.Now()
	w.eventually("more than two leases", func() bool { return time.Since(began) > 2500*time.Millisecond })
	if info := w.consumer(); info.NumRedelivered > 0 || k.count(intake.Joined) > 0 {
		t.Errorf("%d redelivered, %d joined: the lease was not extended", info.NumRedelivered, k.count(intake.Joined))
	}
	close(g.open)
	k.await(intake.Ended, 1)
	w.requireNothingLeft()
}

func TestOperationOfAMissingVersionWaitsForAnotherNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.work(func(s *setup) { s.lacks = true })
	w.submit(opID, create(vol1))
	old.await(intake.Parked, 2)
	if rec := w.record(opID); rec.Epoch != 0 || rec.Phase != kvlock.Granted {
		t.Errorf("epoch %d, %s: it was touched by a release that cannot run it", rec.Epoch, rec.Phase)
	}
	able := w.work(nil)
	able.await(intake.Ended, 1)
	w.requireDone(opID)
	w.requireNothingLeft()
}

func TestDispatchWithoutAnOperationIsDelayedAndTerminated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.work(func(s *setup) { s.cfg.PrefixLimit = 500 * time.Millisecond })
	w.dispatch(backend, opID, 1)
	k.await(intake.Delayed, 2)
	k.await(intake.Terminated, 1)
	w.requireNothingLeft()
}

// dispatch publishes a dispatch on its own.
func (w *world) dispatch(backend string, id block.OperationID, n uint64) {
	w.t.Helper()
	if _, err := w.Store.JetStream().PublishMsg(w.t.Context(), &nats.Msg{Subject: w.Store.DispatchSubject(records.DispatchParts(backend, id, n)...)}); err != nil {
		w.t.Fatal(err)
	}
}

func TestDispatchWithAHigherNumberIsDelayedUntilItIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodCreateVolume)
	k := w.work(func(s *setup) { s.drivers[backend] = g })
	w.submit(opID, create(vol1))
	<-g.entered // so number 2 does not come first
	other := w.submit(block.OperationID(newID()), create(block.VolumeID(newID())))
	<-g.entered
	w.dispatch(backend, other, 7)
	k.await(intake.Joined, 1) // it runs here: the delivery is looked at afterwards
	close(g.open)
	k.await(intake.Ended, 2)
	w.requireDone(other)
	w.requireNothingLeft()
}

func TestDispatchWithALowerNumberIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit(opID, create(vol1))
	w.raise(opID)
	k := w.work(nil)
	k.await(intake.Dropped, 1)
	w.dispatch(backend, opID, 2)
	k.await(intake.Ended, 1)
	if rec := w.requireDone(opID); rec.Epoch != 1 || rec.Dispatch != 2 {
		t.Errorf("epoch %d, dispatch %d: want 1 and 2", rec.Epoch, rec.Dispatch)
	}
	w.requireNothingLeft()
}

// raise gives an operation its next dispatch number; the dispatch is published later.
func (w *world) raise(id block.OperationID) {
	w.t.Helper()
	_, err := w.Store.Update(w.t.Context(), w.Locks.Keys(string(id)), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		_, err := w.Locks.StageRedispatch(s, tx, string(id))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestDeathBetweenEndAndAcknowledgeIsAcknowledgedByTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodCreateVolume)
	close(g.open)
	dying := w.work(func(s *setup) {
		s.cfg.Lease = time.Second
		s.drivers[backend] = g
		s.saga = append(s.saga, saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
			err := next(ctx)
			if c.Action == saga.Writing && c.Phase == saga.Done { // the end is durable
				w.t.Log("the worker dies now")
				return errors.Join(err, errDeath)
			}
			return err
		}))
	})
	w.submit(opID, create(vol1))
	dying.await(intake.Interrupted, 1)
	dying.end()
	w.requireDone(opID)
	next := w.work(func(s *setup) { s.cfg.Lease = time.Second })
	w.requireNothingLeft()
	if dying.count(intake.Ended)+next.count(intake.Ended) == 0 {
		t.Error("nobody found the operation ended")
	}
	if n := g.calls(); n != 1 {
		t.Errorf("%d calls of the driver, want 1", n)
	}
}

var errDeath = errors.New("the worker dies")

// TestLostAnswerOfATakeOverIsDecidedByItsToken: the answer is lost, and a request to cancel stands in the record before the worker can
// look. The take-over is this delivery's own all the same, with its own fence, and the request is heeded: also where the take-over is
// made together with the first step.
func TestLostAnswerOfATakeOverIsDecidedByItsToken(t *testing.T) {
	t.Parallel()
	source := block.VolumeID(newID())
	for _, req := range []messages.Request{create(vol1), &messages.CreateSnapshot{Volume: source, Snapshot: block.SnapshotID(newID())}} {
		t.Run(string(req.Kind()), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			before := w.work(nil)
			w.submit(block.OperationID(newID()), create(source))
			before.await(intake.Ended, 1)
			before.end()
			var lost atomic.Bool
			w.submit(opID, req)
			k := w.work(func(s *setup) {
				s.store = append(s.store, kvtx.WithInterceptor(func(ctx context.Context, c kvtx.Call, next func(context.Context) error) error {
					err := next(ctx)
					if err != nil || c.Kind == kvtx.Read || !slices.Contains(c.Keys, kvlock.OwnerKey(string(opID))) || !lost.CompareAndSwap(false, true) {
						return err
					}
					if _, err := w.Locks.Cancel(ctx, string(opID), "u1"); err != nil {
						t.Error(err)
					}
					return errors.New("the answer is lost")
				}))
			})
			k.await(intake.Ended, 1)
			rec := w.record(opID)
			st, err := sagakv.StatusOf(rec)
			if err != nil || rec.Phase != kvlock.Undone || rec.Epoch != 1 || rec.Cancel == nil || !st.Cause.Cancel {
				t.Errorf("operation is %s in epoch %d, cancel %v, cause %v, %v; want undone by the cancel in epoch 1", rec.Phase, rec.Epoch, rec.Cancel, st.Cause, err)
			}
			if n := k.count(intake.Overtaken); n != 0 || !lost.Load() {
				t.Errorf("overtaken %d times, answer lost: %v", n, lost.Load())
			}
		})
	}
}

func TestStuckOperationIsParkedAndResumedByANewDispatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := true
	d := w.open()
	k := w.work(func(s *setup) {
		s.drivers[backend] = driver.Intercept(d, func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
			if m == driver.MethodCreateVolume && broken {
				return driver.ErrUnknown
			}
			return next(ctx)
		})
	})
	w.submit(opID, create(vol1))
	k.await(intake.Stuck, 1)
	if rec := w.record(opID); rec.Phase != kvlock.Stuck {
		t.Fatalf("operation is %s, want stuck", rec.Phase)
	}
	w.eventually("the dispatch of a stuck operation acknowledged", func() bool { return w.consumer().NumAckPending == 0 })
	broken = false
	_, err := w.Store.Update(t.Context(), w.Locks.Keys(string(opID)), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		rec, err := sagakv.StageResume(w.Locks, s, tx, string(opID), "the disk is back")
		if err == nil {
			tx.Publish(w.Store.DispatchSubject(records.DispatchParts(backend, opID, rec.Dispatch)...), nil, nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	k.await(intake.Ended, 1)
	w.requireDone(opID)
	w.requireNothingLeft()
}

func TestStopLetsTheStepEndAndLeavesTheRunToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodDeleteVolume)
	first := w.work(func(s *setup) { s.cfg.Lease = time.Hour; s.drivers[backend] = g })
	w.submit(block.OperationID(newID()), create(vol1))
	first.await(intake.Ended, 1)
	w.submit(opID, &messages.DeleteVolume{Volume: vol1})
	<-g.entered
	first.stop()
	w.submit(block.OperationID(newID()), create(block.VolumeID(newID()))) // nobody takes it now
	close(g.open)
	<-first.ended
	if rec := w.record(opID); rec.Phase != kvlock.Done {
		t.Errorf("the step under way ended, and the operation is %s, want done", rec.Phase)
	}
	second := w.work(func(s *setup) { s.cfg.Lease = time.Hour })
	second.await(intake.Ended, 1)
	w.requireNothingLeft()
}

func TestStopGivesUpAStepThatTakesTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodCreateVolume)
	first := w.work(func(s *setup) {
		s.cfg.Lease, s.cfg.StopLimit, s.drivers[backend] = time.Hour, 50*time.Millisecond, g
	})
	w.submit(opID, create(vol1))
	<-g.entered
	first.end()
	if n := first.count(intake.LeftOver); n != 1 {
		t.Errorf("%d runs left over, want 1", n)
	}
	second := w.work(func(s *setup) { s.cfg.Lease = time.Hour }) // the delivery was given back: no lease is waited for
	second.await(intake.Ended, 1)
	if rec := w.requireDone(opID); rec.Epoch != 2 {
		t.Errorf("epoch %d, want 2", rec.Epoch)
	}
	w.requireNothingLeft()
}

func TestPanicInAStepEndsTheOperationInWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.open()
	k := w.work(func(s *setup) {
		s.drivers[backend] = driver.Intercept(d, func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
			if m == driver.MethodCreateVolume {
				panic("a bug in a driver")
			}
			return next(ctx)
		})
	})
	w.submit(opID, create(vol1))
	k.await(intake.Ended, 1)
	v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1))
	if w.record(opID).Phase != kvlock.Undone || !strings.Contains(v.Fault, "a bug in a driver") {
		t.Errorf("operation %s, fault %q", w.record(opID).Phase, v.Fault)
	}
	w.requireNothingLeft()
}

func TestDispatchesWaitInTheStreamNotInMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operationstest.Put(t, w.World, records.QuotaKey(project), func(q *records.Quota) { q.Limits = &records.Limits{Volumes: -1, Snapshots: -1, GiB: -1} })
	g := gated(w.open(), driver.MethodCreateVolume)
	k := w.work(func(s *setup) { s.cfg.Workers, s.drivers[backend] = 2, g })
	const all = 12
	for range all {
		w.submit(block.OperationID(newID()), create(block.VolumeID(newID())))
	}
	<-g.entered
	<-g.entered
	if info := w.consumer(); info.NumAckPending > 2 || info.NumPending < all-2 || g.calls() != 2 || k.Running() != 2 {
		t.Errorf("%d delivered, %d waiting, %d in the driver, %d running: want 2, %d, 2, 2", info.NumAckPending, info.NumPending, g.calls(), k.Running(), all-2)
	}
	close(g.open)
	k.await(intake.Ended, all)
	w.requireNothingLeft()
}

func TestOperationGoesToAnotherBackendOfTheSameProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	roomy := w.open2()
	w.Register(t, "roomy", roomy, 100)
	operationstest.Put(t, w.World, records.PoolKey(backend), func(p *records.Pool) { p.TotalBytes, p.FreeBytes = 0, 0 })
	k := w.work(func(s *setup) { s.cfg.Backends = append(s.cfg.Backends, "roomy"); s.drivers["roomy"] = roomy })
	w.submit(opID, create(vol1))
	k.await(intake.HandedOn, 1)
	k.await(intake.Ended, 1)
	w.requireDone(opID)
	if v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1)); v.Backend != "roomy" || v.Status != block.VolumeAvailable {
		t.Errorf("volume on %s, %s", v.Backend, v.Status)
	}
	w.requireNothingLeft()
}

func TestRestartOfTheServerDoesNotEndTheIntake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := gated(w.open(), driver.MethodCreateVolume)
	k := w.work(func(s *setup) { s.cfg.Lease = time.Second; s.drivers[backend] = g })
	w.submit(opID, create(vol1))
	<-g.entered
	w.srv.Restart(t)
	close(g.open)
	w.eventually("the operation under way ended", func() bool { return !w.record(opID).Live() })
	next := w.submit(block.OperationID(newID()), create(block.VolumeID(newID())))
	w.eventually("one that came after the restart ended", func() bool { return !w.record(next).Live() })
	w.requireDone(opID)
	w.requireDone(next)
	if k.count(intake.Overtaken) > 0 {
		t.Error("the worker was overtaken by itself")
	}
	w.requireNothingLeft()
}

// TestTakeOverAndFirstStepAreOneCommit: where the first step only stages writes, an operation of two steps is two commits here.
func TestTakeOverAndFirstStepAreOneCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var commits atomic.Int64
	k := w.work(func(s *setup) {
		s.store = append(s.store, kvtx.WithInterceptor(func(ctx context.Context, c kvtx.Call, next func(context.Context) error) error {
			if c.Kind != kvtx.Read && slices.Contains(c.Keys, kvlock.OwnerKey(string(opID))) {
				commits.Add(1)
			}
			return next(ctx)
		}))
	})
	w.submit(opID, create(vol1))
	k.await(intake.Ended, 1)
	rec := w.requireDone(opID)
	if n := commits.Load(); n != 2 || rec.Epoch != 1 || rec.Worker == "" {
		t.Errorf("%d commits, epoch %d, worker %q; want 2 commits in epoch 1", n, rec.Epoch, rec.Worker)
	}
}
