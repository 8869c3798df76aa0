package model

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/internal/long"
)

// enough is more states than any world of a variant has.
const enough = 5_000_000

// explore looks at all states of a world under the correct rules, and prints how many there are.
func explore(t *testing.T, w World, limit int) Result {
	t.Helper()
	begin := time.Now()
	m := New(w, Correct)
	r := Explore(m, limit)
	if r.Violated != "" {
		t.Fatalf("%s:\n%s", w.Name, m.Story(r))
	}
	if !r.Whole {
		t.Fatalf("%s: more than %d states", w.Name, limit)
	}
	t.Logf("%9d states, %9d steps, depth %2d, %5.1fs: %s", r.States, r.Steps, r.Depth, time.Since(begin).Seconds(), w.Name)
	return r
}

// TestEachBrokenVariantIsFound breaks one rule at a time: the checker must find it, by the property that the rule is for.
func TestEachBrokenVariantIsFound(t *testing.T) {
	t.Parallel()
	seen := map[Variant]bool{}
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			seen[c.Variant] = true
			explore(t, c.World, enough)
			m := New(c.World, c.Variant)
			r := Explore(m, enough)
			if r.Violated != c.Breaks || len(r.Trace) == 0 {
				t.Fatalf("violates %q, want %q:\n%s", r.Violated, c.Breaks, m.Story(r))
			}
			t.Logf("%9d states, found in %d steps: %s\n%s", r.States, len(r.Trace), c.Name, m.Story(r))
		})
	}
	if len(seen) != int(variants)-1 {
		t.Errorf("%d variants have a case, want all %d", len(seen), variants-1)
	}
}

// TestNoWorldViolatesAProperty looks at every state of every world. Together the worlds have every step that the correct rules allow.
func TestNoWorldViolatesAProperty(t *testing.T) {
	if testing.Short() {
		t.Skip("the worlds of the variants are enough for a short run")
	}
	var did [kinds]bool
	for _, w := range Worlds() {
		t.Run(w.Name, func(t *testing.T) {
			for _, k := range explore(t, w, enough).Kinds {
				did[k] = true
			}
		})
	}
	for k, done := range did {
		if done == (Kind(k) == CopyApplies) {
			t.Errorf("a step that was possible somewhere: %v, want %v: %s", done, !done, kindWords[k])
		}
	}
}

// TestLongWorlds is for make long.
func TestLongWorlds(t *testing.T) {
	long.For(t)
	for _, w := range LongWorlds() {
		t.Run(w.Name, func(t *testing.T) { explore(t, w, 0) })
	}
}

// TestLongRandomWorlds looks at worlds that are made at random, each with two faults at most: at all states, or at the nearest 300,000.
func TestLongRandomWorlds(t *testing.T) {
	long.For(t)
	rnd := rand.New(rand.NewPCG(seed(t), 0))
	states, whole := 0, 0
	const worlds = 300
	for range worlds {
		w := randomWorld(rnd)
		r := Explore(New(w, Correct), 300_000)
		if r.Violated != "" {
			t.Fatalf("%+v:\n%s", w, New(w, Correct).Story(r))
		}
		states += r.States
		if r.Whole {
			whole++
		}
	}
	t.Logf("%9d states of %d random worlds, %d of which are no larger", states, worlds, whole)
}

func randomWorld(rnd *rand.Rand) World {
	w := World{Keys: 2 + rnd.IntN(2), Limit: 1 + rnd.IntN(3), Stale: true, Deep: rnd.IntN(2) == 0, Expiry: rnd.IntN(4) == 0}
	all := 1<<w.Keys - 1
	for range 3 + rnd.IntN(2) {
		sp := Spec{
			Exclusive: uint8(rnd.IntN(all + 1)), Queue: rnd.IntN(6) > 0, Own: rnd.IntN(6) == 0, Leave: rnd.IntN(4) == 0, Deadline: rnd.IntN(4) == 0,
		}
		sp.Shared = uint8(rnd.IntN(all+1)) &^ sp.Exclusive
		if sp.claims() == 0 {
			sp.Exclusive = uint8(all)
		}
		sp.Own = sp.Own && sp.Queue
		sp.Downgrade = sp.Exclusive != 0 && !sp.Own && rnd.IntN(4) == 0
		w.Ops = append(w.Ops, sp)
	}
	for range rnd.IntN(3) {
		w.Budget[rnd.IntN(int(faults))] = 1
	}
	if w.Budget[Reuse] > 0 {
		w.Expiry = true
	}
	return w
}
