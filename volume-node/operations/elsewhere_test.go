package operations_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
	"github.com/scoria-storage/scoria/volume-node/driver/null"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// second adds a file backend of its own size.
func (w *world) second(name string, size block.GiB) driver.Driver {
	w.t.Helper()
	d, err := file.Open(filepath.Join(w.t.TempDir(), name), file.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = d.Close() })
	w.Register(w.t, name, d, size)
	w.drivers[name] = d
	return d
}

func (w *world) full(name string) {
	operationstest.Put(w.t, w.World, records.PoolKey(name), func(p *records.Pool) { p.TotalBytes, p.FreeBytes = 0, 0 })
}

func TestCreateGoesToAnotherBackendWhenItsPoolIsFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.second("small", 3)
	w.second("large", 50)
	w.full(backend)
	if err := w.submit(t.Context(), opID, create(vol1, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.drive(t.Context(), opID); !errors.Is(err, saga.ErrLeft) {
		t.Fatalf("drive on a full backend = %v, want the run to be left", err)
	}
	v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1))
	if v.Backend != "large" || v.ReservedGiB != 0 || v.Status != block.VolumeCreating {
		t.Errorf("volume %+v: want it with backend large, nothing reserved yet, creating", v)
	}
	dispatch := w.Store.DispatchSubject(records.DispatchParts("large", opID, 2)...)
	if _, err := w.Store.Stream().GetLastMsgForSubject(t.Context(), dispatch); err != nil {
		t.Errorf("dispatch %s: %v, want one", dispatch, err)
	}
	st, err := w.drive(t.Context(), opID)
	if err != nil || st.Phase != saga.Done {
		t.Fatalf("drive on the other backend: %s, %v, cause %v", st.Phase, err, st.Cause)
	}
	if _, err := w.drivers["large"].Look(t.Context(), driver.VolumeID(vol1).Ref()); err != nil {
		t.Errorf("volume on backend large: %v", err)
	}
	for name, want := range map[string]block.GiB{backend: 0, "small": 0, "large": 2} {
		if p, _ := operationstest.Get[records.Pool](t, w.World, records.PoolKey(name)); p.AllocatedGiB != want {
			t.Errorf("pool %s has %d GiB allocated, want %d", name, p.AllocatedGiB, want)
		}
	}
	kvlocktest.RequireFree(t, w.Locks)
}

func TestCreateNeverGoesToABackendThatKeepsNoData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := null.New()
	w.Register(t, "fake", d, 1000)
	w.drivers["fake"] = d
	w.full(backend)
	st := w.try(create(vol1, 2))
	requireNoBackend(t, w, st)
}

func TestCreateWithoutRoomAnywhereEndsInError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.second("small", 1)
	w.full(backend)
	st := w.try(create(vol1, 2))
	requireNoBackend(t, w, st)
}

func requireNoBackend(t *testing.T, w *world, st saga.Status) {
	t.Helper()
	if st.Phase != saga.Undone || st.Cause == nil || st.Cause.Code != string(messages.CodeNoBackend) {
		t.Fatalf("phase %s, cause %+v: want undone with %s", st.Phase, st.Cause, messages.CodeNoBackend)
	}
	v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1))
	if v.Status != block.VolumeError || !strings.HasPrefix(v.Fault, "No valid backend was found.") || v.ReservedGiB != 0 {
		t.Errorf("volume is %s, reserved %d, fault %q", v.Status, v.ReservedGiB, v.Fault)
	}
	kvlocktest.RequireFree(t, w.Locks)
}

func TestCloneStaysOnTheBackendOfItsSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(create(vol1, 1))
	w.second("large", 50)
	w.full(backend)
	st := w.try(&messages.CreateVolume{Volume: vol2, FromVolume: vol1})
	if st.Phase != saga.Undone || !strings.Contains(st.Cause.Message, "on the backend of its source") {
		t.Errorf("phase %s, cause %v", st.Phase, st.Cause)
	}
}

// A pool that fills up between two creates is a refusal of the second one's commit, and never allocated twice.
func TestReservationsNeverExceedThePool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operationstest.Put(t, w.World, records.PoolKey(backend), func(p *records.Pool) { p.TotalBytes, p.FreeBytes = 5<<30, 5<<30 })
	const creates = 9
	results := make(chan saga.Phase, creates)
	for range creates {
		id, op := block.VolumeID(newID()), block.OperationID(newID())
		if err := w.submit(t.Context(), op, create(id, 1)); err != nil {
			t.Fatal(err)
		}
		worker := &world{World: w.World, t: t, registry: w.registry}
		go func() {
			st, err := worker.drive(t.Context(), op)
			if err != nil {
				t.Error(err)
			}
			results <- st.Phase
		}()
	}
	count := map[saga.Phase]int{}
	for range creates {
		count[<-results]++
	}
	p, _ := operationstest.Get[records.Pool](t, w.World, records.PoolKey(backend))
	if count[saga.Done] != 5 || count[saga.Undone] != creates-5 || p.AllocatedGiB != 5 {
		t.Errorf("%v ended, %d GiB allocated: want 5 done, %d undone, 5 GiB", count, p.AllocatedGiB, creates-5)
	}
}
