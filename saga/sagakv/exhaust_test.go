package sagakv_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

type disk struct {
	Name string `msgpack:"name"`
}

// backend is something outside of the bucket: disks by name. It refuses a fence that is lower than the highest it has
// seen.
type backend struct {
	mu      sync.Mutex
	disks   map[string]bool
	highest saga.Fence
}

func (b *backend) do(f saga.Fence, what func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.Less(b.highest) {
		return fmt.Errorf("backend has seen %v: %w", b.highest, saga.ErrFenced)
	}
	b.highest = f
	what()
	return nil
}

// count adds n to a figure in a record.
func count(key string, n int) sagakv.Write {
	return func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := s.Get(key)
		if err != nil {
			return err
		}
		have, _ := strconv.Atoi(string(e.Value)) // absent: 0
		tx.Put(key, []byte(strconv.Itoa(have+n)), e.Revision)
		return nil
	}
}

// create reserves in a pool record, makes a disk and sets a record with the end, as an operation on volumes does.
func create(b *backend) saga.Definition[disk] {
	return saga.Definition[disk]{
		Name: "disk.create", Version: 1,
		Steps: []saga.Step[disk]{
			{
				Name: "reserve",
				Do: func(_ context.Context, run saga.Run, s *disk) error {
					s.Name = "disk-" + string(run.ID)
					run.Stage(sagakv.Keyed{Keys: []string{"pool.p"}, Write: count("pool.p", 1)})
					return nil
				},
				Undo: func(_ context.Context, run saga.Run, s disk) error {
					if s.Name != "" { // else the reservation was not committed
						run.Stage(count("pool.p", -1))
					}
					return nil
				},
			},
			{
				Name: "make", Intent: true,
				Do: func(_ context.Context, run saga.Run, s *disk) error {
					return b.do(run.Fence, func() { b.disks[s.Name] = true })
				},
				Undo: func(_ context.Context, run saga.Run, s disk) error {
					return b.do(run.Fence, func() { delete(b.disks, s.Name) })
				},
			},
		},
		Done:   func(run saga.Run, _ disk) error { run.Stage(put("disk.d1", "available")); return nil },
		Undone: func(run saga.Run, _ disk, _ error) error { run.Stage(put("disk.d1", "error")); return nil },
	}
}

// world is one disk.create in a bucket of its own.
type world struct {
	store   *kvtx.Store
	locker  *kvlock.Locker
	journal *sagakv.Journal
	backend *backend
	reg     saga.Registry
}

func newWorld(t *testing.T, srv *natstest.Server) *world {
	t.Helper()
	store := newStore(t, srv)
	w := &world{store: store, locker: kvlock.New(store), backend: &backend{disks: make(map[string]bool)}}
	w.journal = sagakv.NewJournal(store, w.locker, "worker-1", func(saga.ID) []kvlock.Claim {
		return []kvlock.Claim{kvlock.Exclusive("disk.d1"), kvlock.Shared("pool.p")}
	})
	if err := saga.Register(&w.reg, create(w.backend)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Update(t.Context(), nil, put("pool.p", "0")); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) Snapshot(ctx context.Context) (sagatest.Snapshot, error) {
	s := make(sagatest.Snapshot)
	for _, pattern := range []string{"disk.*", "pool.*", "lock.>"} {
		err := w.store.Scan(ctx, pattern, func(e kvtx.Entry) error {
			if pattern == "lock.>" {
				lock, err := kvlock.DecodeLock(e)
				s[e.Key] = fmt.Sprintf("%s by %d", lock.Mode, len(lock.Holders))
				return err
			}
			s[e.Key] = string(e.Value)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	w.backend.mu.Lock()
	defer w.backend.mu.Unlock()
	for d := range w.backend.disks {
		s["backend/"+d] = "a disk"
	}
	return s, nil
}

func (w *world) Submit(ctx context.Context) error {
	return w.journal.Begin(ctx, "op-1", saga.Entry{Phase: saga.Pending, Writes: []saga.Write{put("disk.d1", "creating")}})
}

func (w *world) Drive(ctx context.Context, opts ...saga.Option) (saga.Status, error) {
	e := saga.New(w.journal, &w.reg, opts...)
	log, err := w.journal.TakeOver(ctx, "op-1")
	if errors.Is(err, saga.ErrEnded) || errors.Is(err, saga.ErrStuck) {
		return e.Inspect(ctx, "op-1")
	}
	if err != nil {
		return saga.Status{}, err
	}
	if log.Epoch() > 1 {
		if err := w.backend.do(log.Fence(), func() {}); err != nil {
			return saga.Status{}, err
		}
	}
	return e.Run(ctx, log, "disk.create", 0, disk{})
}

func (w *world) Resume(ctx context.Context) error {
	return w.journal.Resume(ctx, "op-1", "ann", saga.Resumed)
}

func (w *world) Cancel(ctx context.Context) error { return w.journal.Cancel(ctx, "op-1", "ann") }

func (w *world) RefusesStaleFences() {}

func (w *world) Undone(before sagatest.Snapshot) sagatest.Snapshot {
	return before.With("disk.d1", "error")
}

func (w *world) CheckStuck(ctx context.Context) error {
	lock, err := w.locker.Holders(ctx, "disk.d1")
	if err != nil {
		return err
	}
	if !lock.Holds("op-1") {
		return fmt.Errorf("disk.d1 is held by %v", lock.Holders)
	}
	rec, err := w.locker.Record(ctx, "op-1")
	if err == nil && rec.Phase != kvlock.Stuck {
		return fmt.Errorf("the owner record is %s", rec.Phase)
	}
	return err
}

func (w *world) Leftovers() []sagatest.Leftover {
	write := func(f sagakv.Write) func(context.Context) error {
		return func(ctx context.Context) error { _, err := w.store.Update(ctx, nil, f); return err }
	}
	return []sagatest.Leftover{
		{Name: "disk at the backend", Plant: func(context.Context) error {
			return w.backend.do(saga.Fence{}, func() { w.backend.disks["old"] = true })
		}},
		{Name: "record", Plant: write(put("disk.d2", "creating"))},
		{Name: "figure", Plant: write(count("pool.p", 1))},
		{Name: "lock", Plant: func(ctx context.Context) error {
			_, err := w.locker.TryAcquire(ctx, "op-2", nil, kvlock.Shared("pool.q"))
			return err
		}},
	}
}

func TestExhaustOnARealBucket(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return newWorld(t, srv) })
}
