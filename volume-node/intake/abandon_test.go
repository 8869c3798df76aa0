package intake_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
	"github.com/scoria-storage/scoria/volume-node/intake"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

const snap1 = block.SnapshotID("22222222-0000-4000-8000-000000000001")

var caller = admit.Caller{Project: project, User: "u1"}

// given is an operation that gets stuck while its first worker sleeps in a driver call.
type given struct {
	name   string
	req    messages.Request
	method driver.Method
	point  string // of the file driver, inside the lock, before the effect
	volume block.VolumeStatus
}

var giveUps = []given{
	{"create", create(vol1), driver.MethodCreateVolume, "rename", block.VolumeError},
	{"extend", &messages.ExtendVolume{Volume: vol1, SizeGiB: 2}, driver.MethodExtendVolume, "truncate", block.VolumeErrorExtending},
	{"revert", &messages.RevertVolume{Volume: vol1, Snapshot: snap1}, driver.MethodRevertVolume, "rename", block.VolumeError},
	{"snapshot", &messages.CreateSnapshot{Snapshot: snap1, Volume: vol1}, driver.MethodCreateSnapshot, "rename", block.VolumeAvailable},
}

// broken is a driver of a backend that does not answer.
func broken(d driver.Driver) driver.Driver {
	return driver.Intercept(d, func(context.Context, driver.Method, driver.Ref, func(context.Context) error) error {
		return errors.New("the array does not answer")
	})
}

// abandoned has an operation stuck and given up while slow, the worker that began it, is in a call of d. No fence was ever
// raised. slow takes nothing more.
func (w *world) abandoned(g given, d driver.Driver, entered <-chan struct{}) (slow *worker) {
	w.t.Helper()
	slow = w.work(func(s *setup) { s.cfg.Lease, s.cfg.StopLimit, s.drivers[backend] = time.Hour, time.Hour, d })
	w.submit(opID, g.req)
	<-entered
	slow.stop()
	second := w.work(func(s *setup) { s.cfg.Lease = time.Second; s.drivers[backend] = broken(w.open()) })
	second.await(intake.Stuck, 1)
	second.end()
	if err := w.admitter.Abandon(w.t.Context(), caller, opID, "the array does not answer"); err != nil {
		w.t.Fatal(err)
	}
	return slow
}

// prepare makes what the operation needs.
func (w *world) prepare(g given) {
	w.t.Helper()
	if g.name == "create" {
		return
	}
	w.do(create(vol1))
	if g.name == "revert" {
		w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
	}
}

// do runs an operation on a worker of its own.
func (w *world) do(req messages.Request) {
	w.t.Helper()
	id := w.submit(block.OperationID(newID()), req)
	k := w.work(func(s *setup) { s.cfg.Lease = time.Second })
	k.await(intake.Ended, 1)
	k.end()
	w.requireDone(id)
}

// requireRefused proves that nothing may be done to what was given up that would rest on what its backend holds.
func (w *world) requireRefused(g given) {
	w.t.Helper()
	reqs := []messages.Request{
		&messages.CreateVolume{Volume: block.VolumeID(newID()), SizeGiB: 2, FromSnapshot: snap1},
	}
	if g.name != "snapshot" {
		reqs = append(reqs,
			&messages.CreateVolume{Volume: block.VolumeID(newID()), SizeGiB: 2, FromVolume: vol1},
			&messages.CreateSnapshot{Snapshot: block.SnapshotID(newID()), Volume: vol1, AllowAttached: true},
			&messages.ExtendVolume{Volume: vol1, SizeGiB: 9, AllowAttached: true},
			&messages.AttachVolume{Volume: vol1, Attachment: block.AttachmentID(newID())})
	}
	if g.name == "revert" {
		reqs[0] = &messages.RevertVolume{Volume: vol1, Snapshot: snap1} // the snapshot itself is as it was
	}
	for _, req := range reqs {
		if _, err := w.admitter.Submit(w.t.Context(), admit.Submission{Caller: caller, Request: req}); err == nil {
			w.t.Errorf("%s was accepted on what was given up", req.Kind())
		}
	}
}

// remove deletes the snapshot and the volume, what is there of them.
func (w *world) remove() {
	w.t.Helper()
	if _, there := operationstest.Get[block.Snapshot](w.t, w.World, records.SnapshotKey(snap1)); there {
		w.do(&messages.DeleteSnapshot{Snapshot: snap1})
	}
	w.do(&messages.DeleteVolume{Volume: vol1})
}

func (w *world) objects() (all []string) {
	w.t.Helper()
	if err := w.open().List(w.t.Context(), func(o driver.Object) error { all = append(all, o.String()); return nil }); err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) picture() map[string]string {
	w.t.Helper()
	p, err := w.Picture(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// processes lets the check of the books ask for what the backend holds.
type processes struct{ w *world }

func (processes) Processes(context.Context, string) ([]string, error) { return []string{"p1"}, nil }

func (p processes) List(ctx context.Context, _, _, _ string) (l verify.Listing, err error) {
	err = p.w.open().List(ctx, func(o driver.Object) error {
		l.Objects = append(l.Objects, messages.Object{Class: string(o.Kind), ID: o.ID, Bytes: o.Bytes})
		return nil
	})
	return l, err
}

func (w *world) requireClean() {
	w.t.Helper()
	if r, err := verify.New(w.Store, processes{w}).Verify(w.t.Context()); err != nil || !r.Clean || r.Checked["backend_objects"] == 0 {
		w.t.Errorf("verify: %+v, %v", r, err)
	}
}

// A worker sleeps just before its effect, with the file lock in its hands; its operation is taken over, gets stuck and is
// given up, and no fence was ever raised. When it wakes up its effect lands on what nobody may use any more, no record
// changes, and the deletion takes it along.
func TestALateEffectOfAnAbandonedOperationDoesNoHarm(t *testing.T) {
	t.Parallel()
	for _, g := range giveUps {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.prepare(g)
			entered, sleep := make(chan struct{}, 9), make(chan struct{})
			wake := sync.OnceFunc(func() { close(sleep) })
			d, err := file.Open(w.dir, file.Options{Hook: func(point string) error {
				if point == g.point {
					entered <- struct{}{}
					<-sleep
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			slow := w.abandoned(g, d, entered)
			t.Cleanup(wake)
			if v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1)); v.Status != g.volume {
				t.Errorf("the volume is %s, want %s", v.Status, g.volume)
			}
			w.requireRefused(g)
			before := w.picture()
			wake()
			slow.await(intake.Overtaken, 1)
			after := w.picture()
			for key, was := range before {
				if after[key] != was {
					t.Errorf("%s: %s, and after the late effect %s", key, was, after[key])
				}
			}
			w.requireClean()
			w.requireRefused(g)
			w.remove()
			if left := w.objects(); len(left) > 0 {
				t.Errorf("left on the backend: %v", left)
			}
		})
	}
}

// The worker sleeps before the file lock until the volume was deleted and made again under its ID: its call is refused.
func TestALateCallOfAnAbandonedOperationMeetsAHigherFence(t *testing.T) {
	t.Parallel()
	for _, g := range giveUps {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.prepare(g)
			gate := gated(w.open(), g.method)
			slow := w.abandoned(g, gate, gate.entered)
			wake := sync.OnceFunc(func() { close(gate.open) })
			t.Cleanup(wake)
			w.remove()
			w.do(&messages.CreateVolume{Volume: vol1, SizeGiB: 3})
			w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
			wake()
			slow.await(intake.Overtaken, 1)
			for _, ref := range []driver.Ref{driver.VolumeID(vol1).Ref(), driver.SnapshotID(snap1).Ref()} {
				if o, err := w.open().Look(t.Context(), ref); err != nil || o.Bytes != 3<<30 {
					t.Errorf("%s after the late call: %+v, %v", ref, o, err)
				}
			}
			w.requireClean()
			if all := strings.Join(w.objects(), ", "); strings.Count(all, ",") != 1 {
				t.Errorf("on the backend: %s, want the volume and the snapshot", all)
			}
		})
	}
}
