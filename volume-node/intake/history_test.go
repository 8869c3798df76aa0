package intake_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
	"github.com/scoria-storage/scoria/volume-node/operations"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// history is what clients do to few volumes, snapshots and attachments while there is trouble.
type history struct {
	*world
	x        *trouble
	backends map[string]string // directories, by name
	exports  *exporttest.Local
	vols     []block.VolumeID
	snaps    []block.SnapshotID
	accepted chan struct{} // one for each operation
	mu       sync.Mutex
	ops      []block.OperationID
	asked    int
}

const second = "other" // backend

// who is the caller of all that is asked for.
var who = admit.Caller{Project: project, User: "u1"}

// newHistory makes a world of two small backends and an export server.
func newHistory(t *testing.T, x *trouble) *history {
	w := newWorld(t)
	h := &history{world: w, x: x, exports: exporttest.Start(t), backends: map[string]string{backend: w.dir, second: filepath.Join(t.TempDir(), second)}}
	w.Register(t, second, w.openAt(h.backends[second]), 9)
	operationstest.Put(t, w.World, records.PoolKey(backend), func(p *records.Pool) { p.TotalBytes, p.FreeBytes = 9<<30, 9<<30 })
	operationstest.Put(t, w.World, records.QuotaKey(project), func(q *records.Quota) {
		q.Project, q.Limits = project, &records.Limits{Volumes: 8, Snapshots: 8, GiB: 40}
	})
	for range 9 {
		h.vols = append(h.vols, block.VolumeID(newID()))
		h.snaps = append(h.snaps, block.SnapshotID(newID()))
	}
	h.admitter = h.admission(h.World)
	return h
}

// worker starts a worker of both backends that knows of its death.
func (h *history) worker() *mortal {
	m := &mortal{dead: make(chan struct{})}
	m.worker = h.work(func(s *setup) {
		s.cfg.Lease, s.cfg.StopLimit, s.cfg.SweepEvery = time.Second, time.Millisecond, time.Second
		s.cfg.Backends, s.drivers = nil, make(map[string]driver.Driver)
		for name, dir := range h.backends {
			s.cfg.Backends = append(s.cfg.Backends, name)
			s.drivers[name] = h.x.driver(h.openAt(dir), m.dead)
		}
		s.export = exporter{h.exports, h.x}
		s.store = append(s.store, h.x.store())
	})
	return m
}

type mortal struct {
	*worker
	dead chan struct{}
}

// go away, by a stop or by death.
func (m *mortal) leave(x *trouble) {
	if x.intn(2) == 0 {
		m.end()
		return
	}
	m.die()
	close(m.dead)
}

// fences raises fences as a node does that was asked to: with drivers of its own, and the trouble of all.
type fences struct {
	h   *history
	env operations.Env
}

func (h *history) fences() *fences {
	f := &fences{h: h, env: operations.Env{Drivers: make(map[string]driver.Driver), Exporter: exporter{h.exports, h.x}, NodeName: operationstest.NodeName,
		Log: slog.New(slog.DiscardHandler)}}
	for name, dir := range h.backends {
		f.env.Drivers[name] = h.x.driver(h.openAt(dir), nil)
	}
	return f
}

func (f *fences) RaiseFence(ctx context.Context, _ string, id block.OperationID) error {
	rec, err := f.h.Locks.Record(ctx, string(id))
	if err != nil {
		return err
	}
	return f.env.RaiseFence(ctx, rec)
}

// admission is that of an API node that breaks locks.
func (h *history) admission(w *operationstest.World) *admit.Admitter {
	return admit.New(w.Store, w.Locks, operationstest.Hints{T: h.t, World: h.World}, admit.Defaults{}, nil, admit.WithFences(h.fences()))
}

// breakLocks takes an operation's locks away, whatever it does at this moment.
func (h *history) breakLocks(a *admit.Admitter, op block.OperationID) {
	rec, err := h.Locks.Record(h.t.Context(), string(op))
	if err != nil {
		h.t.Error(err)
		return
	}
	b := admit.Break{Operation: op, Reason: "it hangs", Force: h.x.intn(4) > 0}
	for _, c := range rec.Claims {
		b.Keys = append(b.Keys, c.Key)
	}
	_, err = a.Break(h.t.Context(), who, b)
	h.requireWords("break", err)
}

// client asks for one thing after the other.
func (h *history) client(a *admit.Admitter, rounds int) {
	for range rounds {
		h.round(a)
	}
}

// round submits a request, now and then twice. Where it is accepted, one of the last operations may be canceled, resumed, abandoned or broken.
func (h *history) round(a *admit.Admitter) {
	ctx, req := h.t.Context(), h.request()
	if id := h.attachment(); id != "" && h.x.intn(2) == 0 {
		_, err := a.CompleteAttachment(ctx, who, id)
		h.requireWords("complete", err)
	}
	op := block.OperationID(newID())
	policy := []string{"refuse", "queue", "queue", "queue;deadline=0.05"}[h.x.intn(4)]
	sub := admit.Submission{Caller: who, Operation: op, OnConflict: policy, Request: req}
	acc, err := a.Submit(ctx, sub)
	if err == nil && h.x.intn(4) == 0 {
		again, err := a.Submit(ctx, sub)
		if err != nil || !again.Repeated || again.Resource != acc.Resource || again.Revision.Pending() {
			h.t.Errorf("repeated: %+v, %v; first %+v", again, err, acc)
		}
	}
	h.mu.Lock()
	h.asked++
	h.mu.Unlock()
	if err != nil {
		if e := h.requireWords(string(req.Kind()), err); e != nil && e.Holder != nil {
			h.awaitSettled(e.Holder.Operation)
		}
		return
	}
	h.accepted <- struct{}{}
	h.mu.Lock()
	h.ops = append(h.ops, op)
	other := h.ops[len(h.ops)-1-h.x.intn(min(len(h.ops), 3))]
	h.mu.Unlock()
	switch h.x.intn(12) {
	case 0, 1:
		_ = a.Cancel(ctx, who, other, "")
	case 2, 3:
		_ = a.Resume(ctx, who, other, "again")
	case 4:
		_ = a.Abandon(ctx, who, other, "enough")
	case 5, 6:
		<-time.After(time.Duration(h.x.intn(40)) * time.Millisecond)
		h.breakLocks(a, other)
	default:
		h.awaitSettled(op)
	}
}

// requireWords: an error says what is wrong with the request.
func (h *history) requireWords(what string, err error) *messages.Error {
	e, ok := errors.AsType[*messages.Error](err)
	if err != nil && (!ok || e.Code == messages.CodeInternal) {
		h.t.Errorf("%s: %v", what, err)
	}
	return e
}

// helpStuck resumes, breaks or abandons what waits for a person, and says how many operations have not ended.
func (h *history) helpStuck() int {
	ctx, open := h.t.Context(), 0
	for rec, err := range h.Locks.Records(ctx) {
		if err != nil {
			h.t.Fatal(err)
		}
		if !rec.Live() {
			continue
		}
		open++
		op := block.OperationID(rec.Owner)
		switch {
		case rec.Phase != kvlock.Stuck && rec.Phase != kvlock.Void:
		case h.x.intn(3) == 0:
			h.breakLocks(h.admitter, op)
		case rec.Phase == kvlock.Stuck && h.x.intn(2) == 0:
			_ = h.admitter.Resume(ctx, who, op, "again")
		default:
			_ = h.admitter.Abandon(ctx, who, op, "enough")
		}
	}
	return open
}

// env reads a number from the environment.
func env[T any](name string, def T) T {
	if s := os.Getenv(name); s != "" {
		_, _ = fmt.Sscan(s, &def)
	}
	return def
}

// TestHistoriesKeepTheBooks lets clients of two API nodes and two workers of two backends, who come, go and die, work on few volumes
// and their attachments while requests, answers, calls of drivers and of the export server are lost, and operators cancel, resume,
// abandon and break operations. Afterwards every operation has ended, no lock is left, and quota, pools, backends and exports are
// what the records say; of what was broken or given up the record is an error, and what it names may be on its backend or not.
func TestHistoriesKeepTheBooks(t *testing.T) {
	t.Parallel()
	seed, rounds := env("SCORIA_SEED", uint64(time.Now().UnixNano())), env("SCORIA_ROUNDS", 25)
	t.Logf("seed %d (SCORIA_SEED), %d rounds (SCORIA_ROUNDS)", seed, rounds)
	x := &trouble{rng: rand.New(rand.NewPCG(seed, 0))}
	x.on.Store(true)
	h := newHistory(t, x)
	h.accepted = make(chan struct{}, 6*rounds)
	workers := []*mortal{h.worker(), h.worker()}
	h.serveWakes()
	var clients sync.WaitGroup
	for range 2 {
		a := h.admission(h.Again(t, h.srv.JetStream(t), x.store()))
		for range 3 {
			clients.Go(func() { h.client(a, rounds) })
		}
	}
	go func() { clients.Wait(); close(h.accepted) }()
	for n := range many(h.accepted, 12) { // a worker goes and another comes
		i := n % len(workers)
		workers[i].leave(x)
		workers[i] = h.worker()
	}
	x.on.Store(false)
	h.eventually("every operation has ended", func() bool { return h.helpStuck() == 0 })
	kvlocktest.RequireFree(t, h.Locks)
	problems, err := h.Locks.Verify(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("locks: %v, %v", problems, err)
	}
	h.requireBooks()
	h.requireNothingLeft(backend, second)
	h.tell()
}

// tell says what the history was made of, and fails if too much of it was refused; more than half is accepted on a machine that is not busy.
func (h *history) tell() {
	h.t.Helper()
	phases, kinds := map[kvlock.Phase]int{}, map[block.Kind]int{}
	taken, broken := uint64(0), map[kvlock.Phase]int{}
	for _, id := range h.ops {
		rec := h.record(id)
		phases[rec.Phase]++
		if rec.Phase == kvlock.Void && len(rec.Audit) > 0 && strings.HasSuffix(rec.Audit[len(rec.Audit)-1].Reason, "it hangs") {
			broken[rec.Audit[len(rec.Audit)-1].Phase]++
		}
		taken += rec.TakenOver
		if op, err := operationOf(rec); err == nil && rec.Phase == kvlock.Done {
			kinds[op.Kind]++
		}
	}
	h.t.Logf("%d of %d requests accepted (%d %%), %d troubles, %d take-overs; phases %v, done %v, broken %v",
		len(h.ops), h.asked, 100*len(h.ops)/h.asked, h.x.met.Load(), taken, phases, kinds, broken)
	if 3*len(h.ops) < h.asked {
		h.t.Errorf("of %d requests only %d were accepted: the history tells little", h.asked, len(h.ops))
	}
}

// many yields after each n values of the channel, until it is closed.
func many(ch <-chan struct{}, n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		count := 0
		for range ch {
			if count++; count%n == 0 && !yield(count/n) {
				return
			}
		}
	}
}

// awaitSettled waits until nobody works on the operation.
func (w *world) awaitSettled(id block.OperationID) {
	for deadline := time.Now().Add(soon); ; <-time.After(5 * time.Millisecond) {
		rec, err := w.Locks.Record(w.t.Context(), string(id))
		if err != nil || !rec.Live() || rec.Phase == kvlock.Stuck || rec.Phase == kvlock.Void || rec.Phase == kvlock.Queued || time.Now().After(deadline) {
			return
		}
	}
}
