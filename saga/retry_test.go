package saga_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scoria-storage/scoria/saga"
)

func TestRetryWaitsGrowToTheirCeiling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := b.step("a")
		s.Retry = saga.Retry{Max: saga.Forever, Min: time.Second, Ceiling: 10 * time.Second}
		var at []time.Time
		s.Do = func(context.Context, saga.Run, *state) error {
			if at = append(at, time.Now()); len(at) < 40 {
				return errFault
			}
			return nil
		}
		if _, err := b.exec(define(s)); err != nil {
			t.Fatal(err)
		}
		mean := 1.0 // seconds, before jitter
		differs := false
		for i := 1; i < len(at); i++ {
			d := at[i].Sub(at[i-1]).Seconds()
			if d < mean/2-0.001 || d > mean*1.5+0.001 {
				t.Errorf("wait %d was %.2f s, want %.2f s ± half", i, d, mean)
			}
			if mean == 10 && d != 10 {
				differs = true
			}
			mean = min(mean*1.5, 10)
		}
		if !differs {
			t.Error("the waits are not jittered")
		}
	})
}

func TestTriesAreCountedOverCrashes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var attempts []int
		s := b.step("a")
		s.Retry.Max = 4
		s.Do = func(_ context.Context, run saga.Run, _ *state) error {
			attempts = append(attempts, run.Attempt)
			return errFault
		}
		def := define(s)
		for i := 0; ; i++ {
			fired := 0
			b.opts = []saga.Option{saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
				if c.Action == saga.Doing {
					if fired++; fired > 1 {
						return saga.Leave(errCrash)
					}
				}
				return next(ctx)
			})}
			if _, err := b.exec(def); !errors.Is(err, errCrash) {
				if !errors.Is(err, saga.ErrUndone) {
					t.Errorf("Exec = %v, want ErrUndone after 4 tries", err)
				}
				break
			}
			if i > 10 {
				t.Fatal("tries are not counted over crashes")
			}
		}
		if fmt.Sprint(attempts) != "[1 2 3 4]" {
			t.Errorf("attempts %v, want 1 to 4", attempts)
		}
	})
}

func TestTimeoutEndsOneTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := b.step("a")
		s.Timeout = 2 * time.Second
		n := 0
		s.Do = func(ctx context.Context, _ saga.Run, _ *state) error {
			if n++; n == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		start := time.Now()
		res, err := b.exec(define(s))
		if err != nil || n != 2 {
			t.Errorf("Exec = %v after %d tries, want nil after 2", err, n)
		}
		if d := time.Since(start); d < 2*time.Second || d > 3*time.Second {
			t.Errorf("it took %s, want the time-out and a short wait", d)
		}
		if last := res.Status.Last; len(last) != 1 || !strings.Contains(last[0].Message, "no answer within 2s") || last[0].Took != 2*time.Second {
			t.Errorf("the record's last failures are %+v, want the time-out", last)
		}
	})
}
