package kvlock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// blocked has another operation hold the first claim, so that the story's own one must wait.
func (w *world) blocked(t *testing.T) {
	t.Helper()
	w.grant = acquire(t, w.calm, "b-"+w.owner, kvlock.Exclusive(w.claims[0].Key))
}

// unblock gives back what blocked took; repeated, it does nothing.
func (w *world) unblock(ctx context.Context) error { return w.calm.Release(ctx, w.grant) }

func (w *world) queue(ctx context.Context) error {
	_, err := w.shaken.Queue(ctx, w.owner, []byte("p"), kvlock.Wait{Dispatch: "req.local." + w.owner}, w.claims...)
	return applied(err)
}

// requireDispatched holds that workers are told of the operation, by its first message.
func (w *world) requireDispatched(t *testing.T) {
	t.Helper()
	if _, err := w.store.Stream().GetLastMsgForSubject(t.Context(), w.store.DispatchSubject("req.local", w.owner, ">")); err != nil {
		t.Errorf("the dispatch: %v", err)
	}
	if rec := w.record(t); rec.Dispatch != 1 {
		t.Errorf("dispatch number %d, want 1", rec.Dispatch)
	}
}

// requireInLine holds that the operation stands in the line of each of its keys, once.
func (w *world) requireInLine(t *testing.T) {
	t.Helper()
	for _, c := range w.claims {
		lock, err := w.calm.Holders(t.Context(), c.Key)
		if err != nil || len(lock.Line) != 1 || lock.Line[0].Owner != w.owner || lock.Line[0].Mode != c.Mode {
			t.Errorf("line of %s: %+v, %v; want the operation once, %s", c.Key, lock.Line, err, c.Mode)
		}
	}
}

// acquire waits for the claims. An operation that its caller gave up has ended, and is not made again.
func (w *world) acquire(ctx context.Context) (err error) {
	w.result, err = w.shaken.Acquire(ctx, w.owner, []byte("p"), kvlock.Wait{}, w.claims...)
	if w.gaveUp && errors.Is(err, kvlock.ErrEnded) {
		return nil
	}
	return err
}

// requireAcquired holds that the operation has its claims, or, if its caller gave up, that nothing is left of it.
func (w *world) requireAcquired(t *testing.T) {
	t.Helper()
	rec, err := w.calm.Record(t.Context(), w.owner)
	if w.gaveUp && err == nil && !rec.Live() {
		kvlocktest.RequireFree(t, w.calm, w.claims[0].Key, w.claims[1].Key)
		return
	}
	kvlocktest.RequireHeld(t, w.calm, w.owner, w.claims...)
	save(t, w.calm, w.result, kvlock.Running, "the grant is good")
}

// waitingStories are the verbs of the waiting line.
var waitingStories = []story{
	{
		name: "Queue, free",
		verb: func(ctx context.Context, w *world) error { return w.queue(ctx) },
		after: func(t *testing.T, w *world) {
			kvlocktest.RequireHeld(t, w.calm, w.owner, w.claims...)
			w.requireDispatched(t)
		},
	},
	{
		name:   "Queue, waits",
		before: func(t *testing.T, w *world) { w.blocked(t) },
		verb:   func(ctx context.Context, w *world) error { return w.queue(ctx) },
		after: func(t *testing.T, w *world) {
			w.requireInLine(t)
			if err := w.unblock(t.Context()); err != nil {
				t.Error(err)
			}
			kvlocktest.RequireHeld(t, w.calm, w.owner, w.claims...)
			w.requireDispatched(t)
		},
	},
	{
		name: "Leave",
		before: func(t *testing.T, w *world) {
			w.blocked(t)
			queue(t, w.calm, w.owner, w.claims...)
			queue(t, w.calm, "n-"+w.owner, kvlock.Exclusive(w.claims[1].Key)) // waits for it alone
		},
		verb: func(ctx context.Context, w *world) error {
			_, err := w.shaken.Leave(ctx, w.owner, "test")
			if errors.Is(err, kvlock.ErrEnded) {
				return nil
			}
			return err
		},
		after: func(t *testing.T, w *world) {
			if rec := w.record(t); rec.Live() || rec.Phase != kvlock.Void || len(rec.Audit) != 1 {
				t.Errorf("operation %s is %s, live %v, %d audits; want it gone, once", w.owner, rec.Phase, rec.Live(), len(rec.Audit))
			}
			kvlocktest.RequireHeld(t, w.calm, "n-"+w.owner, kvlock.Exclusive(w.claims[1].Key))
			if err := w.unblock(t.Context()); err != nil {
				t.Error(err)
			}
			kvlocktest.RequireFree(t, w.calm, w.claims[0].Key)
		},
	},
	{
		name:  "Acquire, free",
		verb:  func(ctx context.Context, w *world) error { return w.acquire(ctx) },
		after: func(t *testing.T, w *world) { w.requireAcquired(t) },
	},
	{
		name:   "Acquire, waits",
		before: func(t *testing.T, w *world) { w.blocked(t) },
		verb: func(ctx context.Context, w *world) error {
			released := make(chan error, 1)
			go func() { released <- w.releaseOnceWaitedFor(ctx) }()
			err := w.acquire(ctx)
			return errors.Join(err, <-released)
		},
		after: func(t *testing.T, w *world) {
			if err := w.unblock(t.Context()); err != nil {
				t.Error(err)
			}
			w.requireAcquired(t)
		},
	},
	{
		name: "Downgrade",
		before: func(t *testing.T, w *world) {
			w.acquired(t)
			queue(t, w.calm, "r-"+w.owner, kvlock.Shared(w.claims[0].Key))
		},
		verb: func(ctx context.Context, w *world) (err error) {
			w.result, err = w.shaken.Downgrade(ctx, w.grant, w.claims[0].Key)
			return err
		},
		after: func(t *testing.T, w *world) {
			shared := kvlock.Shared(w.claims[0].Key)
			kvlocktest.RequireHeld(t, w.calm, w.owner, shared)
			kvlocktest.RequireHeld(t, w.calm, "r-"+w.owner, shared)
			save(t, w.calm, w.result, kvlock.Running, "the grant is good")
		},
	},
}

// releaseOnceWaitedFor gives back what blocks the operation when it stands in line, or has its claims, or is gone.
func (w *world) releaseOnceWaitedFor(ctx context.Context) error {
	for ctx.Err() == nil {
		rec, err := w.calm.Record(ctx, w.owner)
		if err == nil {
			if !rec.Live() || rec.Phase != kvlock.Queued {
				return nil
			}
			return ignoreEnd(ctx, w.unblock(ctx))
		}
		if !errors.Is(err, kvlock.ErrNotFound) {
			return ignoreEnd(ctx, err)
		}
	}
	return nil
}

// ignoreEnd drops an error that is there because the context has ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// TestEveryVerbSurvivesAFaultAtEveryNthExchange: it comes through while each second or third exchange goes wrong.
func TestEveryVerbSurvivesAFaultAtEveryNthExchange(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	calm := kvlock.New(srv.Store(t))
	for _, fault := range []kvlocktest.Fault{kvlocktest.RequestLost, kvlocktest.AnswerLost, kvlocktest.Delayed} {
		for n := 2; n <= 3; n++ {
			t.Run(fmt.Sprintf("%s, each %d.", fault, n), func(t *testing.T) {
				t.Parallel()
				faults := &kvlocktest.Faults{}
				store := srv.Store(t, kvtx.WithInterceptor(faults.Intercept))
				met := 0
				for i, st := range allStories() {
					owner := fmt.Sprintf("every-%d-%d-%d", fault, n, i)
					w := newWorld(calm, store, owner)
					if st.before != nil {
						st.before(t, w)
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					faults.ArmEvery(fault, n)
					err := st.verb(ctx, w)
					faults.Disarm()
					cancel()
					met += faults.Met()
					if err != nil {
						t.Fatalf("%s: %v", st.name, err)
					}
					st.after(t, w)
				}
				if met < len(allStories()) {
					t.Errorf("the fault was met %d times only", met)
				}
				kvlocktest.RequireSound(t, calm)
			})
		}
	}
}

func allStories() []story { return append(stories[:len(stories):len(stories)], waitingStories...) }
