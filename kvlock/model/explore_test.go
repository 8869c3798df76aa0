package model

import (
	"os"
	"testing"
	"time"
)

// enough is more states than any world of a variant has.
const enough = 5_000_000

// explore looks at all states of a world under the correct rules, and prints how many there are.
func explore(t *testing.T, w World, limit int) {
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

// TestNoWorldViolatesAProperty looks at every state of every world.
func TestNoWorldViolatesAProperty(t *testing.T) {
	for _, w := range Worlds() {
		t.Run(w.Name, func(t *testing.T) { explore(t, w, enough) })
	}
}

// TestLongWorlds is for make long.
func TestLongWorlds(t *testing.T) {
	if os.Getenv("SCORIA_LONG") == "" {
		t.Skip("it takes minutes and gigabytes: SCORIA_LONG=1h go test -run Long, as make long does")
	}
	for _, w := range LongWorlds() {
		t.Run(w.Name, func(t *testing.T) { explore(t, w, 0) })
	}
}
