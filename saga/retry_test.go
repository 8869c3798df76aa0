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
		if fmt.Sprint(attempts) != "[1 3 5 7]" { // those between were lost in a crash, and use up no try
			t.Errorf("attempts %v, want each second one of 1 to 7", attempts)
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

// TestLostTriesAreCounted: a try whose worker went before it could journal anything has a number of its own, also in the status
// that others read meanwhile, and in every phase. A resumed run begins to count again.
func TestLostTriesAreCounted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var attempts []int
	crashes := map[saga.Action]int{saga.Doing: 2, saga.Reverting: 1}
	b.opts = []saga.Option{saga.WithWaitCeiling(time.Millisecond), saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if c.Step.Name != "a" || c.Action == saga.Writing || c.Action == saga.Waiting {
			return next(ctx)
		}
		attempts = append(attempts, c.Attempt)
		err := next(ctx)
		if crashes[c.Action]--; crashes[c.Action] >= 0 {
			return saga.Leave(errCrash)
		}
		return err
	})}
	first, second := b.step("a"), b.step("b")
	second.Do = func(context.Context, saga.Run, *state) error { return saga.Permanent(errFault) }
	first.Undo = func(context.Context, saga.Run, state) error { return saga.Permanent(errFault) }
	def := define(first, second)
	saga.MustRegister(&b.reg, def)
	status := func() saga.Status {
		st, err := b.executor().Inspect(t.Context(), "op-1")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	for want := 1; ; want++ {
		_, err := b.exec(def)
		if !errors.Is(err, errCrash) {
			if !errors.Is(err, saga.ErrStuck) {
				t.Fatalf("Exec = %v, want ErrStuck", err)
			}
			break
		}
		if st := status(); want <= 2 && st.Attempt() != want {
			t.Errorf("attempt %d is shown while try %d is lost", st.Attempt(), want)
		}
	}
	if fmt.Sprint(attempts) != "[1 2 3 1 2]" {
		t.Errorf("attempts %v, want 3 of Do and 2 of Undo", attempts)
	}
	if st := status(); st.Attempt() != 2 || st.Lost != 1 {
		t.Errorf("stuck at attempt %d, %d lost; want 2, 1", st.Attempt(), st.Lost)
	}
	attempts = nil
	if _, err := b.executor().Resume(t.Context(), "op-1", "ann"); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(attempts) != "[1]" {
		t.Errorf("attempts after the resume: %v, want 1", attempts)
	}
}

// TestPausesAreCallsOfTheirOwn: what is around an executor's calls is around the pauses between tries, too.
func TestPausesAreCallsOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var seen []string
	b.opts = []saga.Option{saga.WithWaitCeiling(time.Millisecond), saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if c.Action != saga.Writing {
			seen = append(seen, fmt.Sprintf("%s %s %d", c.Action, c.Step.Name, c.Attempt))
		}
		return next(ctx)
	})}
	s := b.step("a")
	s.Do = func(_ context.Context, run saga.Run, _ *state) error {
		if run.Attempt == 1 {
			return errFault
		}
		return saga.Permanent(errFault)
	}
	if _, err := b.exec(define(s)); !errors.Is(err, saga.ErrUndone) {
		t.Errorf("Exec = %v, want ErrUndone", err)
	}
	if got := fmt.Sprint(seen); got != "[do a 1 wait a 1 do a 2 undo a 1]" {
		t.Errorf("calls %s", got)
	}
}
