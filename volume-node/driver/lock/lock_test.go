package lock

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/nodelock"
)

// connect opens kvlock at a server.
func connect(url string) (*kvlock.Locker, func(), error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, err
	}
	store, err := kvtx.Ensure(context.Background(), js, kvtx.Config{})
	if err != nil {
		return nil, nil, err
	}
	return kvlock.New(store), func() { _ = store.Close(); nc.Close() }, nil
}

// open makes a Locker of a class. url is of the server with the locks of pools.
func open(class driver.LockClass, dir, url string) (Locker, func(), error) {
	if class == driver.LockNone {
		return None{}, func() {}, nil
	}
	folder, err := nodelock.Open(dir, nodelock.Options{})
	if err != nil {
		return nil, nil, err
	}
	if class == driver.LockNode {
		return NewNode(folder), func() { _ = folder.Close() }, nil
	}
	locks, end, err := connect(url)
	if err != nil {
		return nil, nil, err
	}
	return NewPool(folder, "shared", NewKV(locks, slog.New(slog.DiscardHandler))), func() { _ = folder.Close(); end() }, nil
}

// world is the server that the operations of a test live on.
type world struct {
	url   string
	locks *kvlock.Locker
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{url: natstest.Start(t).URL()}
	locks, end, err := connect(w.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	w.locks = locks
	return w
}

// open is a Locker of this process.
func (w *world) open(t *testing.T, class driver.LockClass, dir string) Locker {
	t.Helper()
	l, end, err := open(class, dir, w.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return l
}

// operation makes one that runs, and returns what its worker shows.
func (w *world) operation(t *testing.T, id string) Claim {
	t.Helper()
	if _, err := w.locks.TryAcquire(t.Context(), id, nil, kvlock.Exclusive("volume."+id)); err != nil {
		t.Fatal(err)
	}
	return w.takeOver(t, id, "first")
}

func (w *world) takeOver(t *testing.T, id, token string) Claim {
	t.Helper()
	g, _, err := w.locks.Adopt(t.Context(), id, "worker-"+token, token)
	if err != nil {
		t.Fatal(err)
	}
	return Claim{Operation: id, Fence: driver.Fence{Era: g.Fence().Era, Rev: g.Fence().Rev}}
}

func acquire(t *testing.T, l Locker, name string, c Claim) Held {
	t.Helper()
	held, err := l.Acquire(t.Context(), name, c)
	if err != nil {
		t.Fatalf("Acquire(%s, %+v): %v", name, c, err)
	}
	return held
}

func release(t *testing.T, held Held) {
	t.Helper()
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
}

// descriptor is what a child process is given that writes on behalf of the holder; nil: there is none.
func descriptor(h Held) *os.File {
	if p, ok := h.(poolLock); ok {
		h = p.Held
	}
	if l, ok := h.(*nodelock.Lock); ok {
		return l.File()
	}
	return nil
}

// What holds for each class, in one process.
func TestEveryClassIsALocker(t *testing.T) {
	t.Parallel()
	for _, class := range []driver.LockClass{driver.LockNone, driver.LockNode, driver.LockPool} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			l := w.open(t, class, t.TempDir())
			if l.Needs().Class != class || (l.Needs().Name != "") != (class == driver.LockPool) {
				t.Errorf("needs %+v", l.Needs())
			}
			c := w.operation(t, "op-1")
			for range 3 { // a call may be repeated
				held := acquire(t, l, "v1", c)
				if err := errors.Join(held.Overtaken(), held.Durable(), held.Touch()); err != nil {
					t.Error(err)
				}
				if f := descriptor(held); (f == nil) != (class == driver.LockNone) {
					t.Errorf("descriptor %v", f)
				}
				release(t, held)
			}
			if _, err := l.Acquire(t.Context(), "v1", Claim{Operation: "a/b", Fence: c.Fence}); !errors.Is(err, driver.ErrInvalid) {
				t.Errorf("an operation that is no token: %v, want ErrInvalid", err)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := l.Acquire(ended, "v1", c); !errors.Is(err, context.Canceled) {
				t.Errorf("with an ended context: %v", err)
			}
			if err := l.Sweep(t.Context(), time.Hour, func(string) (bool, error) { return true, nil }); err != nil {
				t.Error(err)
			}
			kvlocktest.RequireSound(t, w.locks)
		})
	}
}

// Operations of one process on different things come one after the other.
func TestTheLockOfAPoolIsForAllThings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.open(t, driver.LockPool, t.TempDir())
	one, two := w.operation(t, "op-1"), w.operation(t, "op-2")
	held := acquire(t, l, "v1", one)
	var given atomic.Bool
	waits := make(chan string, 8)
	two.Waiting = func(why string) { waits <- why }
	var wg sync.WaitGroup
	wg.Go(func() {
		second, err := l.Acquire(t.Context(), "v2", two)
		if err != nil || !given.Load() {
			t.Errorf("Acquire = %v, the first one has given the pool back: %t", err, given.Load())
			return
		}
		if err := second.Release(); err != nil {
			t.Error(err)
		}
	})
	if why := <-waits; !strings.Contains(why, "op-1") || !strings.Contains(why, "shared") {
		t.Errorf("waits because %q, want a word of the holder and the pool", why)
	}
	given.Store(true)
	release(t, held)
	wg.Wait()
	kvlocktest.RequireFree(t, w.locks, kvlock.NamedKey("pool.shared"))
}

func TestWhoWaitsForAPoolMayGiveUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.open(t, driver.LockPool, t.TempDir())
	one, two := w.operation(t, "op-1"), w.operation(t, "op-2")
	held := acquire(t, l, "v1", one)
	ctx, cancel := context.WithCancel(t.Context())
	two.Waiting = func(string) { cancel() }
	if _, err := l.Acquire(ctx, "v2", two); !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire = %v", err)
	}
	two.Waiting = nil
	release(t, held)
	release(t, acquire(t, l, "v2", two)) // neither its file lock nor the pool's was left behind
}

// An overtaken worker gets no lock, and one whose operation has ended neither.
func TestAnOvertakenWorkerGetsNoLockOfAPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.open(t, driver.LockPool, t.TempDir())
	old := w.operation(t, "op-1")
	now := w.takeOver(t, "op-1", "second")
	if _, err := l.Acquire(t.Context(), "v1", old); !errors.Is(err, driver.ErrFenced) {
		t.Errorf("Acquire(old) = %v, want ErrFenced", err)
	}
	release(t, acquire(t, l, "v1", now))
	rec, err := w.locks.Record(t.Context(), "op-1")
	if err == nil {
		err = w.locks.Release(t.Context(), w.locks.GrantOf(rec))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Acquire(t.Context(), "v1", now); !errors.Is(err, driver.ErrFenced) {
		t.Errorf("Acquire after the end = %v, want ErrFenced", err)
	}
}
