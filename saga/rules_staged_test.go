package saga_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/scoria-storage/scoria/saga"
)

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
