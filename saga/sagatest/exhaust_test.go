package sagatest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

// toy is a backend and its records: named things, each with a content.
type toy struct {
	mu     sync.Mutex
	things map[string]string
}

func (b *toy) put(name, what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.things[name] = what
}

func (b *toy) drop(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.things, name)
}

func (b *toy) write(f func()) saga.Write { return saga.MemoryWrite{Apply: f} }

type state struct {
	Disk string `msgpack:"disk"`
}

// creation reserves room in a record, names a disk, makes it, publishes it (the pivot) and cleans up.
func creation(b *toy) saga.Definition[state] {
	return saga.Definition[state]{
		Name: "toy.create", Version: 1,
		Steps: []saga.Step[state]{
			{
				Name: "reserve",
				Do: func(_ context.Context, run saga.Run, s *state) error {
					s.Disk = "disk." + string(run.ID)
					run.Stage(b.write(func() { b.put("pool", "1 used") }))
					return nil
				},
				Undo: func(_ context.Context, run saga.Run, _ state) error {
					run.Stage(b.write(func() { b.put("pool", "0 used") }))
					return nil
				},
			},
			{
				Name: "look",
				Do:   func(context.Context, saga.Run, *state) error { return nil },
				Undo: saga.Nothing[state],
			},
			{
				Name: "make", Intent: true,
				Do:   func(_ context.Context, _ saga.Run, s *state) error { b.put(s.Disk, "10 GiB"); return nil },
				Undo: func(_ context.Context, _ saga.Run, s state) error { b.drop(s.Disk); return nil },
			},
			{
				Name: "publish", Pivot: true,
				Do: func(_ context.Context, _ saga.Run, s *state) error { b.put("index", s.Disk); return nil },
			},
			{
				Name: "clean",
				Do:   func(context.Context, saga.Run, *state) error { b.drop("scratch"); return nil },
			},
		},
		Done: func(run saga.Run, _ state) error {
			run.Stage(b.write(func() { b.put("record", "available") }))
			return nil
		},
		Undone: func(run saga.Run, _ state, _ error) error {
			run.Stage(b.write(func() { b.put("record", "error") }))
			return nil
		},
	}
}

// world is a toy, a journal in memory, and one operation.
type world[S any] struct {
	toy     *toy
	journal *saga.Memory
	reg     saga.Registry
	def     saga.Definition[S]
}

const opID = saga.ID("op-1")

func newWorld[S any](t *testing.T, def func(*toy) saga.Definition[S]) *world[S] {
	t.Helper()
	w := &world[S]{toy: &toy{things: map[string]string{"scratch": "x", "pool": "0 used"}}, journal: saga.NewMemory()}
	w.def = def(w.toy)
	if err := saga.Register(&w.reg, w.def); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world[S]) Snapshot(context.Context) (sagatest.Snapshot, error) {
	w.toy.mu.Lock()
	defer w.toy.mu.Unlock()
	return maps.Clone(w.toy.things), nil
}

func (w *world[S]) Submit(ctx context.Context) error {
	w.toy.put("record", "creating")
	return w.journal.Begin(ctx, opID, saga.Entry{Phase: saga.Pending})
}

func (w *world[S]) Drive(ctx context.Context, opts ...saga.Option) (saga.Status, error) {
	e := saga.New(w.journal, &w.reg, opts...)
	log, err := w.journal.TakeOver(ctx, opID)
	if errors.Is(err, saga.ErrEnded) || errors.Is(err, saga.ErrStuck) {
		return e.Inspect(ctx, opID)
	}
	if err != nil {
		return saga.Status{}, err
	}
	return e.Run(ctx, log, w.def.Name, w.def.Version, *new(S))
}

func (w *world[S]) Head(ctx context.Context) (saga.Head, error) { return w.journal.Load(ctx, opID) }

func (w *world[S]) TakeOver(ctx context.Context) (saga.Log, error) {
	return w.journal.TakeOver(ctx, opID)
}

func (w *world[S]) Resume(ctx context.Context) error {
	return w.journal.Resume(ctx, opID, "operator", saga.Resumed)
}

func (w *world[S]) Cancel(ctx context.Context) error { return w.journal.Cancel(ctx, opID, "user") }

func (w *world[S]) Undone(before sagatest.Snapshot) sagatest.Snapshot {
	return before.With("record", "error")
}

func (w *world[S]) CheckStuck(ctx context.Context) error {
	for id, err := range w.journal.Open(ctx) {
		if err == nil && id == opID {
			return nil
		}
	}
	return fmt.Errorf("run %s is not open", opID)
}

func (w *world[S]) Leftovers() []sagatest.Leftover {
	return []sagatest.Leftover{
		{Name: "disk", Plant: func(context.Context) error { w.toy.put("disk.old", "1 GiB"); return nil }},
		{Name: "figure", Plant: func(context.Context) error { w.toy.put("pool", "2 used"); return nil }},
	}
}

func TestExhaust(t *testing.T) {
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return newWorld(t, creation) })
}
