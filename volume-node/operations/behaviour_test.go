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
