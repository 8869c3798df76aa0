package saga

import (
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Forever is a Retry.Max without an end.
const Forever = -1

// Defaults of Retry. Past the pivot the default of Max is Forever.
const (
	DefaultTries     = 5
	DefaultUndoTries = 10
	DefaultMin       = 100 * time.Millisecond
	DefaultCeiling   = 15 * time.Second
)

// Retry says how often and how soon a step is tried again. Waits grow by half each time, from Min to
// Ceiling, each jittered by up to half. The zero value is a good default.
type Retry struct {
	Max     int           // tries in all; Forever; zero: the default
	Min     time.Duration // the first wait; zero: DefaultMin
	Ceiling time.Duration // the longest wait before jitter; zero: DefaultCeiling
}

func (r Retry) withDefaults(tries int) Retry {
	if r.Max == 0 {
		r.Max = tries
	}
	if r.Ceiling == 0 {
		r.Ceiling = max(DefaultCeiling, r.Min)
	}
	if r.Min == 0 {
		r.Min = min(DefaultMin, r.Ceiling)
	}
	return r
}

func (r Retry) validate() error {
	switch {
	case r.Max < Forever:
		return fmt.Errorf("Retry.Max is %d tries; it is at least 1, or saga.Forever", r.Max)
	case r.Min < 0 || r.Ceiling < 0:
		return fmt.Errorf("a negative wait (Retry.Min %s, Retry.Ceiling %s)", r.Min, r.Ceiling)
	case r.Ceiling > 0 && r.Min > r.Ceiling:
		return fmt.Errorf("Retry.Min %s is above Retry.Ceiling %s", r.Min, r.Ceiling)
	}
	return nil
}

// exhausted says whether no try is left after this many.
func (r Retry) exhausted(tried int) bool { return r.Max != Forever && tried >= r.Max }

// wait is the pause after try number tried (from 1). It is a function of the number, so that a run that
// was resumed goes on with the pace it had.
func (r Retry) wait(tried int) time.Duration {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(r.Min),
		backoff.WithMaxInterval(r.Ceiling),
		backoff.WithMultiplier(1.5),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxElapsedTime(0),
	)
	const enough = 64 // 1.5^64 is beyond every ceiling
	d := b.NextBackOff()
	for range min(tried-1, enough) {
		d = b.NextBackOff()
	}
	return d
}
