package intake_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/intake"
	"github.com/scoria-storage/scoria/volume-node/operations"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

const (
	project = "p1"
	backend = "local"

	vol1 = block.VolumeID("11111111-0000-4000-8000-000000000001")
	opID = block.OperationID("99999999-0000-4000-8000-000000000001")

	soon = 30 * time.Second // far above what anything here takes
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// world is a bucket and a file backend for several workers.
type world struct {
	*operationstest.World
	t        *testing.T
	srv      *natstest.Server
	dir      string
	admitter *admit.Admitter
	n        int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	srv := natstest.Start(t)
	w := &world{World: operationstest.New(t, srv.JetStream(t)), t: t, srv: srv, dir: filepath.Join(t.TempDir(), "backend")}
	w.Register(t, backend, w.open(), 100)
	w.admitter = admit.New(w.Store, w.Locks, operationstest.Hints{T: t, World: w.World, Only: backend}, admit.Defaults{}, nil)
	return w
}

// open opens the backend as one more process does.
func (w *world) open() driver.Driver { return w.openAt(w.dir) }

func (w *world) openAt(dir string) driver.Driver {
	w.t.Helper()
	d, err := file.Open(dir, file.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = d.Close() })
	return d
}

func (w *world) submit(id block.OperationID, req messages.Request) block.OperationID {
	w.t.Helper()
	_, err := w.admitter.Submit(w.t.Context(), admit.Submission{Caller: admit.Caller{Project: project, User: "u1"}, Operation: id, Request: req})
	if err != nil {
		w.t.Fatalf("%s refused: %v", req.Kind(), err)
	}
	return id
}

func create(id block.VolumeID) *messages.CreateVolume {
	return &messages.CreateVolume{Volume: id, SizeGiB: 1}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// worker is an intake on a connection of its own, as a process has it.
type worker struct {
	*intake.Intake
	t     *testing.T
	world *operationstest.World
	conn  interface{ Close() }
	stop  context.CancelFunc
	ended chan struct{}

	mu     sync.Mutex
	events []intake.Event
	change chan struct{}
}

type setup struct {
	cfg     intake.Config
	drivers map[string]driver.Driver
	lacks   bool // it has no definitions
	saga    []saga.Option
	store   []kvtx.Option
	workers intake.Workers
	export  export.Exporter
}

// work starts a worker. change may alter what it is made of.
func (w *world) work(change func(*setup)) *worker {
	w.t.Helper()
	w.n++
	s := setup{
		cfg: intake.Config{Backends: []string{backend}, Worker: fmt.Sprintf("worker-%d", w.n), Workers: 4, PurgeEvery: 20 * time.Millisecond,
			SweepEvery: time.Hour, ParkDelay: 50 * time.Millisecond},
		drivers: map[string]driver.Driver{backend: w.open()},
		saga:    []saga.Option{saga.WithWaitCeiling(time.Millisecond)},
	}
	if change != nil {
		change(&s)
	}
	js := w.srv.JetStream(w.t)
	mine := w.Again(w.t, js, s.store...)
	registry := new(saga.Registry)
	if !s.lacks {
		registry = operations.Registry(operations.Env{Store: mine.Store, Locks: mine.Locks, Drivers: s.drivers, Exporter: s.export, NodeName: operationstest.NodeName})
	}
	k := &worker{t: w.t, world: mine, conn: js.Conn(), ended: make(chan struct{}), change: make(chan struct{})}
	var err error
	k.Intake, err = intake.New(s.cfg, intake.Deps{
		Store: mine.Store, Locks: mine.Locks, Registry: registry, Input: operations.Input, Observe: k.observe, Saga: s.saga,
		Workers: s.workers,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	go func() {
		defer close(k.ended)
		if err := k.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	w.t.Cleanup(k.end)
	select {
	case <-k.Ready():
	case <-time.After(soon):
		w.t.Fatal("intake not ready")
	}
	return k
}

// end stops the worker and waits for it.
func (k *worker) end() {
	k.stop()
	select {
	case <-k.ended:
	case <-time.After(soon):
		k.t.Error("intake does not end")
	}
}

// die is the death of the worker's process: from one moment on nothing of it reaches the server. What it has begun on a backend may go on.
func (k *worker) die() {
	k.conn.Close()
	k.stop()
}

func (k *worker) observe(e intake.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, e)
	close(k.change)
	k.change = make(chan struct{})
}

// count is how often something happened.
func (k *worker) count(kind intake.EventKind) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, e := range k.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// await returns when it happened n times.
func (k *worker) await(kind intake.EventKind, n int) {
	k.t.Helper()
	limit := time.After(soon)
	for {
		k.mu.Lock()
		change := k.change
		k.mu.Unlock()
		if k.count(kind) >= n {
			return
		}
		select {
		case <-change:
		case <-limit:
			k.mu.Lock()
			defer k.mu.Unlock()
			k.t.Fatalf("%s did not happen %d times; events: %+v", kind, n, k.events)
		}
	}
}

// record reads an operation.
func (w *world) record(id block.OperationID) kvlock.Record {
	w.t.Helper()
	rec, err := w.Locks.Record(w.t.Context(), string(id))
	if err != nil {
		w.t.Fatal(err)
	}
	return rec
}

func (w *world) requireDone(id block.OperationID) kvlock.Record {
	w.t.Helper()
	rec := w.record(id)
	if rec.Phase != kvlock.Done {
		st, _ := sagakv.StatusOf(rec)
		w.t.Fatalf("operation is %s, step %s, cause %v, last tries %v; want done", rec.Phase, st.Step, st.Cause, st.Last)
	}
	return rec
}

// eventually waits for a condition.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(soon); !holds(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not seen: %s", what)
		}
	}
}

func (w *world) consumer() *jetstream.ConsumerInfo { return w.consumerOf(backend) }

func (w *world) consumerOf(backend string) *jetstream.ConsumerInfo {
	w.t.Helper()
	c, err := w.Store.Stream().Consumer(w.t.Context(), "node-"+backend)
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := c.Info(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return info
}

// requireNothingLeft proves that all is settled: no locks, nothing to deliver to workers of the backends (none: of the usual one),
// no dispatch in the stream.
func (w *world) requireNothingLeft(backends ...string) {
	w.t.Helper()
	if len(backends) == 0 {
		backends = []string{backend}
	}
	for _, b := range backends {
		w.eventually("all deliveries acknowledged", func() bool {
			info := w.consumerOf(b)
			return info.NumAckPending == 0 && info.NumPending == 0
		})
	}
	defer func() {
		if w.t.Failed() {
			w.t.Logf("in the stream: %v", w.dispatches())
		}
	}()
	w.eventually("all dispatches purged", func() bool { return len(w.dispatches()) == 0 })
	kvlocktest.RequireFree(w.t, w.Locks)
}

// serveWakes lets in who waits, as a node does, until the function that it returns is called.
func (w *world) serveWakes() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.Locks.ServeWakes(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			w.t.Errorf("ServeWakes = %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

func (w *world) dispatches() map[string]uint64 {
	w.t.Helper()
	info, err := w.Store.Stream().Info(w.t.Context(), jetstream.WithSubjectFilter(w.Store.DispatchSubject(">")))
	if err != nil {
		w.t.Fatal(err)
	}
	return info.State.Subjects
}

// gate is a driver whose calls of one method wait until it is opened.
type gate struct {
	entered chan struct{}
	open    chan struct{}
	calls   func() int
	only    string // if set, the ID of the thing whose calls wait
	driver.Driver
}

func gated(d driver.Driver, method driver.Method) *gate {
	g := &gate{entered: make(chan struct{}, 100), open: make(chan struct{})}
	var mu sync.Mutex
	n := 0
	g.calls = func() int { mu.Lock(); defer mu.Unlock(); return n }
	g.Driver = driver.Intercept(d, func(ctx context.Context, m driver.Method, ref driver.Ref, next func(context.Context) error) error {
		if m != method || g.only != "" && ref.ID != g.only {
			return next(ctx)
		}
		mu.Lock()
		n++
		mu.Unlock()
		g.entered <- struct{}{}
		select {
		case <-g.open:
			return next(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return g
}
