package model

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/internal/long"
)

// names are the assertions of lock.pml, by property.
var names = map[Property]string{
	OneWriter: "one_writer", NoOrphan: "no_orphan", NoLost: "no_lost", FairLine: "fair_line", OneWorker: "one_worker", NoLate: "no_late",
	FenceHolder: "fence_holder", NoForgotten: "no_forgotten", TrueAnswer: "true_answer", Progress: "progress",
}

// promela are the variants that lock.pml has, too.
var promela = map[Variant]string{
	CountHolders: "V_COUNT_HOLDERS", EndGrantsNobody: "V_END_GRANTS_NOBODY", LeaveGrantsNobody: "V_LEAVE_GRANTS_NOBODY",
	BreakGrantsNobody: "V_BREAK_GRANTS_NOBODY", DowngradeGrantsNobody: "V_DOWNGRADE_GRANTS_NOBODY", ReadIsBelieved: "V_READ_IS_BELIEVED",
	WakeBelievesReads: "V_WAKE_BELIEVES_READS", WakeAckedFirst: "V_WAKE_ACKED_FIRST", LimitOwesNothing: "V_LIMIT_OWES_NOTHING",
	QueueWritesNoLock: "V_QUEUE_WRITES_NO_LOCK", QueueInOneLine: "V_QUEUE_IN_ONE_LINE", LinesInOtherOrder: "V_LINES_IN_OTHER_ORDER",
	GrantPassesOlder: "V_GRANT_PASSES_OLDER", SubmitPassesOlder: "V_SUBMIT_PASSES_OLDER", LeaveOneLine: "V_LEAVE_ONE_LINE",
	ExpiredNotRelooked: "V_EXPIRED_NOT_RELOOKED", GrantWithoutDispatch: "V_GRANT_WITHOUT_DISPATCH", NoEpoch: "V_NO_EPOCH",
	TakeOverByName: "V_TAKE_OVER_BY_NAME", EndIgnoresEpoch: "V_END_IGNORES_EPOCH", OvertakenAcks: "V_OVERTAKEN_ACKS",
	AckAtTakeOver: "V_ACK_AT_TAKE_OVER", NoFenceAtTakeOver: "V_NO_FENCE_AT_TAKE_OVER", BreakWithoutFence: "V_BREAK_WITHOUT_FENCE",
	BreakOwnNumber: "V_BREAK_OWN_NUMBER", DoubtIsRefused: "V_DOUBT_IS_REFUSED", EndInTwo: "V_END_IN_TWO",
}

// needSpin skips the test where spin or a C compiler is not installed.
func needSpin(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	for _, tool := range []string{"spin", "cc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT CHECKED: %s is not installed; make deps installs it, and the checks of every change have it", tool)
		}
	}
}

// flags says a world to lock.pml.
func flags(w World, v Variant) []string {
	set := func(has func(Spec) bool) (ops uint8) {
		for i, sp := range w.Ops {
			if has(sp) {
				ops |= bit(i)
			}
		}
		return ops
	}
	def := func(name string, value any) string { return fmt.Sprintf("-D%s=%d", name, value) }
	out := []string{
		def("N", len(w.Ops)), def("K", w.Keys), def("LIMIT", w.Limit),
		def("REFUSED", set(func(sp Spec) bool { return !sp.Queue })), def("LEAVES", set(func(sp Spec) bool { return sp.Leave })),
		def("LATE", set(func(sp Spec) bool { return sp.Deadline })), def("DOWNGRADES", set(func(sp Spec) bool { return sp.Downgrade })),
		def("CRASHES", w.Budget[Crash]), def("LOST", w.Budget[Lost]), def("TWICE", w.Budget[Twice]), def("BREAKS", w.Budget[Broken]),
	}
	for i, sp := range w.Ops {
		out = append(out, def("X"+strconv.Itoa(i), sp.Exclusive), def("S"+strconv.Itoa(i), sp.Shared))
	}
	if v != Correct {
		out = append(out, "-D"+promela[v])
	}
	return out
}

// verdict is what spin found.
type verdict struct {
	states   int
	violated string // the assertion; "" if none
	story    string
	text     string // of the verifier
}

var (
	assertion = regexp.MustCompile(`assertion violated (\w+)`)
	stored    = regexp.MustCompile(`(\d+) states, stored`)
)

// check has spin look at all states of a world. A broken variant is expected to be found: the shortest way to it is looked for.
func check(t *testing.T, w World, v Variant) verdict {
	t.Helper()
	how, search := []string{"-O0", "-DSAFETY"}, []string{"-m1000000"} // compiling takes longer than looking
	if v != Correct {
		how, search = append(how, "-DREACH"), []string{"-m1000", "-i"}
	}
	return spin(t, w, v, how, search)
}

// spin compiles and runs the verifier of a world.
func spin(t *testing.T, w World, v Variant, how, search []string) verdict {
	t.Helper()
	dir := t.TempDir()
	source, err := os.ReadFile("lock.pml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock.pml"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil && name != "./pan" { // which says by its status that it found something
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("spin", append(append([]string{"-a"}, flags(w, v)...), "lock.pml")...)
	run("cc", append(how, "-w", "-DNOREDUCE", "-DCOLLAPSE", "-DMEMLIM=3500", "-o", "pan", "pan.c")...)
	out := verdict{text: run("./pan", search...)}
	if m := stored.FindStringSubmatch(out.text); m != nil {
		out.states, _ = strconv.Atoi(m[1])
	}
	switch all := assertion.FindAllStringSubmatch(out.text, -1); {
	case len(all) > 0:
		out.violated = all[len(all)-1][1] // the one with the shortest way, whose trail is kept
	case !strings.Contains(out.text, "errors: 0") || v == Correct && strings.Contains(out.text, "max search depth too small") || out.states == 0:
		t.Fatalf("%s:\n%s", w.Name, out.text)
	}
	if out.violated != "" {
		out.story = run("spin", append(append([]string{"-t"}, flags(w, v)...), "lock.pml")...)
	}
	return out
}

// TestSpinFindsEachBrokenVariant breaks one rule of lock.pml at a time, in the worlds in which Explore finds it.
func TestSpinFindsEachBrokenVariant(t *testing.T) {
	needSpin(t)
	for _, c := range Cases() {
		if promela[c.Variant] == "" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			v := check(t, c.World, c.Variant)
			if v.violated != names[c.Breaks] {
				t.Fatalf("violates %q, want %q\n%s", v.violated, names[c.Breaks], v.story)
			}
			t.Logf("%9d states of spin, found: %s\n%s", v.states, c.Name, v.story)
		})
	}
}

// fits says whether lock.pml has all that is in the world.
func fits(w World) bool {
	own := slices.ContainsFunc(w.Ops, func(sp Spec) bool { return sp.Own })
	return w.Keys <= 2 && !own && !w.Deep && !w.Expiry && w.Budget[Stuck]+w.Budget[Redispatch]+w.Budget[Reuse] == 0
}

// TestSpinFindsNoViolation looks at every state of the worlds that fit under the correct rules.
func TestSpinFindsNoViolation(t *testing.T) {
	needSpin(t)
	var worlds []World
	for _, c := range Cases() {
		if !slices.ContainsFunc(worlds, func(w World) bool { return w.Name == c.World.Name }) {
			worlds = append(worlds, c.World)
		}
	}
	for _, w := range append(worlds, Worlds()...) {
		if !fits(w) {
			continue
		}
		t.Run(w.Name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			v := check(t, w, Correct)
			if v.violated != "" {
				t.Fatalf("violates %s\n%s", v.violated, v.story)
			}
			t.Logf("%9d states of spin, %5.1fs: %s", v.states, time.Since(begin).Seconds(), w.Name)
		})
	}
}

// TestLongSpin is for make long: every fault that lock.pml has, and, with every run, that it ends.
func TestLongSpin(t *testing.T) {
	long.For(t)
	needSpin(t)
	w := with("two ends at once, every fault", []Spec{writer(a), writer(b), writer(ab).leaves()}, Crash, Lost, Twice, Broken)
	for name, how := range map[string]struct{ compile, search []string }{
		"properties": {[]string{"-O2", "-DSAFETY"}, []string{"-m1000000"}},
		"cycles":     {[]string{"-O2", "-DNP"}, []string{"-m1000000", "-l"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := spin(t, w, Correct, how.compile, how.search)
			if v.violated != "" {
				t.Fatalf("violates %s\n%s", v.violated, v.story)
			}
			t.Logf("%9d states of spin: %s", v.states, w.Name)
		})
	}
}
