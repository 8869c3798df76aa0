package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scoria-storage/scoria/kvlock/internal/long"
)

// seedVariable repeats one history, and writes what happened in it.
const seedVariable = "KVLOCK_SEED"

// histories of one run of the tests; with the race detector, which is slow, and -short there are fewer.
const (
	histories = 5_000
	few       = 50
)

// mustMeet is what has to happen in the histories of one run: a fault that is never met proves nothing.
var mustMeet = []string{
	// What goes wrong.
	"request lost", "answer lost, made", "answer lost, refused", "no leader", "refused without a reason", "nobody listens", "reordered",
	"arrived when its caller had given up, and was made", "arrived when its caller had given up, and was refused",
	"crash", "connection broken", "process stopped for a while", "caller gave up", "consumer lost", "markers expired",
	"delivered again", "acknowledgement lost",
	// What comes of it, and what the processes do.
	"refused", "submitted", "queued", "counted", "held and released", "downgraded", "broken", "left the line", "waited and was granted",
	"wait given up", "wait given up in doubt", "taken over from another worker", "refused by the resource's fence", "verb repeated",
	"req published", "wake published", "got stuck", "got stuck with a named lock", "resumed",
	"named lock taken", "named lock refused", "named lock of an earlier worker",
	"left to another worker", "wake delivered again", "wake lost on its way", "wake served", "wake purged", "wakes not served",
}

func TestHistories(t *testing.T) {
	t.Parallel()
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
		p := planOf(seed)
		p.trace = true
		r := history(t, p)
		t.Logf("%+v\n%s", p, strings.Join(r.trace, "\n"))
		r.hold(t, p)
		return
	}
	n := histories
	if testing.Short() {
		n = few
	}
	begin := time.Now()
	met, steps := many(t, rand.Uint64(), func(done int) bool { return done < n })
	t.Logf("%d histories of %d steps, %.0f histories a second", n, steps/n, float64(n)/time.Since(begin).Seconds())
	if testing.Short() {
		return // too few for what is rare
	}
	for _, what := range mustMeet {
		if met[what] == 0 {
			t.Errorf("never met: %s", what)
		}
	}
}

// TestLongHistories runs histories until the time of SCORIA_LONG is over.
func TestLongHistories(t *testing.T) {
	d := long.For(t)
	begin, n := time.Now(), 0
	met, _ := many(t, rand.Uint64(), func(done int) bool { n = done; return time.Since(begin) < d && !t.Failed() })
	t.Logf("%d histories", n)
	for _, what := range slices.Sorted(maps.Keys(met)) {
		t.Logf("%10d %s", met[what], what)
	}
}

// TestASeedIsAHistory: the same seed gives the same history, step by step.
func TestASeedIsAHistory(t *testing.T) {
	t.Parallel()
	n := uint64(100)
	if testing.Short() {
		n = 20
	}
	first := rand.Uint64()
	sums := map[uint64]bool{}
	for seed := first; seed < first+n; seed++ {
		p := planOf(seed)
		p.trace = true
		a, b := history(t, p), history(t, p)
		sums[a.sum] = true
		for i := 0; a.sum != b.sum && i < len(a.trace); i++ {
			if i >= len(b.trace) || a.trace[i] != b.trace[i] {
				t.Errorf("%s=%d: the histories part after\n%s", seedVariable, seed, strings.Join(a.trace[max(0, i-5):i+1], "\n"))
				break
			}
		}
	}
	if len(sums) != int(n) {
		t.Errorf("%d different histories of %d seeds", len(sums), n)
	}
}

// TestTheChecksFindWhatIsPlanted: each fault that no server may have is found in the histories of few seeds.
func TestTheChecksFindWhatIsPlanted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		plant plant
		says  string // Part of what is found.
	}{
		{noExpectation, ""}, {halfBatch, ""}, {noWake, "lost waiter"}, {noDispatch, "nobody is told"},
		{falseAnswer, "were acknowledged"}, {noFence, "two writers"}, {unserved, "lost waiter"}, {namedKept, "key named."},
	} {
		t.Run(c.plant.String(), func(t *testing.T) {
			t.Parallel()
			first := rand.Uint64()
			for seed := first; seed < first+2_000; seed++ {
				p := planOf(seed)
				p.plant = c.plant
				r := history(t, p)
				if len(r.failed) > 0 && strings.Contains(strings.Join(r.failed, "\n"), c.says) {
					t.Logf("found after %d histories: %s", seed-first+1, r.failed[0])
					return
				}
			}
			t.Errorf("not found in 2,000 histories from seed %d on", first)
		})
	}
}

// shards is how many histories run side by side.
const shards = 2

// many runs the histories of the seeds from first on while more, which is given how many were begun, says so. It returns what was met.
func many(t *testing.T, first uint64, more func(done int) bool) (met map[string]int, steps int) {
	t.Helper()
	met = map[string]int{}
	var mu sync.Mutex
	next := 0
	t.Run("from seed "+strconv.FormatUint(first, 10), func(t *testing.T) {
		for range shards {
			t.Run("shard", func(t *testing.T) {
				t.Parallel()
				for {
					mu.Lock()
					seed, goOn := first+uint64(next), more(next)
					next++
					mu.Unlock()
					if !goOn {
						return
					}
					p := planOf(seed)
					r := history(t, p)
					r.hold(t, p)
					mu.Lock()
					steps += r.steps
					for what, n := range r.met {
						met[what] += n
					}
					mu.Unlock()
				}
			})
		}
	})
	return met, steps
}

// hold fails the test if the history is wrong.
func (r result) hold(t *testing.T, p plan) {
	t.Helper()
	if len(r.failed) > 0 {
		t.Errorf("%s=%d:\n%s", seedVariable, p.seed, strings.Join(r.failed, "\n"))
	}
}

// history simulates a plan in a bubble of its own.
func history(t *testing.T, p plan) (r result) {
	t.Helper()
	defer func() {
		if e := recover(); e != nil {
			fmt.Fprintf(os.Stderr, "%s=%d\n", seedVariable, p.seed)
			panic(e)
		}
	}()
	synctest.Test(t, func(*testing.T) { r = simulate(p) })
	return r
}
