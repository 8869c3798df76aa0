package sagatest_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

// toyJournals were written by version 1 of creation.
const toyJournals = "testdata/toy.create"

func TestReplay(t *testing.T) {
	t.Parallel()
	sagatest.Replay(t, func(t *testing.T) sagatest.Journaled { return newWorld(t, creation) }, toyJournals)
}

// newer is version 2 of creation: what version 1 looked at is not looked at any more.
func newer(b *toy) saga.Definition[state] {
	def := creation(b)
	def.Version = 2
	def.Steps = slices.Delete(def.Steps, 1, 2)
	return def
}

// A release that has a newer version and the one before goes on with the runs of that.
func TestReplayGoesOnWithAnEarlierVersion(t *testing.T) {
	t.Parallel()
	sagatest.Replay(t, func(t *testing.T) sagatest.Journaled {
		w := newWorld(t, newer)
		saga.MustRegister(&w.reg, creation(w.toy))
		return w
	}, bothVersions(t))
}

// bothVersions is where journals of versions 1 and 2 are.
func bothVersions(t *testing.T) (prefix string) {
	t.Helper()
	prefix = filepath.Join(t.TempDir(), "toy")
	for from, to := range map[string]string{toyJournals + ".v1.json": ".v1.json", "testdata/later/toy.create.v2.json": ".v2.json"} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(prefix+to, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return prefix
}

// changed is creation with a change that has no new number.
func changed(change func(b *toy, def *saga.Definition[state])) func(*testing.T) sagatest.Journaled {
	return func(t *testing.T) sagatest.Journaled {
		return newWorld(t, func(b *toy) saga.Definition[state] {
			def := creation(b)
			change(b, &def)
			return def
		})
	}
}

// label is state under another name.
type label struct {
	Disk string `msgpack:"label"`
}

func relabelled(b *toy) saga.Definition[label] {
	was := creation(b)
	def := saga.Definition[label]{
		Name: was.Name, Version: was.Version,
		Done:   func(run saga.Run, s label) error { return was.Done(run, state(s)) },
		Undone: func(run saga.Run, s label, cause error) error { return was.Undone(run, state(s), cause) },
	}
	for _, step := range was.Steps {
		s := saga.Step[label]{Name: step.Name, Intent: step.Intent, Pivot: step.Pivot}
		s.Do = func(ctx context.Context, run saga.Run, s *label) error { return step.Do(ctx, run, (*state)(s)) }
		if step.Undo != nil {
			s.Undo = func(ctx context.Context, run saga.Run, s label) error { return step.Undo(ctx, run, state(s)) }
		}
		def.Steps = append(def.Steps, s)
	}
	return def
}

const gone = "a version that is gone"

// upgrades are those that break runs that are under way, and what Replay says.
var upgrades = []struct {
	name, says string
	world      func(*testing.T) sagatest.Journaled
}{
	{"a renamed step", "its step 3 is make, in toy.create version 1 here it is build", changed(func(_ *toy, def *saga.Definition[state]) {
		def.Steps[2].Name = "build"
	})},
	{"a removed step", "it began with 5 steps, toy.create version 1 has 4 here", changed(func(_ *toy, def *saga.Definition[state]) {
		def.Steps = slices.Delete(def.Steps, 1, 2)
	})},
	{"an added step", "it began with 5 steps, toy.create version 1 has 6 here", changed(func(_ *toy, def *saga.Definition[state]) {
		look := def.Steps[1]
		look.Name = "look-again"
		def.Steps = slices.Insert(def.Steps, 2, look)
	})},
	{"reordered steps", "its step 2 is look, in toy.create version 1 here it is make", changed(func(_ *toy, def *saga.Definition[state]) {
		def.Steps[1], def.Steps[2] = def.Steps[2], def.Steps[1]
	})},
	{"another pivot", "the run is stuck; it was: undoing", changed(func(_ *toy, def *saga.Definition[state]) {
		def.Steps[1].Pivot, def.Steps[1].Undo = true, nil
		def.Steps[2].Undo, def.Steps[3].Pivot = nil, false
	})},
	{"an effect that another step has", `["+disk.op-1" "+record" "~pool"]; it had changed`, changed(func(b *toy, def *saga.Definition[state]) {
		reserve := def.Steps[0].Do
		def.Steps[0].Do = func(ctx context.Context, run saga.Run, s *state) error {
			err := reserve(ctx, run, s)
			b.put(s.Disk, "10 GiB")
			return err
		}
	})},
	{"another name for what is in the world", "disk-op-1 is gone", changed(func(b *toy, def *saga.Definition[state]) {
		def.Steps[0].Do = func(_ context.Context, run saga.Run, s *state) error {
			s.Disk = "disk-" + string(run.ID)
			run.Stage(b.write(func() { b.put("pool", "1 used") }))
			return nil
		}
	})},
	{"a field of the state that is called otherwise", "disk.op-1 is there: 10 GiB", func(t *testing.T) sagatest.Journaled { return newWorld(t, relabelled) }},
	{gone, "toy.create version 1 is not registered here", func(t *testing.T) sagatest.Journaled { return newWorld(t, newer) }},
}

func TestReplayFindsWhatBreaksRunsUnderWay(t *testing.T) {
	t.Parallel()
	for _, u := range upgrades {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			requireFails(t, "upgrade", u.name, u.says)
		})
	}
}

func TestReplayWritesWhatIsMissing(t *testing.T) {
	t.Parallel()
	prefix := filepath.Join(t.TempDir(), "toy")
	requireFails(t, "missing", prefix, "there was no "+prefix+".v1.json: it is written")
	sagatest.Replay(t, func(t *testing.T) sagatest.Journaled { return newWorld(t, creation) }, prefix)
}
