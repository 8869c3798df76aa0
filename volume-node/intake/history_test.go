package intake_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	w := newWorld(t)
	x := &trouble{rng: rand.New(rand.NewPCG(seed, 0))}
	x.on.Store(true)
	operationstest.Put(t, w.World, records.QuotaKey(project), func(q *records.Quota) {
		q.Project, q.Limits = project, &records.Limits{Volumes: 8, Snapshots: 8, GiB: 40}
	})
	var ids struct {
		sync.Mutex
		ops   []block.OperationID
		vols  []block.VolumeID
		snaps []block.SnapshotID
	}
	for range 4 {
		ids.vols = append(ids.vols, block.VolumeID(newID()))
		ids.snaps = append(ids.snaps, block.SnapshotID(newID()))
	}
	start := func() *worker {
		return w.work(func(s *setup) {
			s.cfg.Lease, s.cfg.StopLimit, s.cfg.SweepEvery = time.Second, time.Millisecond, time.Second
			s.drivers[backend] = x.driver(s.drivers[backend])
			s.store = append(s.store, x.store())
		})
	}
	workers := []*worker{start(), start()}

	accepted := make(chan struct{}, 6*rounds)
	var clients sync.WaitGroup
	for range 2 {
		node := w.Again(t, w.srv.JetStream(t), x.store())
		a := admit.New(node.Store, node.Locks, operationstest.Hints{T: t, World: w.World, Only: backend}, admit.Defaults{}, nil)
		for range 3 {
			clients.Go(func() {
				for range rounds {
					v, v2, s := ids.vols[x.intn(4)], ids.vols[x.intn(4)], ids.snaps[x.intn(4)]
					reqs := []messages.Request{
						&messages.CreateVolume{Volume: v, SizeGiB: 1}, &messages.CreateVolume{Volume: v, FromSnapshot: s}, &messages.CreateVolume{Volume: v, FromVolume: v2},
						&messages.DeleteVolume{Volume: v}, &messages.ExtendVolume{Volume: v, SizeGiB: block.GiB(2 + x.intn(3))},
						&messages.CreateSnapshot{Volume: v, Snapshot: s}, &messages.DeleteSnapshot{Snapshot: s}, &messages.RevertVolume{Volume: v, Snapshot: s},
					}
					req := reqs[x.intn(len(reqs))]
					op := block.OperationID(newID())
					sub := admit.Submission{Caller: admit.Caller{Project: project, User: "u1"}, Operation: op, Request: req}
					acc, err := a.Submit(t.Context(), sub)
					if err == nil && x.intn(4) == 0 {
						again, err := a.Submit(t.Context(), sub)
						if err != nil || !again.Repeated || again.Resource != acc.Resource || again.Revision.Pending() {
							t.Errorf("repeated: %+v, %v; first %+v", again, err, acc)
						}
					}
					e, ok := errors.AsType[*messages.Error](err)
					if err != nil && (!ok || e.Code == messages.CodeInternal) {
						t.Errorf("%s: %v", req.Kind(), err)
					}
					if err != nil {
						if e != nil && e.Holder != nil {
							w.awaitSettled(e.Holder.Operation)
						}
						continue
					}
					accepted <- struct{}{}
					ids.Lock()
					ids.ops = append(ids.ops, op)
					other := ids.ops[len(ids.ops)-1-x.intn(min(len(ids.ops), 3))]
					ids.Unlock()
					who := admit.Caller{Project: project, User: "u1"}
					switch x.intn(6) {
					case 0, 3:
						_ = a.Cancel(t.Context(), who, other, "")
					case 1:
						_ = a.Resume(t.Context(), who, other, "again")
					case 2:
						_ = a.Abandon(t.Context(), who, other, "enough")
					}
				}
			})
		}
	}
	go func() { clients.Wait(); close(accepted) }()
	for n := range many(accepted, 20) { // a worker goes and another comes
		i := n % len(workers)
		workers[i].end()
		workers[i] = start()
	}
	x.on.Store(false)
	w.eventually("every operation has ended", func() bool {
		open := 0
		for rec, err := range w.Locks.Records(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if !rec.Live() {
				continue
			}
			open++
			if rec.Phase == kvlock.Stuck {
				who := admit.Caller{Project: project}
				if x.intn(2) == 0 {
					_ = w.admitter.Abandon(t.Context(), who, block.OperationID(rec.Owner), "enough")
				} else {
					_ = w.admitter.Resume(t.Context(), who, block.OperationID(rec.Owner), "again")
				}
			}
			if rec.Phase == kvlock.Void {
				_ = w.admitter.Abandon(t.Context(), admit.Caller{Project: project}, block.OperationID(rec.Owner), "enough")
			}
		}
		return open == 0
	})
	t.Logf("%d accepted, %d troubles", len(ids.ops), x.met.Load())
	kvlocktest.RequireFree(t, w.Locks)
	problems, err := w.Locks.Verify(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("locks: %v, %v", problems, err)
	}
	w.requireBooks()
	w.requireNothingLeft()
	phases := map[kvlock.Phase]int{}
	for _, id := range ids.ops {
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
		if err != nil || !rec.Live() || rec.Phase == kvlock.Stuck || rec.Phase == kvlock.Void || time.Now().After(deadline) {
			return
		}
	}
}

// requireBooks proves that quota, pool and backend are what the records say.
func (w *world) requireBooks() {
	w.t.Helper()
	var use records.Usage
	var reserved block.GiB
	want := map[string]int64{}
	entries := map[string]kvtx.Entry{}
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	must(w.Store.Scan(w.t.Context(), ">", func(e kvtx.Entry) error { entries[e.Key] = e; return nil }))
	snapshotsOf := map[block.VolumeID][]block.SnapshotID{}
	for key, e := range entries {
		switch class, _ := records.Classify(key); class {
		case records.ClassVolume:
			v, err := records.Decode[block.Volume](e.Value)
			must(err)
			use.Volumes, use.GiB, reserved = use.Volumes+1, use.GiB+v.ChargedGiB, reserved+v.ReservedGiB
			if v.Status == block.VolumeCreating {
				w.t.Errorf("volume %s is creating without an operation", v.ID)
			}
			if v.Status == block.VolumeAvailable {
				want["volumes/"+string(v.ID)] = v.SizeGiB.Bytes()
				if v.ReservedGiB != v.SizeGiB || v.ChargedGiB != v.SizeGiB {
					w.t.Errorf("volume %s has %d GiB, reserved %d, charged %d", v.ID, v.SizeGiB, v.ReservedGiB, v.ChargedGiB)
				}
			} else {
				want["volumes/"+string(v.ID)] = -1
			}
			snapshotsOf[v.ID] = append(snapshotsOf[v.ID], v.Snapshots...)
		case records.ClassSnapshot:
			s, err := records.Decode[block.Snapshot](e.Value)
			must(err)
			use.Snapshots, use.GiB = use.Snapshots+1, use.GiB+s.SizeGiB
			want["snapshots/"+string(s.ID)] = s.SizeGiB.Bytes()
			if s.Status == block.SnapshotError {
				want["snapshots/"+string(s.ID)] = -1
			} else if s.Status != block.SnapshotAvailable {
				w.t.Errorf("snapshot %s is %s without an operation", s.ID, s.Status)
			}
		case records.ClassCredit:
			c, err := records.Decode[records.Credit](e.Value)
			must(err)
			use = use.Add(c.Back)
		default:
		}
	}
	for key := range entries {
		if class, name := records.Classify(key); class == records.ClassSnapshot {
			s, err := records.Decode[block.Snapshot](entries[key].Value)
			must(err)
			if !slices.Contains(snapshotsOf[s.Volume], block.SnapshotID(name)) {
				w.t.Errorf("snapshot %s is no child of volume %s", name, s.Volume)
			}
		}
	}
	for v, all := range snapshotsOf {
		for _, s := range all {
			if _, there := entries[records.SnapshotKey(s)]; !there {
				w.t.Errorf("volume %s has a snapshot %s without a record", v, s)
			}
		}
	}
	q, _ := operationstest.Get[records.Quota](w.t, w.World, records.QuotaKey(project))
	if q.Use != use {
		w.t.Errorf("quota says %+v, records and credits %+v", q.Use, use)
	}
	if p, _ := operationstest.Get[records.Pool](w.t, w.World, records.PoolKey(backend)); p.AllocatedGiB != reserved {
		w.t.Errorf("pool says %d GiB, records %d", p.AllocatedGiB, reserved)
	}
	for _, kind := range []string{"volumes", "snapshots"} {
		files, err := os.ReadDir(filepath.Join(w.dir, kind))
		must(err)
		for _, f := range files {
			if strings.HasPrefix(f.Name(), ".") {
				continue
			}
			info, err := f.Info()
			must(err)
			bytes, there := want[kind+"/"+f.Name()]
			if !there || bytes >= 0 && bytes != info.Size() {
				w.t.Errorf("backend has %s/%s of %d bytes; record: %v, %d bytes", kind, f.Name(), info.Size(), there, bytes)
			}
			delete(want, kind+"/"+f.Name())
		}
	}
	for name, bytes := range want {
		if bytes >= 0 {
			w.t.Errorf("backend lacks %s of %d bytes", name, bytes)
		}
	}
}
