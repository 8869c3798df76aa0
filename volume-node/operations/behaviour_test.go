package operations_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagatest"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// concurrently drives operations at the same moment and returns how they ended.
func (w *world) concurrently(ids []block.OperationID) []saga.Status {
	w.t.Helper()
	all := make([]saga.Status, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		worker := &world{World: w.World, t: w.t, registry: w.registry, workers: 1000 * (i + 1)}
		wg.Go(func() {
			st, err := worker.drive(w.t.Context(), id)
			if err != nil {
				w.t.Errorf("operation %s: %v", id, err)
			}
			all[i] = st
		})
	}
	wg.Wait()
	return all
}

func TestReadersOfOneSnapshotAreInTheDriverAtTheSameMoment(t *testing.T) {
	t.Parallel()
	const readers = 20
	w := newWorld(t)
	w.do(create(vol1, 1))
	w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
	in := make(chan struct{}, readers)
	all := make(chan struct{})
	w.wrap(func(d driver.Driver) driver.Driver {
		return driver.Intercept(d, func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
			if m != driver.MethodCreateFromSnapshot {
				return next(ctx)
			}
			in <- struct{}{}
			if len(in) == readers {
				close(all) // the last one lets all go on
			}
			select {
			case <-all:
				return next(ctx)
			case <-time.After(20 * time.Second):
				return fmt.Errorf("only %d of %d readers came in", len(in), readers)
			}
		})
	})
	operationstest.Put(t, w.World, records.QuotaKey(project), func(q *records.Quota) { q.Limits = &records.Limits{Volumes: -1, Snapshots: -1, GiB: -1} })
	var ids []block.OperationID
	for range readers {
		id := block.OperationID(newID())
		if err := w.submit(t.Context(), id, &messages.CreateVolume{FromSnapshot: snap1}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, st := range w.concurrently(ids) {
		if st.Phase != saga.Done {
			t.Errorf("a clone is %s: %v", st.Phase, st.Cause)
		}
	}
	kvlocktest.RequireFree(t, w.Locks)
}

func TestVolumeInErrorIsDeletedThoughItWasNeverMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.wrap(func(d driver.Driver) driver.Driver { return failing(d, driver.MethodCreateVolume, driver.ErrNoSpace) })
	st := w.try(create(vol1, 2))
	v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1))
	if st.Phase != saga.Undone || v.Status != block.VolumeError || !strings.Contains(v.Fault, "no space") {
		t.Fatalf("create on a full backend: %s, volume %s, fault %q", st.Phase, v.Status, v.Fault)
	}
	w.do(&messages.DeleteVolume{Volume: vol1})
	if _, there := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1)); there {
		t.Error("the volume's record is still there")
	}
	c, _ := operationstest.Get[records.Credit](t, w.World, records.CreditKey(project, operationstest.NodeName))
	if want := (records.Usage{Volumes: 1, GiB: 2}); c.Back != want {
		t.Errorf("credit %+v, want %+v", c.Back, want)
	}
	if p, _ := operationstest.Get[records.Pool](t, w.World, records.PoolKey(backend)); p.AllocatedGiB != 0 {
		t.Errorf("%d GiB allocated, want 0", p.AllocatedGiB)
	}
}

// failing makes one method answer an error.
func failing(d driver.Driver, method driver.Method, err error) driver.Driver {
	return driver.Intercept(d, func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
		if m == method {
			return fmt.Errorf("made by the test: %w", err)
		}
		return next(ctx)
	})
}

func TestDriverErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want saga.Phase
	}{
		{driver.ErrNoSpace, saga.Undone}, {driver.ErrExists, saga.Undone}, {driver.ErrShrink, saga.Undone}, {driver.ErrUnsupported, saga.Undone},
		{driver.ErrInvalid, saga.Undone}, {errors.New("an error of the disk"), saga.Undone}, // after its tries
		{driver.ErrUnknown, saga.Stuck}, // never undone blindly
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.wrap(func(d driver.Driver) driver.Driver { return failing(d, driver.MethodCreateVolume, c.err) })
			if err := w.submit(t.Context(), opID, create(vol1, 1)); err != nil {
				t.Fatal(err)
			}
			st, err := w.drive(t.Context(), opID, saga.WithWaitCeiling(time.Millisecond))
			if err != nil || st.Phase != c.want {
				t.Errorf("phase %s, error %v, want %s", st.Phase, err, c.want)
			}
		})
	}
	t.Run("fenced", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.wrap(func(d driver.Driver) driver.Driver { return failing(d, driver.MethodCreateVolume, driver.ErrFenced) })
		if err := w.submit(t.Context(), opID, create(vol1, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.drive(t.Context(), opID); !errors.Is(err, saga.ErrFenced) {
			t.Errorf("drive = %v, want ErrFenced", err)
		}
	})
}

func TestSecondWorkerRaisesTheFenceBeforeItLooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t).exports()
	var mu sync.Mutex
	var calls []driver.Method
	w.wrap(func(d driver.Driver) driver.Driver {
		return driver.Intercept(d, func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
			mu.Lock()
			calls = append(calls, m)
			mu.Unlock()
			return next(ctx)
		})
	})
	reqs := []messages.Request{
		create(vol1, 1), &messages.ExtendVolume{Volume: vol1, SizeGiB: 2}, &messages.CreateSnapshot{Snapshot: snap1, Volume: vol1},
		&messages.RevertVolume{Volume: vol1, Snapshot: snap1}, &messages.CreateVolume{Volume: vol2, FromSnapshot: snap1},
		&messages.DeleteSnapshot{Snapshot: snap1}, &messages.DeleteVolume{Volume: vol1},
	}
	for _, req := range reqs {
		id := block.OperationID(newID())
		if err := w.submit(t.Context(), id, req); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Locks.Adopt(t.Context(), string(id), "a worker that dies", "token"); err != nil {
			t.Fatal(err)
		}
		calls = nil
		if st, err := w.drive(t.Context(), id); err != nil || st.Phase != saga.Done {
			t.Fatalf("%s: %s, %v, %v", req.Kind(), st.Phase, err, st.Cause)
		}
		if len(calls) == 0 || calls[0] != driver.MethodRaiseFence {
			t.Errorf("%s of a second worker calls %v: want RaiseFence first", req.Kind(), calls)
		}
	}
}

// reflinking says of a backend that it clones in a moment, and takes the hold as such a driver does.
type reflinking struct{ driver.Driver }

func (d reflinking) Info() driver.Info {
	i := d.Driver.Info()
	i.Capabilities.CloneWhileOpen = true
	return i
}

func held(ctx context.Context, call driver.Call, f func(driver.Call) error) error {
	hold := call.Hold
	call.Hold = nil
	if hold == nil {
		return f(call)
	}
	release, err := hold(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(call), release())
}

func (d reflinking) CreateSnapshot(ctx context.Context, call driver.Call, dst driver.Snapshot) error {
	return held(ctx, call, func(c driver.Call) error { return d.Driver.CreateSnapshot(ctx, c, dst) })
}

func (d reflinking) CloneVolume(ctx context.Context, call driver.Call, dst driver.Volume, src driver.VolumeID) error {
	return held(ctx, call, func(c driver.Call) error { return d.Driver.CloneVolume(ctx, c, dst, src) })
}

// holds counts the holds of an exporter and can lose the first ones.
type holds struct {
	export.Exporter
	mu    sync.Mutex
	taken []string
	lose  int
}

func (h *holds) Hold(ctx context.Context, volume string) (export.Hold, error) {
	hold, err := h.Exporter.Hold(ctx, volume)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken = append(h.taken, volume)
	if h.lose > 0 {
		h.lose--
		return lostHold{hold}, err
	}
	return hold, err
}

type lostHold struct{ export.Hold }

func (l lostHold) Release() error { return errors.Join(l.Hold.Release(), export.ErrHoldLost) }

// attached is a world with a volume that a host uses, on a backend that clones in a moment.
func attachedWorld(t *testing.T) (*world, *holds) {
	t.Helper()
	w := newWorld(t)
	w.drivers[backend] = reflinking{w.drivers[backend]}
	operationstest.Put(t, w.World, records.BackendKey(backend), func(b *records.Backend) { b.Reflink = true })
	h := &holds{Exporter: exporttest.Start(t)}
	w.exporter = h
	w.bind()
	w.do(create(vol1, 1))
	w.do(attach())
	return w, h
}

func TestCopyOfAnAttachedVolumeHoldsItsHosts(t *testing.T) {
	t.Parallel()
	w, h := attachedWorld(t)
	w.complete(att1)
	w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1, AllowAttached: true})
	w.do(&messages.CreateVolume{Volume: vol2, FromVolume: vol1})
	if got := fmt.Sprint(h.taken); got != fmt.Sprint([]string{string(vol1), string(vol1)}) {
		t.Errorf("holds on %v, want two on %s", got, vol1)
	}
}

// complete is what a host's "I use it" does.
func (w *world) complete(id block.AttachmentID) {
	w.t.Helper()
	operationstest.Put(w.t, w.World, records.AttachmentKey(id), func(a *block.Attachment) { a.Status = block.AttachAttached })
	operationstest.Put(w.t, w.World, records.VolumeKey(vol1), func(v *block.Volume) { v.SetAttachment(id, block.AttachAttached) })
}

func TestCopyWhoseHoldWasLostIsTakenAgain(t *testing.T) {
	t.Parallel()
	w, h := attachedWorld(t)
	w.complete(att1)
	h.lose = 2
	if err := w.submit(t.Context(), opID, &messages.CreateSnapshot{Snapshot: snap1, Volume: vol1, AllowAttached: true}); err != nil {
		t.Fatal(err)
	}
	st, err := w.drive(t.Context(), opID, saga.WithWaitCeiling(time.Millisecond))
	if err != nil || st.Phase != saga.Done || st.Failed != 2 || len(h.taken) != 3 {
		t.Errorf("phase %s, error %v, %d failed tries, %d holds: want done after 2 failures and 3 holds", st.Phase, err, st.Failed, len(h.taken))
	}
}

// The view of admission may be out of date; the first step is not.
func TestCopyOfAnAttachedVolumeWithoutReflinkIsRefusedInWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t).exports()
	operationstest.Put(t, w.World, records.BackendKey(backend), func(b *records.Backend) { b.Reflink = true })
	w.do(create(vol1, 1))
	w.do(attach())
	w.complete(att1)
	for _, req := range []messages.Request{
		&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1, AllowAttached: true},
		&messages.CreateVolume{Volume: vol2, FromVolume: vol1},
	} {
		st := w.try(req)
		if st.Phase != saga.Undone || st.Cause.Code != string(messages.CodeInvalidVolume) || !strings.Contains(st.Cause.Message, "no reflink") {
			t.Errorf("%s: %s, cause %+v: want a refusal that says why", req.Kind(), st.Phase, st.Cause)
		}
	}
}

func TestAttachWaitsForACopyThatBeganBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t).exports()
	w.do(create(vol1, 1))
	copying, goOn := make(chan struct{}), make(chan struct{})
	w.wrap(func(d driver.Driver) driver.Driver {
		return driver.Intercept(d, func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
			if m == driver.MethodCreateSnapshot {
				close(copying)
				<-goOn
			}
			return next(ctx)
		})
	})
	snapshot, attaching := block.OperationID(newID()), block.OperationID(newID())
	if err := w.submit(t.Context(), snapshot, &messages.CreateSnapshot{Snapshot: snap1, Volume: vol1}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan saga.Status, 1)
	go func() {
		st, err := (&world{World: w.World, t: t, registry: w.registry}).drive(t.Context(), snapshot)
		if err != nil {
			t.Error(err)
		}
		ended <- st
	}()
	<-copying
	if err := w.submit(t.Context(), attaching, attach()); err != nil {
		t.Fatal(err)
	}
	waited := false
	st, err := w.drive(t.Context(), attaching, saga.WithWaitCeiling(10*time.Millisecond), saga.WithObserver(func(ev saga.Event) {
		if ev.Kind == saga.StepFailed && strings.Contains(ev.Err.Error(), "waits for the copy") && !waited {
			waited = true
			close(goOn)
		}
	}))
	if err != nil || st.Phase != saga.Done || !waited {
		t.Errorf("attach: %s, %v, waited %v", st.Phase, err, waited)
	}
	if st := <-ended; st.Phase != saga.Done {
		t.Errorf("the copy is %s: %v", st.Phase, st.Cause)
	}
}

// A copy that was accepted first is not refused because of an attach that came later.
func TestCopyGoesOnWhileAnAttachWaitsForIt(t *testing.T) {
	t.Parallel()
	for _, req := range []messages.Request{
		&messages.CreateVolume{Volume: vol2, FromVolume: vol1}, &messages.CreateSnapshot{Snapshot: snap1, Volume: vol1},
	} {
		t.Run(string(req.Kind()), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).exports()
			w.do(create(vol1, 1))
			attaching := block.OperationID(newID())
			if err := w.submit(t.Context(), opID, req); err != nil {
				t.Fatal(err)
			}
			if err := w.submit(t.Context(), attaching, attach()); err != nil {
				t.Fatal(err)
			}
			if st, err := w.drive(t.Context(), opID); err != nil || st.Phase != saga.Done {
				t.Errorf("copy: %s, %v, cause %v", st.Phase, err, st.Cause)
			}
			if st, err := w.drive(t.Context(), attaching); err != nil || st.Phase != saga.Done {
				t.Errorf("attach: %s, %v, cause %v", st.Phase, err, st.Cause)
			}
		})
	}
}

// An attach that was accepted first is about to let a host write: a slow copy that comes second is refused.
func TestCopyIsRefusedWhileAnEarlierAttachGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t).exports()
	operationstest.Put(t, w.World, records.BackendKey(backend), func(b *records.Backend) { b.Reflink = true }) // as an old view has it
	w.do(create(vol1, 1))
	attaching := block.OperationID(newID())
	if err := w.submit(t.Context(), attaching, attach()); err != nil {
		t.Fatal(err)
	}
	w.complete(att1) // so that admission lets the copy in
	st := w.try(&messages.CreateVolume{Volume: vol2, FromVolume: vol1})
	if st.Phase != saga.Undone || !strings.Contains(st.Cause.Message, "is being attached by operation "+string(attaching)) {
		t.Errorf("clone: %s, cause %v", st.Phase, st.Cause)
	}
}

func TestExtendOfAnAttachedVolumeIsSeenByNewConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t).exports()
	w.do(create(vol1, 1))
	w.do(attach())
	w.complete(att1)
	w.do(&messages.ExtendVolume{Volume: vol1, SizeGiB: 2, AllowAttached: true})
	a, _ := operationstest.Get[block.Attachment](t, w.World, records.AttachmentKey(att1))
	host, err := exporttest.DialNBD(export.Connection{Socket: a.Connection.Socket, Name: a.Connection.Export})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if got, want := host.Bytes(), int64(2<<30); got != want {
		t.Errorf("a host sees %d bytes, want %d", got, want)
	}
}

func TestDetachCutsTheHostOffBeforeItEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t).exports()
	w.do(create(vol1, 1))
	w.do(attach())
	a, _ := operationstest.Get[block.Attachment](t, w.World, records.AttachmentKey(att1))
	if a.Status != block.AttachAttaching || a.Connection == nil || a.Connection.Node != operationstest.NodeName || a.Connection.Driver != "nbd" {
		t.Fatalf("attachment %+v, connection %+v", a, a.Connection)
	}
	host, err := exporttest.DialNBD(export.Connection{Socket: a.Connection.Socket, Name: a.Connection.Export})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if err := host.WriteAt([]byte("written"), 0); err != nil {
		t.Fatal(err)
	}
	w.complete(att1)
	w.do(&messages.DetachVolume{Attachment: att1})
	if err := host.WriteAt([]byte("too late"), 0); err == nil {
		t.Error("the host wrote after the detach had ended")
	}
	v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1))
	if len(v.Attachments) > 0 || v.ShownStatus(block.Holder{}) != block.VolumeAvailable {
		t.Errorf("volume has attachments %v and is %s", v.Attachments, v.ShownStatus(block.Holder{}))
	}
}

// What an operation that was broken left exported is closed before its volume is deleted.
func TestDeleteClosesExportsThatWereLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t).exports()
	w.do(create(vol1, 1))
	_, err := w.exporter.Export(t.Context(), export.Request{
		Attachment: "left", Volume: string(vol1), Operation: "broken", Fence: export.Fence{Era: 1, Rev: 1}, Path: w.path("volumes", string(vol1)), Bytes: 1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.do(&messages.DeleteVolume{Volume: vol1})
	if all, err := w.exporter.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("exports %v, %v: want none", all, err)
	}
}

// A release goes on with what the one before began: the shape of a definition changes only with its number.
func TestDefinitionsChangeOnlyWithTheirNumber(t *testing.T) {
	t.Parallel()
	registry := newWorld(t).registry
	sagatest.Versions(t, registry, "testdata/versions")
	for _, k := range block.Kinds() {
		if registry.Latest(string(k)) == 0 {
			t.Errorf("no definition for %s", k)
		}
	}
}

// What the server does with an exchange that is disturbed must not matter: each one of an operation in turn is lost
// before it arrives, or loses its answer.
func TestLostRequestsAndAnswersChangeNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before []messages.Request
		req    messages.Request
	}{
		"volume create":   {nil, create(vol1, 1)},
		"volume extend":   {[]messages.Request{create(vol1, 1)}, &messages.ExtendVolume{Volume: vol1, SizeGiB: 2}},
		"snapshot create": {[]messages.Request{create(vol1, 1)}, &messages.CreateSnapshot{Snapshot: snap1, Volume: vol1}},
		"volume delete":   {[]messages.Request{create(vol1, 1)}, &messages.DeleteVolume{Volume: vol1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(fault kvlocktest.Fault, n int) (sagatest.Snapshot, bool) {
				w := newWorld(t)
				for _, req := range c.before {
					w.do(req)
				}
				if err := w.submit(t.Context(), opID, c.req); err != nil {
					t.Fatal(err)
				}
				faults := new(kvlocktest.Faults)
				worker := *w
				worker.World = w.Again(t, w.js, kvtx.WithInterceptor(faults.Intercept), kvtx.WithAckTimeout(time.Second))
				worker.bind()
				if fault != 0 {
					faults.Arm(fault, n, nil)
				}
				st, err := worker.drive(t.Context(), opID)
				if err != nil || st.Phase != saga.Done {
					t.Fatalf("%s, exchange %d: phase %s, error %v", fault, n, st.Phase, err)
				}
				picture, err := w.Snapshot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return picture, faults.Disarm()
			}
			want, _ := run(0, 0)
			for _, fault := range []kvlocktest.Fault{kvlocktest.RequestLost, kvlocktest.AnswerLost} {
				for n := 1; ; n++ {
					got, met := run(fault, n)
					if d := want.Diff(got); d != "" {
						t.Errorf("%s, exchange %d: the world is not as without it:%s", fault, n, d)
					}
					if !met {
						if n < 4 {
							t.Errorf("%s: only %d exchanges were disturbed", fault, n-1)
						}
						break
					}
				}
			}
		})
	}
}
