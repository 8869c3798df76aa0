package operations_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

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

func (d reflinking) CloneVolume(ctx context.Context, call driver.Call, dst, src driver.Volume) error {
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

// attachedWorld is a world with a volume that a host uses, on a backend that clones in a moment.
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
	w.complete(att1) // with it, admission lets a copy in that may wait: it does not look at who has what
	_, err := w.admitter.Submit(t.Context(), admit.Submission{Caller: admit.Caller{Project: project, User: "u1"}, Operation: opID, OnConflict: "queue",
		Request: &messages.CreateVolume{Volume: vol2, FromVolume: vol1}})
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.drive(t.Context(), opID)
	if err != nil {
		t.Fatal(err)
	}
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
	if len(v.Attachments) > 0 || v.ShownStatus(block.Holder{}, block.Holder{}) != block.VolumeAvailable {
		t.Errorf("volume has attachments %v and is %s", v.Attachments, v.ShownStatus(block.Holder{}, block.Holder{}))
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
