package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/scoria-storage/scoria/saga"
)

// submitted is a run as an API node leaves it: known, and nothing journalled.
func submitted(t *testing.T, b *bench, def saga.Definition[state]) func(opts ...saga.Option) (saga.Status, error) {
	t.Helper()
	saga.MustRegister(&b.reg, def)
	if err := b.journal.Begin(t.Context(), "op-1", saga.Entry{Phase: saga.Pending}); err != nil {
		t.Fatal(err)
	}
	return func(opts ...saga.Option) (saga.Status, error) {
		log, err := b.journal.TakeOver(t.Context(), "op-1")
		if err != nil {
			t.Fatal(err)
		}
		b.opts = opts
		return b.executor().Run(t.Context(), log, def.Name, 0, state{})
	}
}

// Rule 2, where the crash came before anything was journalled.
func TestUndoRunsForAFirstStepThatMayHaveBegun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	work := submitted(t, b, define(b.step("a"), b.step("b")))
	if _, err := work(crashAt(saga.Doing, "a", true)); !errors.Is(err, errCrash) {
		t.Fatalf("Run = %v, want the crash", err)
	}
	if err := b.journal.Cancel(t.Context(), "op-1", "ann"); err != nil {
		t.Fatal(err)
	}
	if st, err := work(); err != nil || st.Phase != saga.Undone {
		t.Errorf("Run = %s, %v; want undone", st.Phase, err)
	}
	b.wantCalls("do a", "undo a")
}

// Whoever says that the worker was overtaken, or leaves the run, nothing is written.
func TestFencedOrLeftAnywhereWritesNothing(t *testing.T) {
	t.Parallel()
	for _, end := range []error{fmt.Errorf("backend: %w", saga.ErrFenced), saga.Leave(errCrash)} {
		for _, where := range []string{"do", "staged write", "done hook", "undo", "undo's staged write", "undone hook"} {
			b := newBench(t)
			fail := func(at string) error {
				if at == where {
					return end
				}
				return nil
			}
			refuse := func(run saga.Run, at string) {
				run.Stage(saga.MemoryWrite{Refuse: func() error { return fail(at) }})
			}
			a := saga.Step[state]{Name: "a",
				Do: func(_ context.Context, run saga.Run, _ *state) error {
					refuse(run, "staged write")
					return fail("do")
				},
				Undo: func(_ context.Context, run saga.Run, _ state) error {
					refuse(run, "undo's staged write")
					return fail("undo")
				},
			}
			def := define(a)
			def.Done = func(saga.Run, state) error {
				if slices.Contains([]string{"undo", "undo's staged write", "undone hook"}, where) {
					return saga.Permanent(errFault)
				}
				return fail("done hook")
			}
			def.Undone = func(saga.Run, state, error) error { return fail("undone hook") }
			before := 0 // of the turn
			if strings.HasPrefix(where, "undo") {
				before = 1
			}
			_, err := b.exec(def)
			if !errors.Is(err, saga.ErrFenced) && !errors.Is(err, saga.ErrLeft) {
				t.Errorf("%v said by the %s: Exec = %v", end, where, err)
			}
			if n := b.journal.Appends(); n != before {
				t.Errorf("%v said by the %s: %d writes, want %d", end, where, n, before)
			}
		}
	}
}

// What a call staged before it was repeated is not committed twice.
func TestRepeatedCallStagesOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	counts := make(map[string]int)
	count := func(run saga.Run, what string) {
		run.Stage(saga.MemoryWrite{Apply: func() { counts[what]++ }})
	}
	s := saga.Step[state]{Name: "a",
		Do:   func(_ context.Context, run saga.Run, _ *state) error { count(run, "do"); return nil },
		Undo: func(_ context.Context, run saga.Run, _ state) error { count(run, "undo"); return nil },
	}
	b.faults["do b"] = []error{saga.Permanent(errFault)}
	b.opts = []saga.Option{saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if c.Step.Name != "a" || c.Action == saga.Writing {
			return next(ctx)
		}
		if err := next(ctx); err != nil {
			return err
		}
		return next(ctx)
	})}
	if _, err := b.exec(define(s, b.step("b"))); !errors.Is(err, saga.ErrUndone) {
		t.Fatalf("Exec = %v, want ErrUndone", err)
	}
	if counts["do"] != 1 || counts["undo"] != 1 {
		t.Errorf("writes were committed so often: %v, want each once", counts)
	}
}

func TestUndoIsTriedToItsLimitAndThenStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.faults["do a"] = []error{errFault, errFault, saga.Permanent(errFault)}
		var attempts []int
		s := b.step("a")
		s.UndoRetry.Max = 4
		s.Undo = func(_ context.Context, run saga.Run, _ state) error {
			attempts = append(attempts, run.Attempt)
			return errFault
		}
		res, err := b.exec(define(s))
		if !errors.Is(err, saga.ErrStuck) || res.Status.Tried != 4 {
			t.Errorf("Exec = %v, tried %d; want stuck after 4", err, res.Status.Tried)
		}
		if !slices.Equal(attempts, []int{1, 2, 3, 4}) {
			t.Errorf("attempts of the undo were %v, want 1 to 4", attempts)
		}
	})
}

func TestReplayOfAStepWithIntentTellsThatItMayHaveBegun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var again []bool
	p := b.pivot("a")
	p.Intent = true
	p.Do = func(_ context.Context, run saga.Run, _ *state) error { again = append(again, run.Again); return nil }
	b.faults["do b"] = []error{saga.Permanent(errFault)}
	def := define(p, b.past("b"))
	saga.MustRegister(&b.reg, def)
	if _, err := b.exec(def); !errors.Is(err, saga.ErrStuck) {
		t.Fatalf("Exec = %v, want ErrStuck", err)
	}
	if st, err := b.executor().Replay(t.Context(), "op-1", "a", "ann"); err != nil || st.Phase != saga.Done {
		t.Errorf("Replay = %s, %v; want done", st.Phase, err)
	}
	if fmt.Sprint(again) != "[false true]" {
		t.Errorf("Run.Again was %v, want false, then true", again)
	}
}

func TestStuckEndIsTriedAgainAfterResume(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	def := define(b.step("a"))
	ok := false
	def.Undone = func(saga.Run, state, error) error {
		if !ok {
			return saga.Permanent(errFault)
		}
		return nil
	}
	work := submitted(t, b, def)
	if err := b.journal.Cancel(t.Context(), "op-1", "ann"); err != nil { // nothing begins: the end alone is left
		t.Fatal(err)
	}
	if st, err := work(); err != nil || st.Phase != saga.Stuck {
		t.Errorf("Run = %s, %v; want stuck", st.Phase, err)
	}
	ok = true
	if st, err := b.executor().Resume(t.Context(), "op-1", "ann"); err != nil || st.Phase != saga.Undone {
		t.Errorf("Resume = %s, %v; want undone", st.Phase, err)
	}
	b.wantCalls()
}
