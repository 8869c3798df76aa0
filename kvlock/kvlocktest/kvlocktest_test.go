package kvlocktest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
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

func TestADelayedRequestArrivesBeforeTheNextExchange(t *testing.T) {
	t.Parallel()
	var f kvlocktest.Faults
	var order []string
	do := func(name string) error {
		return f.Intercept(t.Context(), kvtx.Call{Kind: kvtx.Write}, func(context.Context) error {
			order = append(order, name)
			return nil
		})
	}
	f.Arm(kvlocktest.Delayed, 1, nil)
	if err := do("first"); err == nil {
		t.Error("the delayed request was answered")
	}
	if len(order) > 0 {
		t.Errorf("%v arrived at once", order)
	}
	if err := do("copy"); err != nil {
		t.Errorf("the next exchange: %v", err)
	}
	f.Arm(kvlocktest.Delayed, 1, nil)
	if err := do("last"); err == nil {
		t.Error("the delayed request was answered")
	}
	if !f.Disarm() {
		t.Error("the fault was not met")
	}
	if want := []string{"first", "copy", "last"}; !slices.Equal(order, want) {
		t.Errorf("arrived %v, want %v", order, want)
	}
}

func TestAFaultAtEveryNthExchange(t *testing.T) {
	t.Parallel()
	for _, fault := range []kvlocktest.Fault{kvlocktest.RequestLost, kvlocktest.AnswerLost, kvlocktest.Delayed} {
		var f kvlocktest.Faults
		f.ArmEvery(fault, 3, kvtx.Batch)
		var disturbed []int
		for i := 1; i <= 9; i++ {
			_ = f.Intercept(t.Context(), kvtx.Call{Kind: kvtx.Read}, func(context.Context) error { return nil })
			if err := f.Intercept(t.Context(), kvtx.Call{Kind: kvtx.Batch}, func(context.Context) error { return nil }); err != nil {
				disturbed = append(disturbed, i)
			}
		}
		if want := []int{3, 6, 9}; !slices.Equal(disturbed, want) || f.Met() != 3 {
			t.Errorf("%s: disturbed %v, met %d, want %v", fault, disturbed, f.Met(), want)
		}
		f.Disarm()
		if err := f.Intercept(t.Context(), kvtx.Call{Kind: kvtx.Batch}, func(context.Context) error { return nil }); err != nil {
			t.Errorf("%s: after it was disarmed: %v", fault, err)
		}
	}
	for _, bad := range []func(f *kvlocktest.Faults){
		func(f *kvlocktest.Faults) { f.ArmEvery(kvlocktest.RequestLost, 1) },
		func(f *kvlocktest.Faults) { f.ArmEvery(kvlocktest.GiveUpAfter, 3) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a fault that lets nothing through was taken")
				}
			}()
			bad(&kvlocktest.Faults{})
		}()
	}
}

// TestAStoreThatMeetsAFaultAtEveryNthExchangeGoesOn: the kit on a real store.
func TestAStoreThatMeetsAFaultAtEveryNthExchangeGoesOn(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	for _, fault := range []kvlocktest.Fault{kvlocktest.RequestLost, kvlocktest.AnswerLost, kvlocktest.Delayed} {
		var f kvlocktest.Faults
		l := kvlock.New(srv.Store(t, kvtx.WithInterceptor(f.Intercept)))
		f.ArmEvery(fault, 2)
		owner := fmt.Sprintf("op-%d", fault)
		g, err := l.TryAcquire(t.Context(), owner, nil, kvlock.Exclusive("a"), kvlock.Shared("b"))
		if err != nil {
			t.Fatalf("%s: %v", fault, err)
		}
		kvlocktest.RequireHeld(t, l, owner, g.Claims()...)
		if err := l.Release(t.Context(), g); err != nil {
			t.Fatalf("%s: %v", fault, err)
		}
		if !f.Disarm() || f.Met() < 2 {
			t.Errorf("%s was met %d times", fault, f.Met())
		}
		kvlocktest.RequireFree(t, l)
		kvlocktest.RequireSound(t, l)
	}
}
