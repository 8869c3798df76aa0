package drivertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// testKilledAtPoints kills a process at every point of every call; another worker makes the call again.
func testKilledAtPoints(t *testing.T, cfg Config) {
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			n := 1
			for ; killAt(t, cfg, sc, n); n++ {
			}
			t.Logf("met the kill at %d points", n-1)
			if n == 1 {
				t.Skip("the driver has no points: see the kills at random")
			}
		})
	}
}

func killAt(t *testing.T, cfg Config, sc scenario, n int) bool {
	t.Helper()
	b := openFresh(t, cfg, Env{})
	b.buildWorld()
	c := start(t, order{Spec: b.spec, Steps: []Step{sc.step.with(b.fence())}, At: n, Signal: syscall.SIGKILL})
	c.proceed()
	said, status := c.rest()
	if !killed(status) {
		if len(said) != 1 || said[0] != saysDone {
			t.Fatalf("child said %q and ended with %v", said, status)
		}
		return false
	}
	b.takeOver(sc, fmt.Sprintf("killed at point %d", n))
	return true
}

// takeOver does what a successor does with a call that was cut off: raise the fence, look, call again.
func (b *bench) takeOver(sc scenario, when string) {
	b.t.Helper()
	fence := b.fence()
	ctx := b.t.Context()
	b.expect("RaiseFence when "+when, b.d.RaiseFence(ctx, driver.Call{Operation: sc.step.Operation, Fence: fence}, sc.step.target()), nil)
	if _, err := b.d.Look(ctx, sc.step.target()); err != nil && !errors.Is(err, driver.ErrNotFound) {
		b.t.Errorf("Look when %s = %v", when, err)
	}
	b.expect(sc.name+" again when "+when, sc.step.do(ctx, b.d, sc.step.with(fence).call()), nil)
	sc.apply(b.want)
	b.verify("made again when " + when)
}

// testKilledAtRandom kills a process at a random moment of a call, until it was met in the middle often enough.
func testKilledAtRandom(t *testing.T, cfg Config) {
	const wanted, tries = 6, 300
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	met := 0
	all := scenarios()
	span := 10 * time.Millisecond // grows while the call ends before the kill, shrinks while it has not begun
	for range tries {
		if met == wanted {
			return
		}
		sc := all[random.IntN(len(all))]
		b := openFresh(t, cfg, Env{})
		b.buildWorld()
		c := start(t, order{Spec: b.spec, Steps: []Step{sc.step.with(b.fence())}})
		c.proceed()
		// A time to wait is the point of this test: it is where the kill strikes, not a wait for something.
		time.Sleep(time.Duration(random.Int64N(int64(span))))
		if err := c.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		said, status := c.rest()
		if len(said) > 0 || !killed(status) {
			span = max(span/2, 100*time.Microsecond)
			continue
		}
		met++
		b.takeOver(sc, "killed at random")
	}
	t.Errorf("of %d kills only %d struck during a call, want %d", tries, met, wanted)
}

// testStoppedAtPoints stops a process at every point of every call, past the limit, while another worker takes the
// operation over, and lets it go on. Before it has the lock it is refused when it goes on; after that it is ended.
func testStoppedAtPoints(t *testing.T, cfg Config) {
	info := openFresh(t, cfg, Env{}).d.Info()
	if !refuses(info) {
		t.Skip("fencing class none: another worker goes on only when the first was declared fenced")
	}
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			count := map[string]int{}
			for n := 1; ; n++ {
				how := stopAt(t, cfg, sc, n)
				if how == "" {
					break
				}
				count[how]++
			}
			t.Logf("stopped processes: %v", count)
			if len(count) == 0 {
				t.Skip("the driver has no points")
			}
			if count[saysFenced] == 0 || info.Fencing == driver.FencingNode && count["ended"] == 0 {
				t.Errorf("stopped processes: %v, want some that were fenced and, with fencing class node, some that were ended", count)
			}
		})
	}
}

// stopAt returns how the stopped process ended; empty if the call has fewer than n points.
func stopAt(t *testing.T, cfg Config, sc scenario, n int) string {
	t.Helper()
	b := openFresh(t, cfg, Env{LockLimit: shortLimit})
	b.buildWorld()
	c := start(t, order{Spec: b.spec, Steps: []Step{sc.step.with(b.fence())}, At: n, Signal: syscall.SIGSTOP})
	c.proceed()
	if !c.awaitStopOrEnd() {
		said, status := c.rest()
		if len(said) != 1 || said[0] != saysDone {
			t.Fatalf("child said %q and ended with %v", said, status)
		}
		return ""
	}
	when := fmt.Sprintf("stopped at point %d", n)
	b.takeOver(sc, when)
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	said, status := c.rest()
	b.verify("after the process went on that was " + when)
	switch {
	case killed(status) && len(said) == 0:
		return "ended"
	case len(said) == 1 && said[0] == saysFenced:
		return saysFenced
	}
	t.Errorf("%s: the process that was %s said %q and ended with %v, want that it is ended or fenced", sc.name, when, said, status)
	return "wrong"
}

// testTwoProcesses lets two processes work on one storage at once: on things of their own, and on the same one.
func testTwoProcesses(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	b.buildWorld()
	snap := driver.Snapshot{ID: snapID, Volume: srcID, Bytes: worldBytes}
	low, high := b.fence(), b.fence()
	const volumes = 10
	steps := func(who string, fence driver.Fence) (all []Step) {
		for i := range volumes {
			own := driver.Volume{ID: driver.VolumeID(fmt.Sprintf("%s%d", who, i)), Bytes: worldBytes}
			b.want[own.ID.Ref()] = b.want[snapID.Ref()]
			all = append(all, Step{Method: driver.MethodCreateFromSnapshot, Operation: "op-" + who, Fence: fence, Volume: own, Snapshot: snap})
			both := driver.Volume{ID: driver.VolumeID(fmt.Sprintf("both%d", i)), Bytes: worldBytes}
			b.want[both.ID.Ref()] = b.want[srcID.Ref()]
			all = append(all, Step{Method: driver.MethodCloneVolume, Operation: "op-both", Fence: fence, Volume: both, Source: driver.Volume{ID: srcID, Bytes: worldBytes}})
		}
		return all
	}
	a := start(t, order{Spec: b.spec, Steps: steps("a", low)})
	z := start(t, order{Spec: b.spec, Steps: steps("z", high)})
	a.proceed()
	z.proceed()
	saidA, statusA := a.rest()
	saidZ, statusZ := z.rest()
	if statusA.ExitStatus() != 0 || statusZ.ExitStatus() != 0 || len(saidA) != 2*volumes || len(saidZ) != 2*volumes {
		t.Fatalf("children ended with %v and %v and said\n%q\n%q", statusA, statusZ, saidA, saidZ)
	}
	for i := range saidZ {
		if saidZ[i] != saysDone {
			t.Errorf("step %d of the process with the higher fence: %q, want %q", i, saidZ[i], saysDone)
		}
		if saidA[i] != saysDone && (i%2 == 0 || saidA[i] != saysFenced) {
			t.Errorf("step %d of the process with the lower fence: %q", i, saidA[i])
		}
	}
	b.verify("after two processes worked at once")
}

// testCleanup removes what calls that were cut off left behind, once their operations have ended.
func testCleanup(t *testing.T, cfg Config) {
	b := openFresh(t, cfg, Env{})
	b.buildWorld()
	var sc scenario
	for _, sc = range scenarios() {
		if sc.name == "clone" {
			break
		}
	}
	ctx := t.Context()
	left := 0
	for n := 1; ; n++ {
		c := start(t, order{Spec: b.spec, Steps: []Step{sc.step.with(b.fence())}, At: n, Signal: syscall.SIGKILL})
		c.proceed()
		if _, status := c.rest(); !killed(status) {
			break
		}
		if left = countTemporaries(b, sc.step.Operation); left > 0 {
			break
		}
		b.must(Step{Method: driver.MethodDeleteVolume, Volume: driver.Volume{ID: newID}})
	}
	if left == 0 {
		t.Skip("the driver leaves no temporaries")
	}
	b.expect("Cleanup while the operation runs", b.d.Cleanup(ctx, func(op string) bool { return op != sc.step.Operation }), nil)
	if n := countTemporaries(b, sc.step.Operation); n != left {
		t.Errorf("Cleanup left %d temporaries of an operation that runs, want %d", n, left)
	}
	b.expect("Cleanup", b.d.Cleanup(ctx, func(op string) bool { return op == sc.step.Operation }), nil)
	b.verify("after Cleanup")
}

func countTemporaries(b *bench, operation string) (n int) {
	b.t.Helper()
	err := b.d.List(b.t.Context(), func(o driver.Object) error {
		if o.Kind == driver.KindTemporary {
			if o.Operation != operation {
				b.t.Errorf("List: temporary %+v, want operation %s", o, operation)
			}
			n++
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}
