package integration

import (
	"net/http"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// longLease is what no test here waits for.
const longLease = "10m"

// creates asks for volumes, waits until one of them is inside a driver call, and returns the operations.
func creates(t *testing.T, api *harness.API, n int) (ids []string) {
	t.Helper()
	for range n {
		ids = append(ids, api.Must(t, http.StatusAccepted, http.MethodPost, "/volumes", M{"volume": M{"size": 1}}, nil).Operation())
	}
	harness.Eventually(t, time.Minute, "a volume is being made", func() bool {
		return operation(t, api, ids[0]).Step == "create"
	})
	return ids
}

// The only process is killed in the middle of driver calls. The next start knows that its worker has ended, and does not
// wait for its leases.
func TestAKilledProcessIsNotWaitedForByTheNextStart(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "local=file:path="+t.TempDir()+"/volumes,delay=500ms", "--lease", longLease, "--workers", "2")
	ids := creates(t, s.API, 8)
	for range 2 { // the second time, some are dispatched for the second time
		s.Kill()
		s.Start(t)
	}
	over := 0
	for _, id := range ids {
		if op := s.MustEnd(t, id); op.Epoch > 1 {
			over++
		}
	}
	if over == 0 {
		t.Error("no operation was taken over: none was under way when the process was killed")
	}
	t.Logf("of %d operations %d were taken over", len(ids), over)
	s.VerifyClean(t)
}

// Two processes serve one backend. What the one that is killed has under way the other one takes over at once; what one has
// that is merely stopped it leaves alone for as long as the lease lasts.
func TestTheOtherProcessWaitsForAStoppedOneAndNotForAKilledOne(t *testing.T) {
	t.Parallel()
	h := newHouse(t, t.TempDir(), "delay=1s")
	victim := h.start(t, "--lease", longLease)
	ids := creates(t, h.API, 6)
	victim.freeze(t)
	heir := h.start(t, "--lease", longLease)
	started := time.Now()
	harness.Eventually(t, time.Minute, "time in which the other one looks several times", func() bool { return time.Since(started) > 3*time.Second })
	if op := operation(t, h.API, ids[0]); op.Ended || op.Worker != victim.name || op.Epoch != 1 {
		t.Errorf("the operation of the process that is stopped: %+v, want it left alone", op)
	}
	victim.Kill()
	for _, id := range ids {
		h.MustEnd(t, id)
	}
	if op := operation(t, h.API, ids[0]); op.Worker != heir.name || op.Epoch != 2 {
		t.Errorf("the operation of the process that was killed: %+v, want it ended by %s in epoch 2", op, heir.name)
	}
	h.clean(t)
}
