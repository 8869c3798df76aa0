package kvlocktest_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// failing is a test that notes its failure and ends as a real one does.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper()               {}
func (f *failing) Errorf(string, ...any) { f.failed = true }
func (f *failing) Fatalf(string, ...any) { f.FailNow() }
func (f *failing) FailNow()              { f.failed = true; runtime.Goexit() }

// fails says whether the function fails the test that it is given.
func fails(t *testing.T, fn func(t testing.TB)) bool {
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(f)
	}()
	<-done
	return f.failed
}

func TestRequireFunctionsFailWhenTheyShould(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	g, err := l.TryAcquire(t.Context(), "op-1", nil, kvlock.Exclusive("a"), kvlock.Shared("b"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		want bool
		fn   func(t testing.TB)
	}{
		{"all free", true, func(t testing.TB) { kvlocktest.RequireFree(t, l) }},
		{"a held key free", true, func(t testing.TB) { kvlocktest.RequireFree(t, l, "a") }},
		{"another key free", false, func(t testing.TB) { kvlocktest.RequireFree(t, l, "c") }},
		{"held", false, func(t testing.TB) { kvlocktest.RequireHeld(t, l, "op-1", g.Claims()...) }},
		{"held in another mode", true, func(t testing.TB) { kvlocktest.RequireHeld(t, l, "op-1", kvlock.Shared("a")) }},
		{"held by another", true, func(t testing.TB) { kvlocktest.RequireHeld(t, l, "op-2", kvlock.Exclusive("a")) }},
		{"sound", false, func(t testing.TB) { kvlocktest.RequireSound(t, l) }},
	} {
		if got := fails(t, c.fn); got != c.want {
			t.Errorf("%s: failed %v, want %v", c.name, got, c.want)
		}
	}
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if !fails(t, func(t testing.TB) { kvlocktest.RequireHeld(t, l, "op-1") }) {
		t.Error("an ended operation counts as holding")
	}
	if _, err := store.Update(t.Context(), nil, func(_ kvtx.Snapshot, tx *kvtx.Tx) error {
		tx.Put(kvlock.LockKey("c"), []byte("?"), 0)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !fails(t, func(t testing.TB) { kvlocktest.RequireSound(t, l) }) {
		t.Error("a broken record counts as sound")
	}
}

func TestAFaultMeetsTheNthExchangeOfItsKindOnce(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused by the server")
	for _, c := range []struct {
		fault    kvlocktest.Fault
		answer   error
		arrives  bool
		gaveUp   bool
		disturbs bool
	}{
		{kvlocktest.RequestLost, nil, false, false, true},
		{kvlocktest.AnswerLost, nil, true, false, true},
		{kvlocktest.AnswerLost, refused, true, false, false},
		{kvlocktest.GiveUpBefore, nil, false, true, true},
		{kvlocktest.GiveUpAfter, nil, true, true, true},
	} {
		var f kvlocktest.Faults
		arrived, gaveUp := 0, false
		do := func(kind kvtx.Kind) error {
			return f.Intercept(t.Context(), kvtx.Call{Kind: kind}, func(context.Context) error {
				arrived++
				return c.answer
			})
		}
		f.Arm(c.fault, 2, func() { gaveUp = true }, kvtx.Batch)
		for i, kind := range []kvtx.Kind{kvtx.Batch, kvtx.Read, kvtx.Write} {
			if err := do(kind); err != c.answer {
				t.Errorf("%s: exchange %d before the fault: %v", c.fault, i, err)
			}
		}
		before := arrived
		err := do(kvtx.Batch)
		if (arrived > before) != c.arrives || gaveUp != c.gaveUp || (err != c.answer) != c.disturbs {
			t.Errorf("%s: arrived %v, caller gave up %v, error %v", c.fault, arrived > before, gaveUp, err)
		}
		if err := do(kvtx.Batch); err != c.answer {
			t.Errorf("%s: exchange after the fault: %v", c.fault, err)
		}
		if !f.Disarm() {
			t.Errorf("%s was not met", c.fault)
		}
		f.Arm(c.fault, 1, nil)
		if f.Disarm() {
			t.Errorf("%s was met without an exchange", c.fault)
		}
	}
}
