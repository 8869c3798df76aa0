package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scoria-storage/scoria/saga"
)

// The tests of the nine rules in the package's doc. Time is the bubble's: waits cost nothing.

type state struct {
	Names []string `msgpack:"names"`
}

// bench records what the steps of a saga do.
type bench struct {
	t       *testing.T
	journal *saga.Memory
	reg     saga.Registry
	mu      sync.Mutex
	calls   []string
	events  []saga.Event
	faults  map[string][]error // by call, such as "do a": the errors of the first calls; nil: works
	opts    []saga.Option
}

func newBench(t *testing.T) *bench {
	return &bench{t: t, journal: saga.NewMemory(), faults: make(map[string][]error)}
}

// called notes a call and returns its fault.
func (b *bench) called(what string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, what)
	if f := b.faults[what]; len(f) > 0 {
		b.faults[what] = f[1:]
		return f[0]
	}
	return nil
}

// step adds its name to the state.
func (b *bench) step(name string) saga.Step[state] {
	return saga.Step[state]{
		Name: name,
		Do: func(_ context.Context, _ saga.Run, s *state) error {
			s.Names = append(s.Names, name)
			return b.called("do " + name)
		},
		Undo: func(context.Context, saga.Run, state) error { return b.called("undo " + name) },
	}
}

func (b *bench) pivot(name string) saga.Step[state] {
	s := b.step(name)
	s.Undo, s.Pivot = nil, true
	return s
}

func (b *bench) past(name string) saga.Step[state] {
	s := b.step(name)
	s.Undo = nil
	return s
}

func define(steps ...saga.Step[state]) saga.Definition[state] {
	return saga.Definition[state]{Name: "test", Version: 1, Steps: steps}
}

// executor is a new worker.
func (b *bench) executor() *saga.Executor {
	return saga.New(b.journal, &b.reg, append(b.opts, saga.WithObserver(func(ev saga.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, ev)
	}))...)
}

func (b *bench) exec(def saga.Definition[state]) (saga.Result[state], error) {
	return saga.Exec(b.t.Context(), b.executor(), def, "op-1", state{})
}

func (b *bench) wantCalls(want ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.calls, want) {
		b.t.Errorf("calls were %q, want %q", b.calls, want)
	}
}

func (b *bench) saw(kind saga.EventKind) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, ev := range b.events {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}

// crashAt makes the first call of the kind, for the step, the last thing that the worker does.
func crashAt(action saga.Action, step string, after bool) saga.Option {
	fired := false
	return saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if fired || c.Action != action || c.Step.Name != step {
			return next(ctx)
		}
		fired = true
		if after {
			if err := next(ctx); err != nil {
				return err
			}
		}
		return saga.Leave(errCrash)
	})
}

var (
	errCrash = errors.New("crash")
	errFault = errors.New("fault")
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

// Rule 5.
func TestStagedWritesAreCommittedWithTheirCompletionOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		opt  saga.Option
	}{
		{"no fault", nil},
		{"crash after Do", crashAt(saga.Doing, "a", true)},
		{"crash before the journal write", crashAt(saga.Writing, "a", false)},
		{"crash after the journal write", crashAt(saga.Writing, "a", true)},
		{"crash before the end", crashAt(saga.Writing, "b", false)},
		{"crash after the end", crashAt(saga.Writing, "b", true)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			counts := make(map[string]int)
			count := func(run saga.Run, what string) {
				run.Stage(saga.MemoryWrite{Apply: func() { counts[what]++ }})
			}
			a := b.step("a")
			a.Do = func(_ context.Context, run saga.Run, _ *state) error { count(run, "a"); return nil }
			def := define(a, b.step("b"))
			def.Done = func(run saga.Run, _ state) error { count(run, "end"); return nil }
			if c.opt != nil {
				b.opts = []saga.Option{c.opt}
				if _, err := b.exec(def); !errors.Is(err, errCrash) {
					t.Fatalf("Exec = %v, want the crash", err)
				}
				b.opts = nil
			}
			if _, err := b.exec(def); err != nil {
				t.Fatal(err)
			}
			if counts["a"] != 1 || counts["end"] != 1 {
				t.Errorf("writes were committed so often: %v, want each once", counts)
			}
		})
	}
}

// Rule 5, for undo and the hook at the undone end.
func TestStagedWritesOfUndoAreCommittedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	counts := make(map[string]int)
	a := b.step("a")
	a.Undo = func(_ context.Context, run saga.Run, _ state) error {
		run.Stage(saga.MemoryWrite{Apply: func() { counts["undo a"]++ }})
		return nil
	}
	b.faults["do b"] = []error{saga.Permanent(saga.Coded("no-space", errFault))}
	def := define(a, b.step("b"))
	var cause error
	def.Undone = func(run saga.Run, s state, c error) error {
		cause = c
		run.Stage(saga.MemoryWrite{Apply: func() { counts["end after "+strings.Join(s.Names, " ")]++ }})
		return nil
	}
	b.opts = []saga.Option{crashAt(saga.Writing, "a", false)} // of its completion
	if _, err := b.exec(def); !errors.Is(err, errCrash) {
		t.Fatalf("Exec = %v, want the crash", err)
	}
	b.opts = []saga.Option{crashAt(saga.Reverting, "a", true)}
	if _, err := b.exec(def); !errors.Is(err, errCrash) {
		t.Fatalf("Exec = %v, want the crash", err)
	}
	b.opts = nil
	if _, err := b.exec(def); !errors.Is(err, saga.ErrUndone) {
		t.Fatalf("Exec = %v, want ErrUndone", err)
	}
	if counts["undo a"] != 1 || counts["end after a"] != 1 || len(counts) != 2 {
		t.Errorf("writes were committed so often: %v, want undo a and the end once", counts)
	}
	c := (*saga.Cause)(nil)
	if !errors.As(cause, &c) || c.Code != "no-space" || c.Step != "b" || c.Message != "fault" {
		t.Errorf("after a crash, the hook's cause is %+v, want step b, code no-space, fault", c)
	}
}

// Rule 5: a write that refuses is the result of its step.
func TestRefusalOfAStagedWriteIsTheStepsFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name  string
			err   error
			calls []string
		}{
			{"for now", errFault, []string{"do a", "do b", "do b"}},
			{"for good", saga.Permanent(errFault), []string{"do a", "do b", "undo b", "undo a"}},
		} {
			b := newBench(t)
			refused := false
			s := b.step("b")
			do := s.Do
			s.Do = func(ctx context.Context, run saga.Run, st *state) error {
				run.Stage(saga.MemoryWrite{Refuse: func() error {
					if refused {
						return nil
					}
					refused = true
					return c.err
				}})
				return do(ctx, run, st)
			}
			_, err := b.exec(define(b.step("a"), s))
			if saga.IsPermanent(c.err) != errors.Is(err, saga.ErrUndone) {
				t.Errorf("refused %s: Exec = %v", c.name, err)
			}
			b.wantCalls(c.calls...)
		}
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
