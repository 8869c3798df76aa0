package assembly

import (
	"errors"
	"sync/atomic"
)

// readiness is the reason why a process is not ready, or none.
type readiness struct{ reason atomic.Pointer[string] }

func newReadiness(reason string) *readiness {
	r := &readiness{}
	r.set(reason)
	return r
}

// set says why the process is not ready; empty: it is.
func (r *readiness) set(reason string) { r.reason.Store(&reason) }

func (r *readiness) get() error {
	if reason := *r.reason.Load(); reason != "" {
		return errors.New(reason)
	}
	return nil
}
