package saga_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/scoria-storage/scoria/saga"
)

func TestRunOfKStepsCostsKWrites(t *testing.T) {
	t.Parallel()
	for k := 1; k <= 5; k++ {
		b := newBench(t)
		var steps []saga.Step[state]
		for i := range k {
			steps = append(steps, b.step(fmt.Sprint("s", i)))
		}
		if _, err := b.exec(define(steps...)); err != nil {
			t.Fatal(err)
		}
		if n := b.journal.Appends(); n != k {
			t.Errorf("%d steps cost %d writes", k, n)
		}
	}
}

func TestUndoCostsOneWriteForEachStepThatChangedSomething(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	pure := b.step("c")
	pure.Undo = saga.Nothing[state]
	b.faults["do e"] = []error{saga.Permanent(errFault)}
	_, err := b.exec(define(b.step("a"), b.step("b"), pure, b.step("d"), b.step("e")))
	if !errors.Is(err, saga.ErrUndone) {
		t.Fatalf("Exec = %v, want ErrUndone", err)
	}
	// a b c d done; turned; e d b undone; a undone with the end.
	if n := b.journal.Appends(); n != 4+1+3+1 {
		t.Errorf("%d writes, want 9", n)
	}
}

func TestFencedWorkerStopsAtOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		faults []error // of step b, so that the write that is fenced is one of a completion, a failure, a turn
		calls  []string
	}{
		{"at a completion", nil, []string{"do a", "do b"}},
		{"at a failed try", []error{errFault}, []string{"do a", "do b"}},
		{"at the turn", []error{saga.Permanent(errFault)}, []string{"do a", "do b"}},
		{"said by the step", []error{fmt.Errorf("backend: %w", saga.ErrFenced)}, []string{"do a", "do b"}},
	} {
		b := newBench(t)
		b.faults["do b"] = c.faults
		s := b.step("b")
		do := s.Do
		s.Do = func(ctx context.Context, run saga.Run, st *state) error {
			if _, err := b.journal.TakeOver(ctx, run.ID); err != nil {
				t.Error(err)
			}
			return do(ctx, run, st)
		}
		_, err := b.exec(define(b.step("a"), s, b.step("c")))
		if !errors.Is(err, saga.ErrFenced) {
			t.Errorf("%s: Exec = %v, want ErrFenced", c.name, err)
		}
		b.wantCalls(c.calls...)
		if b.saw(saga.RunFenced) != 1 || b.journal.Appends() != 1 {
			t.Errorf("%s: %d fenced events, %d writes; want 1 and 1", c.name, b.saw(saga.RunFenced), b.journal.Appends())
		}
	}
}

func TestFencedWhileUndoingStopsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.faults["do b"] = []error{saga.Permanent(errFault)}
	s := b.step("b")
	undo := s.Undo
	s.Undo = func(ctx context.Context, run saga.Run, st state) error {
		if _, err := b.journal.TakeOver(ctx, run.ID); err != nil {
			t.Error(err)
		}
		return undo(ctx, run, st)
	}
	if _, err := b.exec(define(b.step("a"), s)); !errors.Is(err, saga.ErrFenced) {
		t.Errorf("Exec = %v, want ErrFenced", err)
	}
	b.wantCalls("do a", "do b", "undo b")
}

func TestLeaveStopsDrivingAndWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	away := errors.New("node-2 has the image")
	b.faults["do b"] = []error{saga.Leave(away)}
	def := define(b.step("a"), b.step("b"))
	if _, err := b.exec(def); !errors.Is(err, saga.ErrLeft) || !errors.Is(err, away) {
		t.Errorf("Exec = %v, want ErrLeft with the reason", err)
	}
	if n := b.journal.Appends(); n != 1 {
		t.Errorf("%d writes, want 1: of step a", n)
	}
	if _, err := b.exec(def); err != nil {
		t.Errorf("Exec again = %v", err)
	}
	b.wantCalls("do a", "do b", "do b")
}

func TestExecIsIdempotentByID(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	def := define(b.step("a"))
	for i := range 3 {
		res, err := saga.Exec(t.Context(), b.executor(), def, "op-1", state{Names: []string{fmt.Sprint(i)}})
		if err != nil || strings.Join(res.State.Names, " ") != "0 a" {
			t.Errorf("Exec number %d = %v, %v; want the first one's state", i+1, res.State.Names, err)
		}
	}
	b.wantCalls("do a")
}

func TestRunOfWhichNothingWasJournalledNeedsItsInput(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	def := define(b.step("a"))
	saga.MustRegister(&b.reg, def)
	if err := b.journal.Begin(t.Context(), "op-1", saga.Entry{Phase: saga.Pending}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.executor().Resume(t.Context(), "op-1", "ann"); !errors.Is(err, saga.ErrParked) {
		t.Errorf("Resume = %v, want ErrParked", err)
	}
	res, err := saga.Exec(t.Context(), b.executor(), def, "op-1", state{Names: []string{"x"}})
	if err != nil || strings.Join(res.State.Names, " ") != "x a" {
		t.Errorf("Exec = %v, %v; want the input's state and a", res.State.Names, err)
	}
}

func TestConcurrentExecOfOneIDRunsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := b.step("a")
		do := s.Do
		s.Do = func(ctx context.Context, run saga.Run, st *state) error {
			<-time.After(time.Second) // so that all others come meanwhile
			return do(ctx, run, st)
		}
		e := b.executor()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if res, err := saga.Exec(t.Context(), e, define(s), "op-1", state{}); err != nil || len(res.State.Names) != 1 {
					t.Errorf("Exec = %v, %v", res.State.Names, err)
				}
			})
		}
		all.Wait()
		b.wantCalls("do a")
	})
}

func TestRecordIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := b.step("a")
		s.Retry.Max = saga.Forever
		n := 0
		s.Do = func(context.Context, saga.Run, *state) error {
			if n++; n <= 100 {
				return errors.New(fmt.Sprint(n) + strings.Repeat("ü\xff", 5000))
			}
			return nil
		}
		res, err := b.exec(define(s))
		if err != nil {
			t.Fatal(err)
		}
		st := res.Status
		if st.Failed != 100 || len(st.Last) != saga.MaxAttempts {
			t.Errorf("%d failures, the last %d kept; want 100 and %d", st.Failed, len(st.Last), saga.MaxAttempts)
		}
		for i, a := range st.Last {
			if want := 100 - saga.MaxAttempts + 1 + i; a.N != want || !strings.HasPrefix(a.Message, fmt.Sprint(want)) {
				t.Errorf("kept failure %d is number %d, want %d", i, a.N, want)
			}
			if len(a.Message) > saga.MaxError || !utf8.ValidString(a.Message) || a.At.IsZero() {
				t.Errorf("kept failure %d has %d bytes, valid %v, time %v", i, len(a.Message), utf8.ValidString(a.Message), a.At)
			}
		}
	})
}

func TestStateIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	big := strings.Repeat("x", saga.MaxState)
	if _, err := saga.Exec(t.Context(), b.executor(), define(b.step("a")), "op-0", state{Names: []string{big}}); err == nil {
		t.Error("Exec with an input above the bound = nil")
	}
	b.wantCalls()
	s := b.step("b")
	s.Do = func(_ context.Context, _ saga.Run, s *state) error { s.Names = append(s.Names, big); return nil }
	_, err := b.exec(define(b.step("a"), s))
	if !errors.Is(err, saga.ErrUndone) || !strings.Contains(err.Error(), fmt.Sprint(saga.MaxState)) {
		t.Errorf("Exec of a step that writes a state above the bound = %v, want undone with the bound named", err)
	}
	b.wantCalls("do a", "undo b", "undo a")
}

func TestPanicInAStepIsItsFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var log bytes.Buffer
	b.opts = []saga.Option{saga.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))}
	s := b.step("b")
	s.Do = func(context.Context, saga.Run, *state) error { panic("index out of range") }
	_, err := b.exec(define(b.step("a"), s))
	if !errors.Is(err, saga.ErrUndone) || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("Exec = %v, want undone because of the panic", err)
	}
	b.wantCalls("do a", "undo b", "undo a")
	if s := log.String(); !strings.Contains(s, "executor_test.go") || !strings.Contains(s, "operation=op-1") {
		t.Errorf("the log lacks the stack or the operation: %s", s)
	}
}

func TestIntentIsJournalledBeforeDo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var again []bool
	s := b.step("b")
	s.Intent = true
	s.Do = func(ctx context.Context, run saga.Run, _ *state) error {
		again = append(again, run.Again)
		if h, err := b.journal.Load(ctx, run.ID); err != nil {
			t.Error(err)
		} else if st, err := h.Status(); err != nil || st.Step != "b" {
			t.Errorf("the record says %+v, %v", st, err)
		}
		return nil
	}
	def := define(b.step("a"), s, b.step("c"))
	// A crash before the intent is written: the step has certainly not begun.
	b.opts = []saga.Option{crashAt(saga.Writing, "b", false)}
	if _, err := b.exec(def); !errors.Is(err, errCrash) {
		t.Fatalf("Exec = %v, want the crash", err)
	}
	// A crash after Do: it may have.
	b.opts = []saga.Option{crashAt(saga.Doing, "b", true)}
	if _, err := b.exec(def); !errors.Is(err, errCrash) {
		t.Fatalf("Exec = %v, want the crash", err)
	}
	b.opts = nil
	if _, err := b.exec(def); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(again) != "[false true]" {
		t.Errorf("Run.Again was %v, want false, then true", again)
	}
	if n := b.journal.Appends(); n != 4 {
		t.Errorf("%d writes, want 4: three steps and one intent", n)
	}
}

func TestCancelBetweenIntentAndDoSparesTheStep(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.step("b")
	s.Intent = true
	b.opts = []saga.Option{saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if c.Action == saga.Writing && c.Step.Name == "b" && c.Phase == saga.Running {
			if err := b.journal.Cancel(ctx, c.ID, "ann"); err != nil {
				t.Error(err)
			}
		}
		return next(ctx)
	})}
	if _, err := b.exec(define(b.step("a"), s)); !errors.Is(err, saga.ErrCanceled) {
		t.Errorf("Exec = %v, want ErrCanceled", err)
	}
	b.wantCalls("do a", "undo a")
}

func TestReplayGoesForwardFromAnEarlierStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.faults["do c"] = []error{saga.Permanent(errFault)}
		def := define(b.step("a"), b.pivot("b"), b.past("c"))
		saga.MustRegister(&b.reg, def)
		if _, err := b.exec(def); !errors.Is(err, saga.ErrStuck) {
			t.Fatalf("Exec = %v, want ErrStuck", err)
		}
		if _, err := b.executor().Replay(t.Context(), "op-1", "x", "ann"); err == nil {
			t.Error("Replay of a step that is not there = nil")
		}
		if st, err := b.executor().Inspect(t.Context(), "op-1"); err != nil || st.Phase != saga.Stuck {
			t.Errorf("after a refused Replay the run is %s, %v; want stuck", st.Phase, err)
		}
		st, err := b.executor().Replay(t.Context(), "op-1", "a", "ann")
		if err != nil || st.Phase != saga.Done {
			t.Errorf("Replay = %s, %v; want done", st.Phase, err)
		}
		b.wantCalls("do a", "do b", "do c", "do a", "do b", "do c")
		if _, err := b.executor().Replay(t.Context(), "op-1", "a", "ann"); !errors.Is(err, saga.ErrNotStuck) {
			t.Errorf("Replay of an ended run = %v, want ErrNotStuck", err)
		}
	})
}

func TestReplayOfAStuckUndoGoesForward(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.faults["do c"] = []error{saga.Permanent(errFault)}
	b.faults["undo a"] = []error{saga.Permanent(errFault)}
	def := define(b.step("a"), b.step("b"), b.step("c"))
	saga.MustRegister(&b.reg, def)
	if _, err := b.exec(def); !errors.Is(err, saga.ErrStuck) {
		t.Fatalf("Exec = %v, want ErrStuck", err)
	}
	if _, err := b.executor().Replay(t.Context(), "op-1", "c", "ann"); err == nil {
		t.Error("Replay from a step whose predecessors were undone = nil")
	}
	if st, err := b.executor().Replay(t.Context(), "op-1", "b", "ann"); err != nil || st.Phase != saga.Done {
		t.Errorf("Replay = %s, %v; want done: step a is still there", st.Phase, err)
	}
	b.wantCalls("do a", "do b", "do c", "undo c", "undo b", "undo a", "do b", "do c")
}

func TestFailureOfTheEndHookIsTheLastStepsFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	def := define(b.step("a"), b.step("b"))
	def.Done = func(saga.Run, state) error { return saga.Permanent(errFault) }
	undone := 0
	def.Undone = func(saga.Run, state, error) error {
		if undone++; undone == 1 {
			return errFault
		}
		return nil
	}
	b.opts = []saga.Option{saga.WithWaitCeiling(time.Millisecond)}
	if _, err := b.exec(def); !errors.Is(err, saga.ErrUndone) {
		t.Errorf("Exec = %v, want ErrUndone", err)
	}
	b.wantCalls("do a", "do b", "undo b", "undo a", "undo a")
}

func TestProgressIsToldAtMostFourTimesASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := b.step("a")
		const blocks = 1000
		s.Do = func(_ context.Context, run saga.Run, _ *state) error {
			for i := int64(1); i <= blocks; i++ {
				<-time.After(10 * time.Millisecond)
				run.Progress(i, blocks, "blocks")
			}
			return nil
		}
		if _, err := b.exec(define(s)); err != nil {
			t.Fatal(err)
		}
		var last saga.Event
		for _, ev := range b.events {
			if ev.Kind == saga.Progressed {
				last = ev
			}
		}
		if n := b.saw(saga.Progressed); n < 30 || n > 42 || last.Done != blocks || last.Total != blocks || last.Unit != "blocks" || last.Step != "a" {
			t.Errorf("%d progress events in 10 s, the last %+v; want about 40, the last complete", n, last)
		}
	})
}

func TestRunTellsItsStepWhoItIs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.step("a")
	var got saga.Run
	s.Do = func(_ context.Context, run saga.Run, _ *state) error { got = run; return nil }
	if _, err := b.exec(define(s)); err != nil {
		t.Fatal(err)
	}
	if got.ID != "op-1" || got.Definition != "test" || got.Version != 1 || got.Step != "a" || got.Attempt != 1 || got.Again || got.Epoch != 1 || (got.Fence == saga.Fence{}) || got.Log == nil {
		t.Errorf("Run = %+v", got)
	}
}

func TestJournalFailureStopsTheRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	down := errors.New("no server")
	b.opts = []saga.Option{saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if c.Action == saga.Writing && c.Step.Name == "b" {
			return down
		}
		return next(ctx)
	})}
	def := define(b.step("a"), b.step("b"))
	if _, err := b.exec(def); !errors.Is(err, down) || errors.Is(err, saga.ErrUndone) {
		t.Errorf("Exec = %v, want the journal's error", err)
	}
	if b.saw(saga.RunPaused) != 1 {
		t.Errorf("%d paused events, want 1", b.saw(saga.RunPaused))
	}
	b.opts = nil
	if _, err := b.exec(def); err != nil {
		t.Errorf("Exec again = %v", err)
	}
	b.wantCalls("do a", "do b", "do b")
}

func TestManyRunsAtTheSameTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var did atomic.Int64
	s := saga.Step[state]{Name: "a", Undo: saga.Nothing[state],
		Do: func(context.Context, saga.Run, *state) error { did.Add(1); return nil }}
	e := b.executor()
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			if _, err := saga.Exec(t.Context(), e, define(s), saga.ID(fmt.Sprint("op-", i)), state{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if did.Load() != 200 {
		t.Errorf("%d steps ran, want 200", did.Load())
	}
}

func TestMarksKeepTheirErrors(t *testing.T) {
	t.Parallel()
	for _, mark := range []func(error) error{saga.Permanent, saga.Unknown, saga.Leave, func(err error) error { return saga.Coded("c", err) }} {
		if mark(nil) != nil {
			t.Error("a mark on nil is not nil")
		}
		if err := mark(errFault); !errors.Is(err, errFault) || err.Error() != "fault" {
			t.Errorf("a marked error is %v", err)
		}
	}
	for _, err := range []error{saga.Unknown(saga.Permanent(errFault)), saga.Permanent(saga.Unknown(errFault)), errors.Join(saga.Permanent(errFault), saga.Unknown(errFault))} {
		if !saga.IsUnknown(err) || saga.IsPermanent(err) {
			t.Errorf("Unknown does not outweigh Permanent in %#v", err)
		}
	}
}
