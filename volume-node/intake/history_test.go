package intake_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// trouble loses requests and answers of stores, and lets calls of drivers fail before and after their effect.
type trouble struct {
	mu  sync.Mutex
	rng *rand.Rand
	on  atomic.Bool
	met atomic.Int64
}

// comes says whether something goes wrong now, once in n.
func (x *trouble) comes(n int) bool {
	if !x.on.Load() {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.rng.IntN(n) != 0 {
		return false
	}
	x.met.Add(1)
	return true
}

func (x *trouble) intn(n int) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.rng.IntN(n)
}

var errTrouble = errors.New("made by the test")

func (x *trouble) store() kvtx.Option {
	return kvtx.WithInterceptor(func(ctx context.Context, _ kvtx.Call, next func(context.Context) error) error {
		if x.comes(25) {
			return errTrouble
		}
		err := next(ctx)
		if err == nil && x.comes(25) {
			return errTrouble
		}
		return err
	})
}

func (x *trouble) driver(d driver.Driver) driver.Driver {
	return driver.Intercept(d, func(ctx context.Context, m driver.Method, _ driver.Ref, next func(context.Context) error) error {
		switch {
		case x.comes(12):
			return errTrouble
		case x.comes(40):
			return fmt.Errorf("%w: %w", errTrouble, driver.ErrNoSpace)
		}
		err := next(ctx)
		if err == nil && x.comes(12) {
			return fmt.Errorf("%w: %w", errTrouble, driver.ErrUnknown)
		}
		return err
	})
}

// history is what clients do to few volumes and snapshots while there is trouble.
type history struct {
	*world
	x        *trouble
	vols     []block.VolumeID
	snaps    []block.SnapshotID
	accepted chan struct{} // one for each operation
	mu       sync.Mutex
	ops      []block.OperationID
}

// who is the caller of all that is asked for.
var who = admit.Caller{Project: project, User: "u1"}

// request is one of those that clients make.
func (h *history) request() messages.Request {
	v, v2, s := h.vols[h.x.intn(4)], h.vols[h.x.intn(4)], h.snaps[h.x.intn(4)]
	reqs := []messages.Request{
		&messages.CreateVolume{Volume: v, SizeGiB: 1}, &messages.CreateVolume{Volume: v, FromSnapshot: s}, &messages.CreateVolume{Volume: v, FromVolume: v2},
		&messages.DeleteVolume{Volume: v}, &messages.ExtendVolume{Volume: v, SizeGiB: block.GiB(2 + h.x.intn(3))},
		&messages.CreateSnapshot{Volume: v, Snapshot: s}, &messages.DeleteSnapshot{Snapshot: s}, &messages.RevertVolume{Volume: v, Snapshot: s},
	}
	return reqs[h.x.intn(len(reqs))]
}

// round submits a request, now and then twice. Where it is accepted, one of the last operations may be canceled, resumed or abandoned.
func (h *history) round(a *admit.Admitter) {
	ctx, req := h.t.Context(), h.request()
	op := block.OperationID(newID())
	policy := []string{"refuse", "refuse", "queue", "queue;deadline=0.05"}[h.x.intn(4)]
	sub := admit.Submission{Caller: who, Operation: op, OnConflict: policy, Request: req}
	acc, err := a.Submit(ctx, sub)
	if err == nil && h.x.intn(4) == 0 {
		again, err := a.Submit(ctx, sub)
		if err != nil || !again.Repeated || again.Resource != acc.Resource || again.Revision.Pending() {
			h.t.Errorf("repeated: %+v, %v; first %+v", again, err, acc)
		}
	}
	e, ok := errors.AsType[*messages.Error](err)
	if err != nil && (!ok || e.Code == messages.CodeInternal) {
		h.t.Errorf("%s: %v", req.Kind(), err)
	}
	if err != nil {
		if e != nil && e.Holder != nil {
			h.awaitSettled(e.Holder.Operation)
		}
		return
	}
	h.accepted <- struct{}{}
	h.mu.Lock()
	h.ops = append(h.ops, op)
	other := h.ops[len(h.ops)-1-h.x.intn(min(len(h.ops), 3))]
	h.mu.Unlock()
	switch h.x.intn(6) {
	case 0, 3:
		_ = a.Cancel(ctx, who, other, "")
	case 1:
		_ = a.Resume(ctx, who, other, "again")
	case 2:
		_ = a.Abandon(ctx, who, other, "enough")
	}
}

// helpStuck resumes or abandons what waits for a person, and says how many operations have not ended.
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
		case rec.Phase == kvlock.Stuck && h.x.intn(2) == 0:
			_ = h.admitter.Resume(ctx, who, op, "again")
		case rec.Phase == kvlock.Stuck, rec.Phase == kvlock.Void:
			_ = h.admitter.Abandon(ctx, who, op, "enough")
		}
	}
	return open
}

// TestHistoriesKeepTheBooks lets clients of two API nodes and two workers of one backend, who come and go, work on few volumes while
// requests, answers and calls of the driver are lost. Afterwards every operation has ended, no lock is left, and quota, pool and
// backend are the sum of the records.
func TestHistoriesKeepTheBooks(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SCORIA_SEED"); s != "" {
		_, _ = fmt.Sscan(s, &seed)
	}
	rounds := 60
	if s := os.Getenv("SCORIA_ROUNDS"); s != "" {
		_, _ = fmt.Sscan(s, &rounds)
	}
	t.Logf("seed %d (SCORIA_SEED), %d rounds (SCORIA_ROUNDS)", seed, rounds)
	x := &trouble{rng: rand.New(rand.NewPCG(seed, 0))}
	x.on.Store(true)
	w := newWorld(t)
	h := &history{world: w, x: x, accepted: make(chan struct{}, 6*rounds)}
	operationstest.Put(t, w.World, records.QuotaKey(project), func(q *records.Quota) {
		q.Project, q.Limits = project, &records.Limits{Volumes: 8, Snapshots: 8, GiB: 40}
	})
	for range 4 {
		h.vols = append(h.vols, block.VolumeID(newID()))
		h.snaps = append(h.snaps, block.SnapshotID(newID()))
	}
	start := func() *worker {
		return w.work(func(s *setup) {
			s.cfg.Lease, s.cfg.StopLimit, s.cfg.SweepEvery = time.Second, time.Millisecond, time.Second
			s.drivers[backend] = x.driver(s.drivers[backend])
			s.store = append(s.store, x.store())
		})
	}
	workers := []*worker{start(), start()}
	wakes, stopWakes := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- w.Locks.ServeWakes(wakes) }()
	var clients sync.WaitGroup
	for range 2 {
		node := w.Again(t, w.srv.JetStream(t), x.store())
		a := admit.New(node.Store, node.Locks, operationstest.Hints{T: t, World: w.World, Only: backend}, admit.Defaults{}, nil)
		for range 3 {
			clients.Go(func() {
				for range rounds {
					h.round(a)
				}
			})
		}
	}
	go func() { clients.Wait(); close(h.accepted) }()
	for n := range many(h.accepted, 20) { // a worker goes and another comes
		i := n % len(workers)
		workers[i].end()
		workers[i] = start()
	}
	x.on.Store(false)
	w.eventually("every operation has ended", func() bool { return h.helpStuck() == 0 })
	t.Logf("%d accepted, %d troubles", len(h.ops), x.met.Load())
	kvlocktest.RequireFree(t, w.Locks)
	problems, err := w.Locks.Verify(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("locks: %v, %v", problems, err)
	}
	w.requireBooks()
	w.requireNothingLeft()
	stopWakes()
	if err := <-served; err != nil {
		t.Errorf("ServeWakes = %v", err)
	}
	phases := map[kvlock.Phase]int{}
	for _, id := range h.ops {
		phases[w.record(id).Phase]++
	}
	t.Logf("phases: %v", phases)
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
