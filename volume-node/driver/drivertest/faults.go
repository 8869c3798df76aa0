package drivertest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// errFault is a fault that no driver knows.
var errFault = errors.New("injected fault")

// testFaults lets every call fail at every point, and makes it again.
func testFaults(t *testing.T, cfg Config) {
	faults := []error{errFault, syscall.ENOSPC}
	for i, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			n := 1
			for failAt(t, cfg, sc, faults[(i+n)%len(faults)], n) { // over all calls each kind of point meets both
				n++
			}
			t.Logf("met faults at %d points", n-1)
			if n == 1 {
				t.Skip("the driver has no points")
			}
		})
	}
}

// failAt lets the step fail at its n-th point; false if it has fewer.
func failAt(t *testing.T, cfg Config, sc scenario, fault error, n int) bool {
	t.Helper()
	var mu sync.Mutex
	armed, met, where := false, 0, ""
	b := openFresh(t, cfg, Env{Hook: func(point string) error {
		mu.Lock()
		defer mu.Unlock()
		if !armed {
			return nil
		}
		if met++; met != n {
			return nil
		}
		where = point
		return fault
	}})
	b.buildWorld()
	before := b.want.clone()
	mu.Lock()
	armed = true
	mu.Unlock()
	err := sc.step.do(t.Context(), b.d, sc.step.with(b.fence()).call())
	mu.Lock()
	armed = false
	mu.Unlock()
	if met < n {
		b.expect(sc.name+" without a fault", err, nil)
		return false
	}
	what := fmt.Sprintf("%s with %v at point %d (%s)", sc.name, fault, n, where)
	if err == nil {
		// The driver had another way; then the effect must be there. There is no other way to make it durable.
		if strings.HasPrefix(where, "sync") {
			t.Errorf("%s = nil, want an error: what it made is not durable", what)
		}
		sc.apply(b.want)
	} else {
		if !errors.Is(err, fault) {
			t.Errorf("%s = %v, want an error that says so", what, err)
		}
		if errors.Is(fault, syscall.ENOSPC) && !errors.Is(err, driver.ErrNoSpace) && !errors.Is(err, driver.ErrUnknown) && where != "done" {
			t.Errorf("%s = %v, want ErrNoSpace", what, err)
		}
		b.checkUndecided(what, err, sc, before, where == "done")
	}
	b.must(sc.step)
	b.want = before
	sc.apply(b.want)
	b.verify("made again after " + what)
	return true
}

// checkUndecided checks the storage after a step that failed: as before, unless the driver says that it does not know.
func (b *bench) checkUndecided(what string, err error, sc scenario, before model, maybe bool) {
	b.t.Helper()
	b.want = before
	after := before.clone()
	sc.apply(after)
	if o, looking := b.d.Look(b.t.Context(), sc.step.target()); errors.Is(err, driver.ErrUnknown) || maybe {
		switch content, there := after[sc.step.target()]; {
		case looking == nil && there && int64(len(content)) == o.Bytes, errors.Is(looking, driver.ErrNotFound) && !there:
			b.want = after // for a revert, which keeps the size, this is not known
		}
		b.verifyList("after " + what)
		return
	}
	b.verify("after " + what)
}
