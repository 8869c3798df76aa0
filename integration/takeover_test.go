package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// scattered is content in so many pieces that a copy of it takes a while.
func scattered(rnd *rand.Rand, pieces int64) harness.Content {
	c := harness.Content{}
	for i := range pieces {
		c[i*4] = rnd.Uint64() | 1
	}
	return c
}

// begin asks for an operation on a volume and returns its ID.
func (h *house) begin(t *testing.T, path string, body any) string {
	t.Helper()
	return h.Must(t, http.StatusAccepted, http.MethodPost, path, body, nil).Operation()
}

// Two processes of one node share the work. One is killed in the middle of a copy: the other ends what it had begun.
func TestTheOtherProcessEndsTheCopiesOfOneThatWasKilled(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	h := newHouse(t, t.TempDir(), "reflink=never")
	h.start(t)
	h.start(t)
	first := h.MustEnd(t, h.begin(t, "/volumes", M{"volume": M{"size": 1}}))
	source := strings.TrimPrefix(first.Resource, "volume.")
	content := scattered(rnd, 8_192)
	if err := harness.WriteContent(h.file(source), content); err != nil {
		t.Fatal(err)
	}

	clones := map[string]string{} // volume → operation
	for range 8 {
		var out struct{ Volume harness.Volume }
		ans := h.Must(t, http.StatusAccepted, http.MethodPost, "/volumes", M{"volume": M{"size": 1, "source_volid": source}}, &out)
		clones[out.Volume.ID] = ans.Operation()
	}
	var victim *worker
	var volume string
	harness.Eventually(t, time.Minute, "a copy is under way", func() bool {
		for _, tmp := range h.temporaries(t) {
			volume = tmp[strings.LastIndexByte(tmp, '.')+1:]
			if victim = h.holder(volume); victim != nil {
				return true
			}
		}
		return false
	})
	victim.Kill()
	heir := h.other(victim)
	op := operation(t, h.API, clones[volume])
	if op.Ended {
		t.Fatalf("the copy had ended before the process was killed: %+v", op)
	}
	mine, taken := 0, 0
	if first.Worker == heir.name {
		mine++
	}
	for clone, id := range clones {
		op := h.MustEnd(t, id)
		h.holds(t, clone, content)
		switch {
		case op.Worker == heir.name && op.Epoch > 1:
			taken++
		case op.Worker == heir.name:
			mine++
		}
	}
	if op := operation(t, h.API, clones[volume]); op.Epoch < 2 || op.Worker != heir.name {
		t.Errorf("the copy that was cut off: %+v, want it ended by %s in a later epoch", op, heir.name)
	}
	heir.countsTo(t, mine+taken, func() int { return heir.runs(t, "volume.create", "done") })
	t.Logf("of %d volumes the heir made %d, and took %d over from the other", len(clones)+1, mine, taken)
	if err := content.Differs(must(t)(harness.ReadContent(h.file(source)))); err != "" {
		t.Errorf("source: %s", err)
	}
	h.clean(t)

	// With a new process beside it the work is shared again.
	fresh := h.start(t)
	before := heir.runs(t, "volume.create", "done")
	var ids []string
	for range 40 {
		ids = append(ids, h.begin(t, "/volumes", M{"volume": M{"size": 1}}))
	}
	for _, id := range ids {
		h.MustEnd(t, id)
	}
	var old, young int
	heir.countsTo(t, len(ids), func() int {
		old, young = heir.runs(t, "volume.create", "done")-before, fresh.runs(t, "volume.create", "done")
		return old + young
	})
	t.Logf("of %d volumes the two made %d and %d", len(ids), old, young)
	if old == 0 || young == 0 {
		t.Errorf("of %d volumes the two made %d and %d: want some each", len(ids), old, young)
	}
	h.clean(t)
}

// countsTo waits until the runs that were counted are as many as the records say, and fails if they are more: a run is counted a moment
// after its end is in the record.
func (w *worker) countsTo(t *testing.T, want int, count func() int) {
	t.Helper()
	n := 0
	harness.Eventually(t, time.Minute, "every run is counted", func() bool { n = count(); return n >= want })
	if n != want {
		t.Errorf("%d runs were counted, the records say %d", n, want)
	}
}

func must(t *testing.T) func(harness.Content, int64, error) harness.Content {
	t.Helper()
	return func(c harness.Content, _ int64, err error) harness.Content {
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// revertCase is a volume with a snapshot that it can be reverted to, and what each holds.
type revertCase struct {
	volume, snapshot  string
	original, changed harness.Content
}

// newRevert makes a volume, a snapshot of it, and then other content.
func (h *house) newRevert(t *testing.T, rnd *rand.Rand, pieces int64) *revertCase {
	t.Helper()
	c := &revertCase{volume: h.Create(t, M{"size": 1}), original: scattered(rnd, pieces), changed: scattered(rnd, 8)}
	if err := harness.WriteContent(h.file(c.volume), c.original); err != nil {
		t.Fatal(err)
	}
	c.snapshot = h.Snapshot(t, c.volume)
	h.write(t, c, c.changed)
	return c
}

// write changes the volume after its snapshot.
func (h *house) write(t *testing.T, c *revertCase, blocks harness.Content) {
	t.Helper()
	if err := harness.WriteContent(h.file(c.volume), blocks); err != nil {
		t.Fatal(err)
	}
}

// goesOn has a host write to the volume that was reverted, and returns what it holds then, and its file.
func (h *house) goesOn(t *testing.T, rnd *rand.Rand, c *revertCase) (harness.Content, uint64) {
	t.Helper()
	h.holds(t, c.volume, c.original)
	h.Idle(t)
	later := c.original.Clone()
	for n, tag := range scattered(rnd, 16) {
		later[n+1] = tag
	}
	h.write(t, c, later)
	return later, h.inode(t, c.volume)
}

// frozen reverts the volume and stops the process that does it at a moment for which caught is true, before and after
// the stop. It returns the operation, the process that is stopped, and the other one.
func (h *house) frozen(t *testing.T, c *revertCase, caught func(op harness.Operation, w *worker) bool) (id string, victim, heir *worker) {
	t.Helper()
	for try := range 20 {
		id = h.begin(t, "/volumes/"+c.volume+"/action", M{"revert": M{"snapshot_id": c.snapshot}})
		for op := operation(t, h.API, id); !op.Ended; op = operation(t, h.API, id) {
			victim = h.named(op.Worker)
			if victim == nil || op.Step != "revert" || !caught(op, victim) {
				continue
			}
			victim.freeze(t)
			// What is in the middle of it now stays so.
			if op := operation(t, h.API, id); !op.Ended && op.Epoch == 1 && caught(op, victim) {
				return id, victim, h.other(victim)
			}
			victim.thaw(t)
		}
		t.Logf("try %d: the operation had passed that moment", try+1)
		h.MustEnd(t, id)
		h.write(t, c, c.changed)
	}
	t.Fatal("the moment was never met")
	return "", nil, nil
}

func (h *house) named(name string) *worker {
	for _, w := range h.workers {
		if w.name == name {
			return w
		}
	}
	return nil
}

// A process is stopped past its lease before it takes the volume's file lock. The other one takes the operation over and
// ends it; a host writes. Then the first one goes on: it is fenced off, and what the host wrote stays.
func TestAProcessThatSleptBeforeTheFileLockChangesNothingLater(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	h := newHouse(t, t.TempDir(), "reflink=never,delay=300ms")
	h.start(t)
	h.start(t)
	c := h.newRevert(t, rnd, 64)
	id, victim, heir := h.frozen(t, c, func(_ harness.Operation, w *worker) bool { // within the delay, which comes before the lock
		return !harness.Locks(w.PID(), h.lock(c.volume))
	})

	op := h.MustEnd(t, id)
	if op.Epoch < 2 || op.Worker != heir.name {
		t.Errorf("the operation: %+v, want it ended by %s in a later epoch", op, heir.name)
	}
	later, file := h.goesOn(t, rnd, c)

	victim.thaw(t)
	harness.Eventually(t, 30*time.Second, "the process that slept finds that it was overtaken", func() bool {
		return victim.runs(t, "volume.revert", "fenced") == 1
	})
	victim.saysOvertaken(t, id, "a claim with") // the file lock's fence refused it, before its record could
	h.same(t, c, later, file)
	if n := victim.runs(t, "volume.revert", "done"); n != 0 {
		t.Errorf("the process that slept ended %d runs", n)
	}
	if !victim.alive() {
		t.Errorf("the process that slept was ended")
	}
	h.clean(t)
	h.same(t, c, later, file)
	if old, young := h.share(t); old == 0 || young == 0 {
		t.Errorf("afterwards the two made %d and %d volumes, want both to work", old, young)
	}
	h.clean(t)
}

// same fails if the volume changed.
func (h *house) same(t *testing.T, c *revertCase, want harness.Content, inode uint64) {
	t.Helper()
	h.holds(t, c.volume, want)
	if now := h.inode(t, c.volume); now != inode {
		t.Errorf("the volume's file was replaced: inode %d, was %d", now, inode)
	}
}

// share makes volumes with both processes and returns how many each made.
func (h *house) share(t *testing.T) (first, second int) {
	t.Helper()
	before := [2]int{h.workers[0].runs(t, "volume.create", "done"), h.workers[1].runs(t, "volume.create", "done")}
	var ids []string
	for range 24 {
		ids = append(ids, h.begin(t, "/volumes", M{"volume": M{"size": 1}}))
	}
	for _, id := range ids {
		h.MustEnd(t, id)
	}
	return h.workers[0].runs(t, "volume.create", "done") - before[0], h.workers[1].runs(t, "volume.create", "done") - before[1]
}

// inCopy says that the process is in the middle of the copy, with the volume's lock.
func (h *house) inCopy(t *testing.T, c *revertCase) func(harness.Operation, *worker) bool {
	return func(op harness.Operation, w *worker) bool {
		return harness.Locks(w.PID(), h.lock(c.volume)) && strings.Contains(strings.Join(h.temporaries(t), " "), op.ID)
	}
}

// A process is stopped past its lease in the middle of a driver call, with the volume's file lock. The other one takes the
// operation over and waits for the lock, visibly. The first one goes on in time: it notices, lets go and lives.
func TestAProcessThatSleptInACallLetsGoWhenItGoesOn(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	h := newHouse(t, t.TempDir(), "reflink=never,lock-limit=5m")
	h.start(t)
	h.start(t)
	c := h.newRevert(t, rnd, 8_192)
	id, victim, heir := h.frozen(t, c, h.inCopy(t, c))
	h.waits(t, id, c, victim, heir)

	victim.thaw(t)
	op := h.MustEnd(t, id)
	if op.Worker != heir.name {
		t.Errorf("the operation: %+v, want it ended by %s", op, heir.name)
	}
	h.holds(t, c.volume, c.original)
	harness.Eventually(t, 30*time.Second, "the process that slept finds that it was overtaken", func() bool {
		return victim.runs(t, "volume.revert", "fenced") == 1
	})
	if !victim.alive() {
		t.Errorf("the process that slept was ended, though it let go in time")
	}
	h.clean(t)
	h.holds(t, c.volume, c.original)
	if old, young := h.share(t); old == 0 || young == 0 {
		t.Errorf("afterwards the two made %d and %d volumes, want both to work", old, young)
	}
	h.clean(t)
}

// waits proves that the heir has taken the operation over and waits for the lock, which the stopped victim holds.
func (h *house) waits(t *testing.T, id string, c *revertCase, victim, heir *worker) {
	t.Helper()
	harness.Eventually(t, time.Minute, "the other process takes the operation over", func() bool {
		op := operation(t, h.API, id)
		return op.Epoch > 1 && op.Worker == heir.name
	})
	want := []string{`msg="waiting for a file lock"`, "lock=" + c.volume, "operation=" + id, fmt.Sprintf("holder_pid=%d", victim.PID())}
	harness.Eventually(t, time.Minute, "the other process waits for the lock", func() bool {
		for line := range strings.Lines(heir.Log()) {
			if containsAll(line, want) {
				return true
			}
		}
		return false
	})
	if harness.State(victim.PID()) != 'T' || !harness.Locks(victim.PID(), h.lock(c.volume)) {
		t.Fatalf("the stopped process does not hold the lock while the other one waits")
	}
	if op := operation(t, h.API, id); op.Ended {
		t.Fatalf("the operation ended while the lock was held: %+v", op)
	}
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// A process is stopped for ever in the middle of a driver call. After the limit the other one ends it, and goes on.
func TestAProcessThatSleepsInACallForEverIsEnded(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	h := newHouse(t, t.TempDir(), "reflink=never,lock-limit=2s")
	h.start(t)
	h.start(t)
	c := h.newRevert(t, rnd, 8_192)
	id, victim, heir := h.frozen(t, c, h.inCopy(t, c))
	frozen := time.Now()
	h.waits(t, id, c, victim, heir)

	op := h.MustEnd(t, id)
	if op.Worker != heir.name {
		t.Errorf("the operation: %+v, want it ended by %s", op, heir.name)
	}
	if took := time.Since(frozen); took < 2*time.Second {
		t.Errorf("the operation ended %v after the stop: the holder was not given its 2 s", took)
	}
	select {
	case <-victim.Ended():
	case <-time.After(30 * time.Second):
		t.Fatalf("the process that sleeps was not ended")
	}
	want := []string{`msg="ended a process that held a file lock with a lower fence"`, "lock=" + c.volume, fmt.Sprintf("holder_pid=%d", victim.PID())}
	if !containsAll(heir.Log(), want) {
		t.Errorf("the other process does not say that it ended process %d", victim.PID())
	}
	h.holds(t, c.volume, c.original)
	h.clean(t)
	heir.countsTo(t, 1, func() int { return heir.runs(t, "volume.revert", "done") })
	// A new process takes its place.
	h.workers = []*worker{heir}
	h.start(t)
	if old, young := h.share(t); old == 0 || young == 0 {
		t.Errorf("afterwards the two made %d and %d volumes, want both to work", old, young)
	}
	h.clean(t)
	h.holds(t, c.volume, c.original)
}
