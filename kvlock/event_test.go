package kvlock_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

// eventLog is an observer for several goroutines.
type eventLog struct {
	mu  sync.Mutex
	got []kvlock.Event
}

func (l *eventLog) Observe(e kvlock.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, e)
}

// of returns the events of a kind.
func (l *eventLog) of(kind kvlock.EventKind) []kvlock.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.got), func(e kvlock.Event) bool { return e.Kind != kind })
}

// one returns the only event of a kind.
func (l *eventLog) one(t *testing.T, kind kvlock.EventKind) kvlock.Event {
	t.Helper()
	all := l.of(kind)
	if len(all) != 1 {
		t.Fatalf("%d events %s: %+v, want one", len(all), kind, all)
	}
	return all[0]
}

// Who ends tells of those that it let in, and of those whose deadline it found passed; the next worker tells how long it was.
func TestAHandOverIsObserved(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	var ender, worker eventLog
	here, there := kvlock.New(store, kvlock.WithObserver(&ender)), kvlock.New(store, kvlock.WithObserver(&worker))
	claim := kvlock.Exclusive("volume.v1")
	g := acquire(t, here, "op-1", claim)
	deadline := time.Now().Add(time.Second) // long enough for the queue below, also on a busy machine
	for i, wait := range []kvlock.Wait{{Deadline: deadline}, {Dispatch: "req.op-3"}, {}, {}} {
		if _, err := there.Queue(t.Context(), fmt.Sprintf("op-%d", i+2), nil, wait, claim); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the deadline has passed", func() bool { return time.Since(deadline) > 5*time.Millisecond })
	if err := here.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	left := record(t, here, "op-2")
	if e := ender.one(t, kvlock.Left); e.Owner != "op-2" || e.Phase != kvlock.Void || e.Waited <= 0 || e.Waited != left.Ended.Sub(left.Since) || e.Held != 0 {
		t.Errorf("left: %+v, want it to have waited for %v", e, left.Ended.Sub(left.Since))
	}
	over := ender.one(t, kvlock.HandedOver)
	if over.Owner != "op-3" || over.Phase != kvlock.Granted || over.Waited <= 0 || over.Waited != record(t, here, "op-3").Granted.Sub(record(t, here, "op-3").Since) {
		t.Errorf("handed over: %+v", over)
	}
	if e := ender.one(t, kvlock.LineServed); e.LetIn != 1 || e.Waiting != 2 || e.Owner != "" {
		t.Errorf("line served: %+v, want one let in and two that wait", e)
	}
	adopt(t, there, "op-3", "d1")
	adopt(t, there, "op-3", "d2")
	adopted := worker.of(kvlock.Adopted)
	if len(adopted) != 2 || adopted[0].Waited != over.Waited || adopted[1].Waited != 0 {
		t.Errorf("adopted: %+v, want the first with %v", adopted, over.Waited)
	}
	if all := worker.of(kvlock.HandedOver); len(all) != 0 {
		t.Errorf("the waiter's process tells of hand-overs that it did not make: %+v", all)
	}
}

// Acquire tells its own process how long it waited; the time that an operation held its claims begins with the grant.
func TestAnAcquireThatWaitedIsObserved(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	var waiter eventLog
	here, there := kvlock.New(store), kvlock.New(store, kvlock.WithObserver(&waiter))
	claim := kvlock.Exclusive("volume.v1")
	g := acquire(t, here, "op-1", claim)
	var wg sync.WaitGroup
	wg.Go(func() {
		g, err := there.Acquire(t.Context(), "op-2", nil, kvlock.Wait{}, claim)
		if err == nil {
			err = there.Release(t.Context(), g)
		}
		if err != nil {
			t.Error(err)
		}
	})
	eventually(t, "op-2 waits", func() bool { return len(waiter.of(kvlock.Enqueued)) > 0 })
	begin := time.Now()
	eventually(t, "it has waited for a while", func() bool { return time.Since(begin) > 20*time.Millisecond })
	if err := here.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	acquired, released := waiter.one(t, kvlock.Acquired), waiter.one(t, kvlock.Released)
	if acquired.Owner != "op-2" || acquired.Waited < 20*time.Millisecond {
		t.Errorf("acquired: %+v, want a wait of at least 20ms", acquired)
	}
	if took := record(t, here, "op-2"); released.Held != took.Ended.Sub(took.Granted) {
		t.Errorf("released: %+v, want it held from the grant to the end, %v", released, took.Ended.Sub(took.Granted))
	}
}

// What one commit could not finish is told by whoever serves its wake.
func TestAServedWakeIsObserved(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	var ender, server eventLog
	here, there := kvlock.New(store, kvlock.WithObserver(&ender)), kvlock.New(store, kvlock.WithObserver(&server))
	g := acquire(t, here, "op-0", kvlock.Exclusive("volume.v1"))
	var wg sync.WaitGroup
	const readers = kvlock.MaxGrants + 6
	for i := range readers {
		wg.Go(func() {
			queue(t, here, fmt.Sprintf("reader-%d", i), kvlock.Shared("volume.v1"))
		})
	}
	wg.Wait()
	if err := here.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if e := ender.one(t, kvlock.LineServed); e.LetIn != kvlock.MaxGrants || e.Waiting != readers-kvlock.MaxGrants {
		t.Errorf("line served: %+v", e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() {
		if err := there.ServeWakes(ctx); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the wake is served", func() bool { return len(server.of(kvlock.Woken)) > 0 })
	cancel()
	wg.Wait()
	if e := server.one(t, kvlock.LineServed); e.LetIn != readers-kvlock.MaxGrants || e.Waiting != 0 {
		t.Errorf("line served: %+v", e)
	}
	if n := len(server.of(kvlock.HandedOver)); n != readers-kvlock.MaxGrants {
		t.Errorf("%d handed over, want %d", n, readers-kvlock.MaxGrants)
	}
}
