package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scoria-storage/scoria/saga"
)

// Rule 1.
func TestDoAndUndoRunAgainAfterACrash(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	def := define(b.step("a"), b.step("b"))
	b.opts = []saga.Option{crashAt(saga.Doing, "a", true)}
	if _, err := b.exec(def); !errors.Is(err, errCrash) {
		t.Fatalf("Exec = %v, want the crash", err)
	}
	b.faults["do b"] = []error{saga.Permanent(errFault)}
	b.opts = []saga.Option{crashAt(saga.Reverting, "a", true)}
	if _, err := b.exec(def); !errors.Is(err, errCrash) {
		t.Fatalf("Exec = %v, want the crash", err)
	}
	b.opts = nil
	if _, err := b.exec(def); !errors.Is(err, saga.ErrUndone) {
		t.Fatalf("Exec = %v, want ErrUndone", err)
	}
	b.wantCalls("do a", "do a", "do b", "undo b", "undo a", "undo a")
}

// Rule 2.
func TestUndoRunsForEveryStepThatBeganLastFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.faults["do c"] = []error{saga.Permanent(errFault)}
	res, err := b.exec(define(b.step("a"), b.step("b"), b.step("c"), b.step("d")))
	var undone *saga.UndoneError
	if !errors.As(err, &undone) || undone.Cause.Step != "c" || undone.Cause.Message != "fault" {
		t.Errorf("Exec = %v, want an UndoneError that names step c and its fault", err)
	}
	if res.Status.Phase != saga.Undone {
		t.Errorf("phase %s, want undone", res.Status.Phase)
	}
	b.wantCalls("do a", "do b", "do c", "undo c", "undo b", "undo a")
}

// Rule 2, after a crash: whether Do of step b began, nobody knows.
func TestUndoRunsForAStepThatAnEarlierWorkerMayHaveBegun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	def := define(b.step("a"), b.step("b"))
	b.opts = []saga.Option{crashAt(saga.Doing, "b", false)}
	if _, err := b.exec(def); !errors.Is(err, errCrash) {
		t.Fatalf("Exec = %v, want the crash", err)
	}
	if err := b.executor().Cancel(t.Context(), "op-1", "ann"); err != nil {
		t.Fatal(err)
	}
	b.opts = nil
	if _, err := b.exec(def); !errors.Is(err, saga.ErrCanceled) {
		t.Errorf("Exec = %v, want ErrCanceled", err)
	}
	b.wantCalls("do a", "undo b", "undo a")
}

// Rule 3.
func TestWhatAFailedDoWroteIsThrownAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.faults["do b"] = []error{errFault, errFault}
		var staged []int
		a := b.step("a")
		tries := 0
		a.Do = func(_ context.Context, run saga.Run, s *state) error {
			tries++
			n := tries
			run.Stage(saga.MemoryWrite{Apply: func() { staged = append(staged, n) }})
			s.Names = append(s.Names, fmt.Sprint(n))
			if n < 3 {
				return errFault
			}
			return nil
		}
		res, err := b.exec(define(a, b.step("b")))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(res.State.Names, " "); got != "3 b" {
			t.Errorf("state %q, want %q", got, "3 b")
		}
		if !slices.Equal(staged, []int{3}) {
			t.Errorf("staged writes of tries %v were committed, want those of try 3", staged)
		}
	})
}

// Rule 4.
func TestAfterThePivotNothingIsUndone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.faults["do c"] = slices.Repeat([]error{errFault}, 3*saga.DefaultTries)
		def := define(b.step("a"), b.pivot("b"), b.past("c"))
		if _, err := b.exec(def); err != nil {
			t.Errorf("Exec = %v: a step past the pivot is tried until it succeeds", err)
		}

		b = newBench(t)
		b.faults["do c"] = []error{saga.Permanent(errFault)}
		def = define(b.step("a"), b.pivot("b"), b.past("c"))
		_, err := b.exec(def)
		var stuck *saga.StuckError
		if !errors.As(err, &stuck) || stuck.Step != "c" || stuck.Cause.Message != "fault" {
			t.Errorf("Exec = %v, want a StuckError that names step c and its fault", err)
		}
		if err := b.executor().Cancel(t.Context(), "op-1", "ann"); !errors.Is(err, saga.ErrPivot) {
			t.Errorf("Cancel past the pivot = %v, want ErrPivot", err)
		}
		// A request that is in the journal all the same, because it crossed with the pivot, undoes nothing.
		if err := b.journal.Cancel(t.Context(), "op-1", "ann"); err != nil {
			t.Fatal(err)
		}
		saga.MustRegister(&b.reg, def)
		st, err := b.executor().Resume(t.Context(), "op-1", "bob")
		if err != nil || st.Phase != saga.Done {
			t.Errorf("Resume = %s, %v; want done", st.Phase, err)
		}
		b.wantCalls("do a", "do b", "do c", "do c")
	})
}

// Rule 6.
func TestUnknownIsAskedAgainAndNeverUndoneBlindly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := saga.Unknown(errFault)
		for _, c := range []struct {
			name   string
			faults []error
			cancel bool
			want   saga.Phase
			calls  []string
		}{
			{"then it works", []error{u, nil}, false, saga.Done, []string{"do a", "do b", "do b"}},
			{"then it has failed for good", []error{u, saga.Permanent(errFault)}, false, saga.Undone, []string{"do a", "do b", "do b", "undo b", "undo a"}},
			{"a plain failure leaves it unknown", []error{u, errFault, errFault}, false, saga.Stuck, []string{"do a", "do b", "do b", "do b"}},
			{"to the end", []error{u, u, u}, false, saga.Stuck, []string{"do a", "do b", "do b", "do b"}},
			{"and permanent is unknown", []error{saga.Permanent(u), u, u}, false, saga.Stuck, []string{"do a", "do b", "do b", "do b"}},
			{"a cancel request waits for the answer", []error{u, u, nil}, true, saga.Undone, []string{"do a", "do b", "do b", "do b", "undo b", "undo a"}},
		} {
			b := newBench(t)
			b.faults["do b"] = c.faults
			s := b.step("b")
			s.Retry.Max = 3
			do := s.Do
			s.Do = func(ctx context.Context, run saga.Run, st *state) error {
				if c.cancel && run.Attempt == 1 {
					if err := b.journal.Cancel(ctx, run.ID, "ann"); err != nil {
						return err
					}
				}
				return do(ctx, run, st)
			}
			res, _ := b.exec(define(b.step("a"), s))
			if res.Status.Phase != c.want {
				t.Errorf("unknown, %s: phase %s, want %s", c.name, res.Status.Phase, c.want)
			}
			b.wantCalls(c.calls...)
		}
	})
}

// Rule 6, with a function that finds out.
func TestUnknownIsChecked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name   string
			took   bool
			checks []error
			calls  []string
			want   saga.Phase
		}{
			{"it took effect", true, nil, []string{"do a", "check a"}, saga.Done},
			{"it did not", false, nil, []string{"do a", "check a", "do a"}, saga.Done},
			{"known at the second look", true, []error{errFault}, []string{"do a", "check a", "check a"}, saga.Done},
			{"never known", true, []error{saga.Permanent(errFault), errFault, errFault, errFault}, []string{"do a", "check a", "check a", "check a", "check a"}, saga.Stuck},
		} {
			b := newBench(t)
			b.faults["do a"] = []error{saga.Unknown(errFault)}
			b.faults["check a"] = c.checks
			s := b.step("a")
			s.Check = func(_ context.Context, _ saga.Run, st *state) (bool, error) {
				st.Names = append(st.Names, "a")
				return c.took, b.called("check a")
			}
			res, _ := b.exec(define(s))
			if res.Status.Phase != c.want {
				t.Errorf("%s: phase %s, want %s", c.name, res.Status.Phase, c.want)
			}
			if c.want == saga.Done && len(res.State.Names) != 1 {
				t.Errorf("%s: state %v, want the name once", c.name, res.State.Names)
			}
			b.wantCalls(c.calls...)
		}
	})
}

// Rule 6: a crash leaves a pivot without Undo unknown, and so does its time-out.
func TestPivotWithoutUndoIsAskedBeforeACancelIsHeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		def := define(b.step("a"), b.pivot("b"), b.past("c"))
		b.opts = []saga.Option{crashAt(saga.Doing, "b", true)}
		if _, err := b.exec(def); !errors.Is(err, errCrash) {
			t.Fatalf("Exec = %v, want the crash", err)
		}
		if err := b.executor().Cancel(t.Context(), "op-1", "ann"); err != nil {
			t.Fatal(err)
		}
		b.opts = nil
		if res, err := b.exec(def); err != nil {
			t.Errorf("Exec = %s, %v; want done", res.Status.Phase, err)
		}
		b.wantCalls("do a", "do b", "do b", "do c")

		b = newBench(t)
		p := b.pivot("b")
		p.Timeout, p.Retry.Max = time.Second, 2
		p.Do = func(ctx context.Context, _ saga.Run, _ *state) error { <-ctx.Done(); return ctx.Err() }
		res, err := b.exec(define(b.step("a"), p))
		if !errors.Is(err, saga.ErrStuck) || !res.Status.Unknown {
			t.Errorf("Exec with a pivot that times out = %v, unknown %v; want stuck and unknown", err, res.Status.Unknown)
		}
		b.wantCalls("do a")
	})
}

// Rule 4: a pivot that happened is not undone because its completion cannot be committed.
func TestPivotWhoseCompletionIsRefusedIsNotUndone(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"staged write", "hook"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			p := b.pivot("b")
			do := p.Do
			p.Do = func(ctx context.Context, run saga.Run, s *state) error {
				if by == "staged write" {
					run.Stage(saga.MemoryWrite{Refuse: func() error { return saga.Permanent(errFault) }})
				}
				return do(ctx, run, s)
			}
			p.Retry.Max = 2
			def := define(b.step("a"), p)
			if by == "hook" {
				def.Done = func(saga.Run, state) error { return saga.Permanent(errFault) }
			}
			if _, err := b.exec(def); !errors.Is(err, saga.ErrStuck) {
				t.Errorf("refused by a %s: Exec = %v, want stuck", by, err)
			}
			b.wantCalls("do a", "do b", "do b")
		})
	}
}

// Rule 7.
func TestEndOfContextStopsAndUndoesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the process is told to stop")
		s := b.step("b")
		do := s.Do
		s.Do = func(ctx context.Context, run saga.Run, st *state) error {
			if run.Epoch > 1 {
				return do(ctx, run, st)
			}
			cancel(why)
			return saga.Permanent(errors.New("a helper was killed"))
		}
		def := define(b.step("a"), s)
		res, err := saga.Exec(ctx, b.executor(), def, "op-1", state{})
		if !errors.Is(err, why) || res.Status.Phase != saga.Running {
			t.Errorf("Exec = %s, %v; want running and the cause", res.Status.Phase, err)
		}
		if res, err := b.exec(def); err != nil {
			t.Errorf("Exec again = %s, %v; want done", res.Status.Phase, err)
		}
		b.wantCalls("do a", "do b")
	})
}

// Rule 7: a step that succeeds while its context ends is not done again.
func TestSuccessIsJournalledAlthoughTheContextEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	a := b.step("a")
	do := a.Do
	a.Do = func(ctx context.Context, run saga.Run, s *state) error { cancel(); return do(ctx, run, s) }
	def := define(a, b.step("b"))
	if _, err := saga.Exec(ctx, b.executor(), def, "op-1", state{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Exec = %v, want context.Canceled", err)
	}
	if _, err := b.exec(def); err != nil {
		t.Fatal(err)
	}
	b.wantCalls("do a", "do b")
}

// Rule 7.
func TestCancelBeforeThePivotUndoes(t *testing.T) {
	t.Parallel()
	for _, during := range []string{"a", "b", "c"} {
		b := newBench(t)
		steps := []saga.Step[state]{b.step("a"), b.step("b"), b.step("c")}
		for i := range steps {
			do := steps[i].Do
			steps[i].Do = func(ctx context.Context, run saga.Run, s *state) error {
				if run.Step == during {
					if err := b.journal.Cancel(ctx, run.ID, "ann"); err != nil {
						t.Error(err)
					}
				}
				return do(ctx, run, s)
			}
		}
		res, err := b.exec(define(steps...))
		if !errors.Is(err, saga.ErrCanceled) || !errors.Is(err, saga.ErrUndone) || res.Status.Cancel == nil || res.Status.Cancel.Who != "ann" {
			t.Errorf("canceled during %s: Exec = %v, request %v; want undone, canceled, ann's", during, err, res.Status.Cancel)
		}
		want := map[string][]string{
			"a": {"do a", "undo a"}, "b": {"do a", "do b", "undo b", "undo a"}, "c": {"do a", "do b", "do c", "undo c", "undo b", "undo a"},
		}
		b.wantCalls(want[during]...)
	}
}

// Rule 7: nothing began.
func TestCancelBeforeTheFirstStepEndsInOneWrite(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	def := define(b.step("a"))
	saga.MustRegister(&b.reg, def)
	if err := b.journal.Begin(t.Context(), "op-1", saga.Entry{Phase: saga.Pending}); err != nil {
		t.Fatal(err)
	}
	if err := b.journal.Cancel(t.Context(), "op-1", "ann"); err != nil {
		t.Fatal(err)
	}
	log, err := b.journal.TakeOver(t.Context(), "op-1")
	if err != nil {
		t.Fatal(err)
	}
	st, err := b.executor().Run(t.Context(), log, "test", 0, state{})
	if err != nil || st.Phase != saga.Undone {
		t.Errorf("Run = %s, %v; want undone", st.Phase, err)
	}
	b.wantCalls()
	if n := b.journal.Appends(); n != 1 {
		t.Errorf("%d journal writes, want 1", n)
	}
}

// Rule 8.
func TestMissingVersionParksTheRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	old := define(b.step("a"), b.step("b"))
	b.opts = []saga.Option{crashAt(saga.Doing, "b", false)}
	if _, err := b.exec(old); !errors.Is(err, errCrash) {
		t.Fatalf("Exec = %v, want the crash", err)
	}
	b.opts = nil
	next := define(b.step("a"), b.step("x"))
	next.Version = 2
	writes := b.journal.Appends()
	if _, err := b.exec(next); !errors.Is(err, saga.ErrParked) || !strings.Contains(err.Error(), "test version 1") {
		t.Errorf("Exec where version 1 is missing = %v, want ErrParked that names it", err)
	}
	if b.saw(saga.RunParked) != 1 || b.journal.Appends() != writes {
		t.Errorf("%d parked events, %d writes; want 1 and none", b.saw(saga.RunParked), b.journal.Appends()-writes)
	}
	saga.MustRegister(&b.reg, old) // a node that has it
	if _, err := b.exec(next); err != nil {
		t.Errorf("Exec where version 1 is registered = %v", err)
	}
	b.wantCalls("do a", "do b")
}

// Rule 8: the number says what the definition is. One that changed without it parks, too.
func TestChangedShapeParksTheRun(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]func(b *bench) saga.Definition[state]{
		"a step was renamed": func(b *bench) saga.Definition[state] { return define(b.step("a"), b.step("x")) },
		"a step was added":   func(b *bench) saga.Definition[state] { return define(b.step("a"), b.step("b"), b.step("c")) },
	} {
		b := newBench(t)
		b.opts = []saga.Option{crashAt(saga.Doing, "b", false)}
		if _, err := b.exec(define(b.step("a"), b.step("b"))); !errors.Is(err, errCrash) {
			t.Fatalf("Exec = %v, want the crash", err)
		}
		b.opts = nil
		if _, err := b.exec(changed(b)); !errors.Is(err, saga.ErrParked) {
			t.Errorf("%s: Exec = %v, want ErrParked", name, err)
		}
		b.wantCalls("do a")
	}
}

// Rule 9.
func TestStuckIsAPhaseWithAnEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.faults["do b"] = []error{saga.Permanent(errFault)}
		b.faults["undo a"] = []error{saga.Permanent(errors.New("the shelf is locked"))}
		def := define(b.step("a"), b.step("b"))
		_, err := b.exec(def)
		var stuck *saga.StuckError
		if !errors.As(err, &stuck) || stuck.Step != "a" || !strings.Contains(stuck.Cause.Message, "shelf") {
			t.Errorf("Exec = %v, want a StuckError that names step a and why", err)
		}
		st, err := b.executor().Inspect(t.Context(), "op-1")
		if err != nil || st.Phase != saga.Stuck || st.From != saga.Undoing || st.Step != "a" || st.Cause.Step != "b" {
			t.Errorf("Inspect = %+v, %v; want stuck while undoing at a because of b", st, err)
		}
		if n := b.saw(saga.RunStuck); n != 1 {
			t.Errorf("%d stuck events, want 1", n)
		}
		// It stays so until a person asks.
		if _, err := b.exec(def); !errors.Is(err, saga.ErrStuck) {
			t.Errorf("Exec again = %v, want ErrStuck", err)
		}
		saga.MustRegister(&b.reg, def)
		st, err = b.executor().Resume(t.Context(), "op-1", "ann")
		if err != nil || st.Phase != saga.Undone {
			t.Errorf("Resume = %s, %v; want undone", st.Phase, err)
		}
		b.wantCalls("do a", "do b", "undo b", "undo a", "undo a")
	})
}
