package sagatest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

// Each planted bug is one that Exhaust must find. Its test runs in a process of its own, because it must fail.
type planted struct {
	name  string
	says  string // in what Exhaust reports
	world func(t *testing.T) sagatest.World
}

// step changes one step of the right definition.
func step(name string, change func(b *toy, s *saga.Step[state])) func(t *testing.T) sagatest.World {
	return func(t *testing.T) sagatest.World {
		return newWorld(t, func(b *toy) saga.Definition[state] {
			def := creation(b)
			for i := range def.Steps {
				if def.Steps[i].Name == name {
					change(b, &def.Steps[i])
				}
			}
			return def
		})
	}
}

var serial atomic.Int64

func (b *toy) has(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.things[name]
	return ok
}

var bugs = []planted{
	{"an undo that forgets", "is there: 10 GiB", step("make", func(_ *toy, s *saga.Step[state]) {
		s.Undo = func(context.Context, saga.Run, state) error { return nil }
	})},
	{"nothing where something was made", "is there: 10 GiB", step("make", func(_ *toy, s *saga.Step[state]) {
		s.Undo = saga.Nothing[state]
	})},
	{"an undo that wants to find something", "want undone", step("make", func(b *toy, s *saga.Step[state]) {
		s.Undo = func(_ context.Context, _ saga.Run, st state) error {
			if !b.has(st.Disk) {
				return saga.Permanent(errors.New("no such disk"))
			}
			b.drop(st.Disk)
			return nil
		}
	})},
	{"a step that cannot be repeated", "want done", step("make", func(b *toy, s *saga.Step[state]) {
		s.Do = func(_ context.Context, _ saga.Run, st *state) error {
			if b.has(st.Disk) {
				return saga.Permanent(errors.New("the disk exists"))
			}
			b.put(st.Disk, "10 GiB")
			return nil
		}
	})},
	{"a thing named in the step that makes it", "is there: half", step("publish", func(b *toy, s *saga.Step[state]) {
		do := s.Do
		s.Do = func(ctx context.Context, run saga.Run, st *state) error {
			name := fmt.Sprint("tmp", run.Attempt, run.Epoch)
			b.put(name, "half")
			if err := do(ctx, run, st); err != nil {
				return err
			}
			if run.Attempt > 1 || run.Epoch > 1 {
				return nil // forgets the one that it made this time
			}
			b.drop(name)
			return nil
		}
	})},
	{"a figure that is changed beside the journal", "pool is", step("reserve", func(b *toy, s *saga.Step[state]) {
		used := 0
		s.Do = func(_ context.Context, run saga.Run, st *state) error {
			st.Disk = "disk." + string(run.ID)
			used++
			b.put("pool", fmt.Sprint(used, " used"))
			return nil
		}
		s.Undo = func(context.Context, saga.Run, state) error {
			used--
			b.put("pool", fmt.Sprint(used, " used"))
			return nil
		}
	})},
	{"a blind snapshot", "blind: it does not see a planted disk", func(t *testing.T) sagatest.World {
		return &blind{newWorld(t, creation)}
	}},
	{"no leftovers to prove sight with", "plants no leftovers", func(t *testing.T) sagatest.World {
		return &unproven{newWorld(t, creation)}
	}},
	{"a snapshot with a serial number", "two fresh worlds differ", func(t *testing.T) sagatest.World {
		w := newWorld(t, creation)
		w.toy.put("serial", fmt.Sprint(serial.Add(1)))
		return w
	}},
	{"a world that takes no options", "called no step", func(t *testing.T) sagatest.World {
		return &deaf{newWorld(t, creation)}
	}},
	{"a resume that does nothing", "phase stuck", func(t *testing.T) sagatest.World {
		return &helpless{newWorld(t, creation)}
	}},
}

type (
	blind    struct{ *world[state] }
	unproven struct{ *world[state] }
	deaf     struct{ *world[state] }
	helpless struct{ *world[state] }
)

func (w *blind) Snapshot(ctx context.Context) (sagatest.Snapshot, error) {
	s, err := w.world.Snapshot(ctx)
	maps.DeleteFunc(s, func(name, _ string) bool { return strings.HasPrefix(name, "disk.") })
	return s, err
}

func (w *unproven) Leftovers() []sagatest.Leftover { return nil }

func (w *deaf) Drive(ctx context.Context, _ ...saga.Option) (saga.Status, error) {
	return w.world.Drive(ctx)
}

func (w *helpless) Resume(context.Context) error { return nil }

func TestExhaustFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			requireFails(t, "bug", b.name, b.says)
		})
	}
}
