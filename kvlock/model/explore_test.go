package model

import (
	"os"
	"testing"
	"time"
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
			t.Logf("%d states, found in %d steps:\n%s", r.States, len(r.Trace), m.Story(r))
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
	needLong(t)
	for _, w := range LongWorlds() {
		t.Run(w.Name, func(t *testing.T) { explore(t, w, 0) })
	}
}

func needLong(t *testing.T) {
	t.Helper()
	if os.Getenv("SCORIA_LONG") == "" {
		t.Skip("SCORIA_LONG is not set: make long sets it")
	}
}
