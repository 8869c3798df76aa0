package kvlock_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/internal/link"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// deposed is the way to a replicated stream over a server that led it: from some moment on it answers reads as they were answered before, as
// it does until it knows that another one leads (see TestALeaderThatWasDeposedAnswersReads in kvlock/linearizability). It cannot make a commit:
// with the first one the client has found the other.
type deposed struct {
	link.Server

	mu      sync.Mutex
	answers map[string]*nats.Msg // That were given last, by the question.
	unaware bool
	old     int // Answers that were.
}

func (d *deposed) Call(ctx context.Context, msgs ...*nats.Msg) (*nats.Msg, error) {
	isRead := strings.HasPrefix(msgs[0].Subject, "$JS.API.STREAM.MSG.GET.")
	question := string(msgs[0].Data)
	d.mu.Lock()
	if d.unaware = d.unaware && isRead; d.unaware && d.answers[question] != nil {
		defer d.mu.Unlock()
		d.old++
		return d.answers[question], nil
	}
	d.mu.Unlock()
	m, err := d.Server.Call(ctx, msgs...)
	if isRead && err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.answers[question] = m
	}
	return m, err
}

// depose is the moment.
func (d *deposed) depose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unaware = true
}

func (d *deposed) mustHaveAnswered(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.old == 0 || d.unaware {
		t.Errorf("%d answers were old, and it is still unaware: %v; the test is blind", d.old, d.unaware)
	}
}

// overDeposed is a locker whose reads a deposed leader may answer, and one that knows better.
func overDeposed(t *testing.T) (d *deposed, here *kvlock.Locker, read func(owner string), there *kvlock.Locker) {
	t.Helper()
	srv := natstest.Start(t)
	store := srv.Store(t)
	server, err := link.Over(srv.Conn(t), store.Stream(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	d = &deposed{Server: server, answers: map[string]*nats.Msg{}}
	mine, err := kvtx.OpenOn(t.Context(), d, kvtx.Config{}, kvtx.Chance{
		Jitter: func(d time.Duration) time.Duration { return d }, Turn: func(context.Context) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mine.Close() })
	return d, kvlock.New(mine), func(owner string) {
		if _, err := mine.Get(t.Context(), kvlock.OwnerKey(owner)); err != nil {
			t.Fatal(err)
		}
	}, kvlock.New(store)
}

// Who repeats an acquire gets no grant of an operation that has ended meanwhile.
func TestADeposedLeaderGrantsNothing(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(l *kvlock.Locker) error{
		"TryAcquire": func(l *kvlock.Locker) error {
			_, err := l.TryAcquire(t.Context(), "op-1", nil, kvlock.Exclusive("a"))
			return err
		},
		"Acquire": func(l *kvlock.Locker) error {
			_, err := l.Acquire(t.Context(), "op-1", nil, kvlock.Wait{}, kvlock.Exclusive("a"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, here, read, there := overDeposed(t)
			acquire(t, here, "op-1", kvlock.Exclusive("a"))
			read("op-1")
			if err := there.Break(t.Context(), "op-1", "test", kvlock.NothingFenced); err != nil {
				t.Fatal(err)
			}
			d.depose()
			wantErr(t, "the same again", again(here), kvlock.ErrExists, kvlock.ErrEnded)
			d.mustHaveAnswered(t)
		})
	}
}

// An operation that is not there yet, for a leader that was deposed before, has not ended long ago: it is released.
func TestADeposedLeaderDoesNotKeepFromTheRelease(t *testing.T) {
	t.Parallel()
	d, here, read, there := overDeposed(t)
	read("op-1")
	g := acquire(t, there, "op-1", kvlock.Exclusive("a"))
	d.depose()
	if err := here.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	d.mustHaveAnswered(t)
	kvlocktest.RequireFree(t, there)
}

// Who gives up waiting leaves its line, though a deposed leader knows nothing of it.
func TestADeposedLeaderDoesNotKeepAWaiterInItsLine(t *testing.T) {
	t.Parallel()
	d, here, read, there := overDeposed(t)
	read("op-2")
	holder := acquire(t, there, "op-1", kvlock.Exclusive("a"))
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		_, err := here.Acquire(ctx, "op-2", nil, kvlock.Wait{}, kvlock.Exclusive("a"))
		waits <- err
	}()
	eventually(t, "it waits", func() bool {
		rec, err := there.Record(t.Context(), "op-2")
		return err == nil && rec.Phase == kvlock.Queued
	})
	d.depose()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) || errors.Is(err, kvlock.ErrNotFound) {
		t.Errorf("Acquire = %v, want %v", err, context.Canceled)
	}
	d.mustHaveAnswered(t)
	if err := there.Release(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireFree(t, there)
}
