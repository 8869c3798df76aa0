package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

// upTo are the times from 1 ms to n ms.
func upTo(n int) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = time.Duration(i+1) * time.Millisecond
	}
	return all
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n           int
		q, wantInMs float64
	}{
		{0, 0.5, 0}, {0, 0.99, 0}, {1, 0.5, 1}, {1, 0.99, 1}, {2, 0.5, 2}, {3, 0.5, 2}, {3, 0.99, 3}, {100, 0.5, 51}, {100, 0.99, 100}, {1000, 0.99, 991}, {10, 1, 10},
	} {
		if got := quantile(upTo(c.n), c.q); got != c.wantInMs {
			t.Errorf("quantile %v of 1 to %d ms = %v ms, want %v ms", c.q, c.n, got, c.wantInMs)
		}
	}
	if got := quantile([]time.Duration{1234567 * time.Nanosecond}, 0.5); got != 1.235 {
		t.Errorf("1234567 ns is %v ms, want 1.235 ms", got)
	}
}

func TestARowCountsAndSorts(t *testing.T) {
	t.Parallel()
	took := upTo(99)
	rand.Shuffle(len(took), func(i, j int) { took[i], took[j] = took[j], took[i] })
	got := row("create-ended", 16, 2*time.Second, took)
	if want := (Row{Case: "create-ended", Workers: 16, Ops: 49.5, P50: 50, P99: 99}); got != want {
		t.Errorf("row = %+v, want %+v", got, want)
	}
	// One after the other: the time is the sum.
	if got, want := rowOf("clone-10g", []time.Duration{30 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond}), (Row{Case: "clone-10g", Workers: 1, Ops: 60, P50: 10, P99: 30}); got != want {
		t.Errorf("row = %+v, want %+v", got, want)
	}
}

func TestTheBatchOfAFloorHoldsWhatTheCommitsOfAllWorkersHold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		messages float64
		workers  int
		want     int
	}{{24, 1, 8}, {24, 16, 128}, {21, 64, 448}, {30, 64, 500}, {1000, 64, 500}, {0.5, 1, 1}, {4.5, 1, 2}, {4.4, 1, 1}} {
		if got := batchSize(c.messages, c.workers, createCommits); got != c.want {
			t.Errorf("%v messages an operation in %d commits, %d workers: batches of %d, want %d", c.messages, createCommits, c.workers, got, c.want)
		}
	}
}

func TestAFloorIsInOperations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		batches  float64
		n        int
		messages float64
		want     float64
	}{{100, 96, 24, 400}, {100, 6, 24, 25}, {200, 500, 25, 4000}} {
		if got := operationsOf(c.batches, c.n, c.messages); got != c.want {
			t.Errorf("%v batches a second of %d messages, %v an operation: %v operations, want %v", c.batches, c.n, c.messages, got, c.want)
		}
	}
}

func TestAFloorIsTheMeanOfItsParts(t *testing.T) {
	t.Parallel()
	var f floorOf
	if messages, ops := f.figures(); messages != 0 || ops != 0 {
		t.Errorf("nothing was measured, and the figures are %v and %v", messages, ops)
	}
	if err := f.add(t.Context(), nil, 24, 1, createCommits); err != nil || f != (floorOf{}) {
		t.Errorf("without a stream: %v, %+v", err, f)
	}
	f = floorOf{parts: 4, messages: 90, ops: 1001}
	if messages, ops := f.figures(); messages != 22.5 || ops != 250.25 {
		t.Errorf("figures %v and %v, want 22.5 and 250.25", messages, ops)
	}
}

func TestFloorsOnAServer(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	under := newFloors(store, 40*time.Millisecond)
	before, err := sequence(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	b, err := under.batch(t.Context(), 4)
	if err != nil || b.Case != "batch-4" || b.Workers != 1 || b.Messages != 4 || b.Ops <= 0 || b.P50 <= 0 || b.P99 < b.P50 || b.Floor != 0 {
		t.Errorf("batch = %+v, %v", b, err)
	}
	after, err := sequence(t.Context(), store)
	if wrote := after - before; err != nil || wrote == 0 || wrote%4 != 0 {
		t.Errorf("batches of 4 wrote %d messages (%v)", wrote, err)
	}
	if u, err := under.update(t.Context()); err != nil || u.Case != "update-1" || u.Messages != 1 || u.Ops <= 0 {
		t.Errorf("update = %+v, %v", u, err)
	}
	var f floorOf
	for range 2 {
		if err := f.add(t.Context(), under, 8, 2, createCommits); err != nil {
			t.Fatal(err)
		}
	}
	if messages, ops := f.figures(); messages != 8 || ops <= 0 || f.parts != 2 {
		t.Errorf("figures %v and %v of %v parts, want 8 messages and some operations of 2", messages, ops, f.parts)
	}
	if err := under.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := store.Stream().Info(t.Context())
	if err != nil || info.State.Msgs > 1 { // the receipt of the process may stand there
		t.Errorf("%d messages are left (%v)", info.State.Msgs, err)
	}
	if under := newFloors(nil, time.Second); under != nil || under.close(t.Context()) != nil {
		t.Error("floors without a stream")
	}
}

func TestALoadCountsWhatEndedInItsTime(t *testing.T) {
	t.Parallel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	calls := 0
	took, err := load(t.Context(), "x", 1, 100*time.Millisecond, time.Second, whole(func(_ context.Context, _ int) error { calls++; <-tick.C; return nil }))
	if err != nil || len(took[0]) == 0 || calls <= len(took[0]) {
		t.Errorf("%d calls, %d counted (%v), want some, and the warm-up not", calls, len(took[0]), err)
	}
	broken := errors.New("broken")
	_, err = load(t.Context(), "create-ended", 4, 0, time.Hour, whole(func(_ context.Context, w int) error {
		if w == 3 {
			return broken
		}
		return nil
	}))
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "create-ended at 4 workers") {
		t.Errorf("load with a failure = %v, want %v with what failed", err, broken)
	}
}

// Scripts read the JSON: these keys are a contract.
func TestTheJSONOfAResult(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(Result{Bench: "api", Machine: ThisMachine(), Versions: map[string]string{"go": "1"}, Rows: []Row{{Case: "get-by-id"}, {Case: "a", Messages: 4, Note: "n"}}})
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	keysOf := func(v any) string {
		var keys []string
		for k := range v.(map[string]any) {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		return strings.Join(keys, " ")
	}
	rows := out["rows"].([]any)
	for what, c := range map[string]struct{ got, want string }{
		"result":                {keysOf(out), "bench machine rows versions"},
		"machine":               {keysOf(out["machine"]), "cores cpu kernel load_1m os"},
		"row":                   {keysOf(rows[0]), "case floor_ops_per_s ops_per_s p50_ms p99_ms workers"},
		"row with what is more": {keysOf(rows[1]), "case floor_ops_per_s messages_per_op note ops_per_s p50_ms p99_ms workers"},
	} {
		if c.got != c.want {
			t.Errorf("the keys of a %s are %s, want %s", what, c.got, c.want)
		}
	}
	if rows[0].(map[string]any)["floor_ops_per_s"] != 0.0 {
		t.Errorf("the floor of a row that only reads is %v", rows[0])
	}
}

func TestTheTableOfAResult(t *testing.T) {
	t.Parallel()
	r := Result{Bench: "api", Machine: Machine{CPU: "cpu", Cores: 2, Kernel: "6.1", Load1: "0.5"}, Versions: map[string]string{"b": "2", "a": "1"}, Rows: []Row{
		{Case: "create-ended", Workers: 64, Ops: 500, P50: 1.234, P99: 9.876, Floor: 1000, Messages: 24.25},
		{Case: "hot-key", Workers: 16, Ops: 9, P50: 1, P99: 2, Floor: 10, Messages: 5, Bytes: 1216, Batches: 1.071, Jain: 0.999},
		{Case: "get-by-id", Workers: 1, Ops: 20000, P50: 0.04, P99: 0.15, Note: "read only"},
	}}
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{"cpu, 2 cores, Linux 6.1, load 0.5; a 1, b 2", "case workers ops/s p50 ms p99 ms floor ops/s of floor messages/op bytes/op batches/op Jain",
		"create-ended 64 500 1.23 9.88 1000 50 % 24.2 - - -", "hot-key 16 9 1.00 2.00 10 90 % 5.0 1216 1.071 0.999", "get-by-id 1 20000 0.04 0.15 - - - - - -", "get-by-id at 1: read only"}
	for i, line := range lines {
		if got := strings.Join(strings.Fields(line), " "); i >= len(want) || got != want[i] {
			t.Errorf("line %d is %q, want %q", i, got, want[min(i, len(want)-1)])
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d lines, want %d", len(lines), len(want))
	}
}
