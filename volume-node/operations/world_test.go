package operations_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
	"github.com/scoria-storage/scoria/saga/sagatest"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
	"github.com/scoria-storage/scoria/volume-node/operations"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// server is one nats-server for all tests of the package; each has a bucket of its own.
var server = sync.OnceValues(func() (*natstest.Server, func()) {
	t := &mainTB{}
	s := natstest.Start(t)
	return s, t.cleanup
})

// mainTB lets natstest run for as long as the package's tests do.
type mainTB struct {
	testing.TB
	cleanups []func()
	dirs     []string
}

func (*mainTB) Helper()            {}
func (*mainTB) Name() string       { return "operations" }
func (t *mainTB) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }
func (t *mainTB) TempDir() string {
	dir, err := os.MkdirTemp("", "operations")
	if err != nil {
		panic(err)
	}
	t.dirs = append(t.dirs, dir)
	return dir
}
func (*mainTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *mainTB) cleanup() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
	for _, d := range t.dirs {
		_ = os.RemoveAll(d)
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	_, stop := server()
	stop()
	os.Exit(code)
}

const (
	project = "p1"
	backend = "local"

	vol1  = block.VolumeID("11111111-0000-4000-8000-000000000001")
	vol2  = block.VolumeID("11111111-0000-4000-8000-000000000002")
	snap1 = block.SnapshotID("22222222-0000-4000-8000-000000000001")
	att1  = block.AttachmentID("33333333-0000-4000-8000-000000000001")
	opID  = block.OperationID("99999999-0000-4000-8000-000000000001")
)

// world is one operation in a bucket, a directory and an export server of its own.
type world struct {
	*operationstest.World
	t        *testing.T
	js       jetstream.JetStream
	dir      string
	drivers  map[string]driver.Driver
	exporter export.Exporter
	admitter *admit.Admitter
	registry *saga.Registry
	req      messages.Request
	undone   func(sagatest.Snapshot) sagatest.Snapshot
	workers  int
}

// newWorld makes a world with a file backend of 100 GiB.
func newWorld(t *testing.T) *world {
	t.Helper()
	srv, _ := server()
	js := srv.JetStream(t)
	w := &world{World: operationstest.New(t, js), t: t, js: js, dir: filepath.Join(t.TempDir(), "backend")}
	d, err := file.Open(w.dir, file.Options{Reflink: file.ReflinkNever})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	w.Register(t, backend, d, 100)
	w.drivers = map[string]driver.Driver{backend: d}
	w.admitter = admit.New(w.Store, w.Locks, operationstest.Hints{T: t, World: w.World, Only: backend}, admit.Defaults{}, nil)
	w.bind()
	return w
}

// bind makes the registry of the world as it is now.
func (w *world) bind() {
	w.registry = operations.Registry(operations.Env{
		Store: w.Store, Locks: w.Locks, Drivers: w.drivers, Exporter: w.exporter, NodeName: operationstest.NodeName, NodeID: "id-of-n1",
	})
}

// exports gives the world a real export server.
func (w *world) exports() *world {
	w.exporter = exporttest.Start(w.t)
	w.bind()
	return w
}

// wrap puts something around the backend's driver.
func (w *world) wrap(f func(driver.Driver) driver.Driver) *world {
	w.drivers[backend] = f(w.drivers[backend])
	w.bind()
	return w
}

// submit has a request accepted.
func (w *world) submit(ctx context.Context, id block.OperationID, req messages.Request) error {
	_, err := w.admitter.Submit(ctx, admit.Submission{Caller: admit.Caller{Project: project, User: "u1"}, Operation: id, Request: req})
	return err
}

// takeOver takes an operation over as the intake does: together with its first step, where that only stages writes.
func (w *world) takeOver(ctx context.Context, id block.OperationID) (kvlock.Grant, kvlock.Record, error) {
	w.workers++
	worker := fmt.Sprintf("worker-%d", w.workers)
	rec, err := w.Locks.Record(ctx, string(id))
	if err != nil || rec.Phase != kvlock.Granted {
		return w.Locks.Adopt(ctx, string(id), worker, rand.Text())
	}
	payload, err := sagakv.DecodePayload(rec.Payload)
	if err != nil {
		return kvlock.Grant{}, rec, err
	}
	op, err := records.Decode[records.Operation](payload.Request)
	if err != nil {
		return kvlock.Grant{}, rec, err
	}
	for _, sh := range w.registry.Shapes() {
		if sh.Name == string(op.Kind) && sh.Steps[0].Records {
			g, err := w.Locks.Intend(rec, worker, rand.Text())
			return g, rec, err
		}
	}
	return w.Locks.Adopt(ctx, string(id), worker, rand.Text())
}

// attach takes an operation over as the journal of its run.
func (w *world) attach(ctx context.Context, id block.OperationID) (*sagakv.Log, kvlock.Record, error) {
	g, rec, err := w.takeOver(ctx, id)
	if err != nil {
		return nil, rec, err
	}
	log, err := sagakv.Attach(w.Store, w.Locks, g, rec)
	return log, rec, err
}

// drive takes an operation over and runs it.
func (w *world) drive(ctx context.Context, id block.OperationID, opts ...saga.Option) (saga.Status, error) {
	log, rec, err := w.attach(ctx, id)
	if errors.Is(err, kvlock.ErrEnded) || errors.Is(err, kvlock.ErrStuck) {
		return sagakv.StatusOf(rec)
	}
	if err != nil {
		return saga.Status{}, err
	}
	op, err := records.Decode[records.Operation](log.Request())
	if err != nil {
		return saga.Status{}, err
	}
	input, err := operations.Input(op, rec.Dispatch)
	if err != nil {
		return saga.Status{}, err
	}
	return saga.New(nil, w.registry, opts...).Run(ctx, log, string(op.Kind), 0, input)
}

// do has a request accepted and run to its end.
func (w *world) do(req messages.Request) {
	w.t.Helper()
	st := w.try(req)
	if st.Phase != saga.Done {
		w.t.Fatalf("%s: %s, cause %v", req.Kind(), st.Phase, st.Cause)
	}
}

// try has a request accepted and run, however it ends.
func (w *world) try(req messages.Request) saga.Status {
	w.t.Helper()
	id := block.OperationID(newID())
	if err := w.submit(w.t.Context(), id, req); err != nil {
		w.t.Fatalf("%s refused: %v", req.Kind(), err)
	}
	st, err := w.drive(w.t.Context(), id)
	if err != nil {
		w.t.Fatalf("%s: %v", req.Kind(), err)
	}
	return st
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// The usual requests.

func create(id block.VolumeID, size block.GiB) *messages.CreateVolume {
	return &messages.CreateVolume{Volume: id, SizeGiB: size}
}

func (w *world) path(kind, id string) string { return filepath.Join(w.dir, kind, id) }

// fill writes a mark into a volume that a copy must have, too.
func (w *world) fill(id block.VolumeID, mark string) {
	w.t.Helper()
	f, err := os.OpenFile(w.path("volumes", string(id)), os.O_WRONLY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte(mark), 100), 8192)
	if err := errors.Join(err, f.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// Snapshot, Submit, Drive, Head, TakeOver, Resume, Leftovers, Undone, Cancel, CheckStuck and RefusesStaleFences are sagatest's.

func (w *world) Snapshot(ctx context.Context) (sagatest.Snapshot, error) {
	picture, err := w.Picture(ctx)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{"volumes", "snapshots"} {
		entries, err := os.ReadDir(filepath.Join(w.dir, kind))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			what, err := content(w.path(kind, e.Name()))
			if err != nil {
				return nil, err
			}
			picture["backend "+kind+" "+e.Name()] = what
		}
	}
	if w.exporter != nil {
		all, err := w.exporter.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, x := range all {
			picture["export "+x.Attachment] = fmt.Sprintf("%s, %d bytes, %s", x.Volume, x.Connection.Bytes, x.Fault)
		}
	}
	return picture, nil
}

// content is the size of a file and a checksum of its beginning.
func content(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.LimitReader(f, 64<<10))
	return fmt.Sprintf("%d bytes, %x", info.Size(), h.Sum(nil)[:8]), err
}

func (w *world) Submit(ctx context.Context) error { return w.submit(ctx, opID, w.req) }

func (w *world) Drive(ctx context.Context, opts ...saga.Option) (saga.Status, error) {
	return w.drive(ctx, opID, opts...)
}

func (w *world) Head(ctx context.Context) (saga.Head, error) {
	return sagakv.NewJournal(w.Store, w.Locks, "", nil).Load(ctx, saga.ID(opID))
}

func (w *world) TakeOver(ctx context.Context) (saga.Log, error) {
	log, _, err := w.attach(ctx, opID)
	return log, err
}

func (w *world) Resume(ctx context.Context) error {
	_, err := w.Store.Update(ctx, w.Locks.Keys(string(opID)), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		_, err := sagakv.StageResume(w.Locks, s, tx, string(opID), "the test says so")
		return err
	})
	return err
}

func (w *world) Cancel(ctx context.Context) error {
	_, err := w.Locks.Cancel(ctx, string(opID), "somebody")
	return err
}

func (w *world) CheckStuck(ctx context.Context) error {
	rec, err := w.Locks.Record(ctx, string(opID))
	if err != nil {
		return err
	}
	if rec.Phase != kvlock.Stuck {
		return fmt.Errorf("the record says %s", rec.Phase)
	}
	kvlocktest.RequireHeld(w.t, w.Locks, string(opID), rec.Claims...)
	return nil
}

func (*world) RefusesStaleFences() {}

func (w *world) Undone(before sagatest.Snapshot) sagatest.Snapshot {
	if w.undone == nil {
		return before
	}
	return w.undone(before)
}

func (w *world) Leftovers() []sagatest.Leftover {
	plant := func(name, kind, file string) sagatest.Leftover {
		return sagatest.Leftover{Name: name, Plant: func(context.Context) error {
			return os.WriteFile(w.path(kind, file), []byte("left"), 0o600)
		}}
	}
	all := []sagatest.Leftover{
		plant("volume", "volumes", "44444444-0000-4000-8000-000000000001"),
		plant("snapshot", "snapshots", "44444444-0000-4000-8000-000000000002"),
		plant("temporary", "volumes", ".tmp-op.44444444-0000-4000-8000-000000000003"),
		{Name: "lock", Plant: func(ctx context.Context) error {
			_, err := w.Locks.TryAcquire(ctx, "other", nil, kvlock.Exclusive(records.VolumeKey(vol1)+"-x"))
			return err
		}},
		{Name: "reservation", Plant: func(context.Context) error {
			operationstest.Put(w.t, w.World, records.PoolKey(backend), func(p *records.Pool) { p.AllocatedGiB++ })
			return nil
		}},
		{Name: "credit", Plant: func(context.Context) error {
			operationstest.Put(w.t, w.World, records.CreditKey(project, operationstest.NodeName), func(c *records.Credit) { c.Back.GiB++ })
			return nil
		}},
		{Name: "record", Plant: func(context.Context) error {
			operationstest.Put(w.t, w.World, records.VolumeKey("44444444-0000-4000-8000-000000000004"), func(v *block.Volume) { v.Project = project })
			return nil
		}},
	}
	if w.exporter != nil {
		all = append(all, sagatest.Leftover{Name: "export", Plant: func(ctx context.Context) error {
			path := filepath.Join(w.t.TempDir(), "volume")
			if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
				return err
			}
			_, err := w.exporter.Export(ctx, export.Request{Attachment: "left", Volume: "left", Operation: "op", Fence: export.Fence{Era: 1, Rev: 1}, Path: path, Bytes: 4096})
			return err
		}})
	}
	return all
}

// edit changes a record of a picture; one that is not there begins as zero.
func edit[T records.Record](s sagatest.Snapshot, key string, change func(*T)) sagatest.Snapshot {
	var r T
	if text, ok := s[key]; ok {
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			panic(err)
		}
	}
	change(&r)
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return s.With(key, string(text))
}

// charged is a picture in which the project has more.
func charged(s sagatest.Snapshot, more records.Usage) sagatest.Snapshot {
	return edit(s, records.QuotaKey(project), func(q *records.Quota) {
		q.Project, q.Use = project, q.Use.Add(more)
	})
}
