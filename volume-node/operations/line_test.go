package operations_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

const (
	vol3  = block.VolumeID("11111111-0000-4000-8000-000000000003")
	snap2 = block.SnapshotID("22222222-0000-4000-8000-000000000002")
	snap3 = block.SnapshotID("22222222-0000-4000-8000-000000000003")
	att2  = block.AttachmentID("33333333-0000-4000-8000-000000000002")

	earlier = opID
	later   = block.OperationID("99999999-0000-4000-8000-000000000002")
	latest  = block.OperationID("99999999-0000-4000-8000-000000000003")
)

// lined is a request that waits in line, in a world that was prepared for it.
type lined struct {
	name    string
	prepare func(*world)
	req     messages.Request
}

func (w *world) volumeAndSnapshot() {
	w.do(create(vol1, 1))
	w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
}

func (w *world) volume() { w.do(create(vol1, 1)) }

func (w *world) reservation() {
	w.volume()
	if _, _, err := w.admitter.Reserve(w.t.Context(), caller, vol1, att1, "vm", false); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) attachment() {
	w.volume()
	w.do(&messages.AttachVolume{Volume: vol1, Attachment: att1, Instance: "vm", Connector: []byte(`{"host":"h1"}`)})
	if _, err := w.admitter.CompleteAttachment(w.t.Context(), caller, att1); err != nil {
		w.t.Fatal(err)
	}
}

var caller = admit.Caller{Project: project, User: "u1"}

// firstInLine has every kind.
var firstInLine = []lined{
	{"create", (*world).volume, create(vol2, 1)},
	{"clone", (*world).volume, &messages.CreateVolume{Volume: vol2, FromVolume: vol1}},
	{"create from a snapshot", (*world).volumeAndSnapshot, &messages.CreateVolume{Volume: vol2, FromSnapshot: snap1}},
	{"delete", (*world).volume, &messages.DeleteVolume{Volume: vol1}},
	{"extend", (*world).volume, &messages.ExtendVolume{Volume: vol1, SizeGiB: 2}},
	{"extend attached", (*world).attachment, &messages.ExtendVolume{Volume: vol1, SizeGiB: 2, AllowAttached: true}},
	{"revert", (*world).volumeAndSnapshot, &messages.RevertVolume{Volume: vol1, Snapshot: snap1}},
	{"attach", (*world).volume, &messages.AttachVolume{Volume: vol1, Attachment: att1, Instance: "vm", Connector: []byte(`{"host":"h1"}`)}},
	{"attach what was reserved", (*world).reservation, &messages.AttachVolume{Volume: vol1, Attachment: att1, Instance: "vm", Connector: []byte(`{"host":"h1"}`)}},
	{"detach", (*world).attachment, &messages.DetachVolume{Attachment: att1}},
	{"snapshot", (*world).volumeAndSnapshot, &messages.CreateSnapshot{Snapshot: snap2, Volume: vol1, AllowAttached: true}},
	{"delete a snapshot", (*world).volumeAndSnapshot, &messages.DeleteSnapshot{Snapshot: snap1}},
}

// nextInLine are requests of every kind for what those before are about.
var nextInLine = func() (all []lined) {
	add := func(name string, req messages.Request) { all = append(all, lined{name: name, req: req}) }
	for _, v := range []block.VolumeID{vol1, vol2} {
		add("delete "+string(v[len(v)-1:]), &messages.DeleteVolume{Volume: v})
		add("extend "+string(v[len(v)-1:]), &messages.ExtendVolume{Volume: v, SizeGiB: 3, AllowAttached: true})
		add("attach "+string(v[len(v)-1:]), &messages.AttachVolume{Volume: v, Attachment: att2, Instance: "vm", Connector: []byte(`{"host":"h2"}`)})
		add("clone "+string(v[len(v)-1:]), &messages.CreateVolume{Volume: vol3, FromVolume: v})
		add("snapshot "+string(v[len(v)-1:]), &messages.CreateSnapshot{Snapshot: snap3, Volume: v, AllowAttached: true})
	}
	for _, n := range []block.SnapshotID{snap1, snap2} {
		add("delete snapshot "+string(n[len(n)-1:]), &messages.DeleteSnapshot{Snapshot: n})
		add("create from snapshot "+string(n[len(n)-1:]), &messages.CreateVolume{Volume: vol3, FromSnapshot: n})
		add("revert to snapshot "+string(n[len(n)-1:]), &messages.RevertVolume{Volume: vol1, Snapshot: n})
	}
	add("attach 1 again", &messages.AttachVolume{Volume: vol1, Attachment: att1, Instance: "vm", Connector: []byte(`{"host":"h2"}`)})
	add("detach 1", &messages.DetachVolume{Attachment: att1})
	add("create", create(vol3, 1))
	return all
}()

// line is a world in which somebody has everything that operations may claim, so that all requests wait.
func line(t *testing.T, l lined) (w *world, free func()) {
	t.Helper()
	w = newWorld(t).exports()
	l.prepare(w)
	payload := sagakv.NewPayload(records.Encode(records.Operation{ID: "99999999-0000-4000-8000-00000000000f", Kind: block.VolumeExtend, Project: project}))
	g, err := w.Locks.TryAcquire(t.Context(), "99999999-0000-4000-8000-00000000000f", payload,
		kvlock.Exclusive(records.VolumeKey(vol1)), kvlock.Exclusive(records.VolumeKey(vol2)), kvlock.Exclusive(records.VolumeKey(vol3)),
		kvlock.Exclusive(records.AttachKey(vol1)), kvlock.Exclusive(records.SnapshotKey(snap1)), kvlock.Exclusive(records.SnapshotKey(snap2)))
	if err != nil {
		t.Fatal(err)
	}
	w.mustQueue(earlier, l.req)
	return w, func() {
		t.Helper()
		if err := w.Locks.Release(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) queue(id block.OperationID, req messages.Request) error {
	_, err := w.admitter.Submit(w.t.Context(), admit.Submission{Caller: caller, Operation: id, OnConflict: "queue", Request: req})
	return err
}

func (w *world) mustQueue(id block.OperationID, req messages.Request) {
	w.t.Helper()
	if err := w.queue(id, req); err != nil {
		w.t.Fatalf("%s: %v", req.Kind(), err)
	}
	if rec, err := w.Locks.Record(w.t.Context(), string(id)); err != nil || rec.Phase != kvlock.Queued {
		w.t.Fatalf("%s is %s, %v; want it queued", req.Kind(), rec.Phase, err)
	}
}

// drain drives the operations, those that were let in together at the same moment, and returns how the first one ended.
func (w *world) drain(ids ...block.OperationID) saga.Status {
	w.t.Helper()
	var in []block.OperationID
	for _, id := range ids {
		if rec, err := w.Locks.Record(w.t.Context(), string(id)); err != nil {
			w.t.Fatal(err)
		} else if rec.Phase != kvlock.Queued && rec.Live() {
			in = append(in, id)
		}
	}
	if len(in) == 0 || in[0] != ids[0] {
		w.t.Fatalf("of operations %v only %v were let in", ids, in)
	}
	all := w.concurrently(in)
	if rest := ids[len(in):]; len(rest) > 0 {
		w.drain(rest...)
	}
	return all[0]
}

// listing is the backend's for the check of the books.
type listing struct{ w *world }

func (listing) Processes(context.Context, string) ([]string, error) { return []string{"p1"}, nil }

func (l listing) List(ctx context.Context, _, name, _ string) (all verify.Listing, err error) {
	err = l.w.drivers[backend].List(ctx, func(o driver.Object) error {
		all.Objects = append(all.Objects, messages.Object{Class: string(o.Kind), ID: o.ID, Bytes: o.Bytes})
		return nil
	})
	return all, err
}

func (w *world) requireClean() {
	w.t.Helper()
	kvlocktest.RequireFree(w.t, w.Locks)
	if r, err := verify.New(w.Store, listing{w}).Verify(w.t.Context()); err != nil || !r.Clean {
		w.t.Errorf("verify: %+v, %v", r, err)
	}
}

func how(st saga.Status) string {
	if st.Cause == nil {
		return st.Phase.String()
	}
	return fmt.Sprintf("%s: %s %s", st.Phase, st.Cause.Code, st.Cause.Message)
}

// Whoever is earlier in a line ends as if nobody had come after: what was made for a later request at its admission is not there yet for
// an earlier one.
func TestTheEarlierInLineEndsAsIfTheLaterWereNotThere(t *testing.T) {
	t.Parallel()
	var met atomic.Int64
	t.Cleanup(func() {
		if n := met.Load(); n < 90 {
			t.Errorf("only %d pairs were met", n)
		}
	})
	for _, first := range firstInLine {
		t.Run(first.name, func(t *testing.T) {
			t.Parallel()
			w, free := line(t, first)
			free()
			want := how(w.drain(earlier))
			if want != "done" {
				t.Errorf("alone it is %s", want)
			}
			w.requireClean()
			for _, next := range nextInLine {
				t.Run(next.name, func(t *testing.T) {
					t.Parallel()
					w, free := line(t, first)
					if err := w.queue(later, next.req); err != nil {
						if _, ok := errors.AsType[*messages.Error](err); !ok {
							t.Error(err)
						}
						return // is not admitted
					}
					met.Add(1)
					free()
					if got := how(w.drain(earlier, later)); got != want {
						t.Errorf("with another one behind it, it is %s; without, %s", got, want)
					}
					w.requireClean()
				})
			}
		})
	}
}

// Behind a deletion somebody attaches the volume, and somebody else detaches that again; the first one may give up. Neither keeps the
// deletion from its end.
func TestTheEarlierInLineEndsAsIfSeveralWereNotThere(t *testing.T) {
	t.Parallel()
	for _, givesUp := range []bool{false, true} {
		w, free := line(t, lined{prepare: (*world).volume, req: &messages.DeleteVolume{Volume: vol1}})
		w.mustQueue(later, &messages.AttachVolume{Volume: vol1, Attachment: att1, Connector: []byte(`{"host":"h1"}`)})
		w.mustQueue(latest, &messages.DetachVolume{Attachment: att1})
		ids := []block.OperationID{earlier, later, latest}
		if givesUp {
			if err := w.admitter.Cancel(t.Context(), caller, later, ""); err != nil {
				t.Fatal(err)
			}
			ids = []block.OperationID{earlier, latest}
		}
		free()
		if got := how(w.drain(ids...)); got != "done" {
			t.Errorf("the first one behind it gives up: %v; the deletion is %s", givesUp, got)
		}
		w.requireClean()
	}
}
