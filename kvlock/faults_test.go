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

// story is one verb: what there is before, the verb itself, which may be called again, and what must be true after it.
// Each has an operation and keys of its own, so that one server serves all.
type story struct {
	name   string
	before func(t *testing.T, w *world)
	verb   func(ctx context.Context, w *world) error
	after  func(t *testing.T, w *world)
}

type world struct {
	calm, shaken *kvlock.Locker // of two processes; faults meet the second one
	store        *kvtx.Store    // the shaken one
	owner        string
	claims       []kvlock.Claim
	grant        kvlock.Grant
	result       kvlock.Grant // what the verb returned
	fences       []kvlock.Fence
	gaveUp       bool // The caller of the verb's first call did.
}

func newWorld(calm *kvlock.Locker, store *kvtx.Store, owner string) *world {
	return &world{
		calm: calm, shaken: kvlock.New(store), store: store, owner: owner,
		claims: []kvlock.Claim{kvlock.Exclusive("x." + owner), kvlock.Shared("s." + owner)},
	}
}

func (w *world) record(t *testing.T) kvlock.Record {
	t.Helper()
	return record(t, w.calm, w.owner)
}

func (w *world) acquired(t *testing.T) {
	t.Helper()
	w.grant = acquire(t, w.calm, w.owner, w.claims...)
}

func (w *world) requireEnded(t *testing.T, phase kvlock.Phase) {
	t.Helper()
	if rec := w.record(t); rec.Live() || rec.Phase != phase {
		t.Errorf("operation is %s, live %v; want it ended, %s", rec.Phase, rec.Live(), phase)
	}
	kvlocktest.RequireFree(t, w.calm, w.claims[0].Key, w.claims[1].Key)
}

// counterKey is a record of the caller's own, changed once for each time that the verb took effect.
func (w *world) counterKey() string { return "counter." + w.owner }

func (w *world) count(s kvtx.Snapshot, tx *kvtx.Tx) error {
	e, err := s.Get(w.counterKey())
	if err != nil {
		return err
	}
	tx.Put(w.counterKey(), append([]byte("x"), e.Value...), e.Revision)
	return nil
}

func (w *world) requireCount(t *testing.T, want string) {
	t.Helper()
	if e, err := w.store.Get(t.Context(), w.counterKey()); err != nil || string(e.Value) != want {
		t.Errorf("the caller's own record says %q, %v, want %q", e.Value, err, want)
	}
}

// applied makes a staged verb, called again after it took effect, no error.
func applied(err error) error {
	if errors.Is(err, kvlock.ErrApplied) || errors.Is(err, kvlock.ErrExists) {
		return nil
	}
	return err
}

var stories = []story{
	{
		name: "TryAcquire",
		verb: func(ctx context.Context, w *world) (err error) {
			w.result, err = w.shaken.TryAcquire(ctx, w.owner, []byte("p"), w.claims...)
			return err
		},
		after: func(t *testing.T, w *world) {
			kvlocktest.RequireHeld(t, w.calm, w.owner, w.claims...)
			save(t, w.calm, w.result, kvlock.Running, "the grant is good")
		},
	},
	{
		name: "StageAcquire",
		verb: func(ctx context.Context, w *world) error {
			_, err := w.store.Update(ctx, w.shaken.Keys(w.owner, w.claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
				if _, err := w.shaken.StageAcquire(s, tx, w.owner, nil, w.claims...); err != nil {
					return err
				}
				tx.Publish(w.store.DispatchSubject("req", "b", w.owner, "1"), nil, nil)
				return w.count(s, tx)
			})
			return applied(err)
		},
		after: func(t *testing.T, w *world) {
			kvlocktest.RequireHeld(t, w.calm, w.owner, w.claims...)
			w.requireCount(t, "x")
		},
	},
	{
		name:   "Adopt",
		before: func(t *testing.T, w *world) { w.acquired(t) },
		verb: func(ctx context.Context, w *world) (err error) {
			w.result, _, err = w.shaken.Adopt(ctx, w.owner, "w", "delivery-1")
			return err
		},
		after: func(t *testing.T, w *world) {
			rec := w.record(t)
			if rec.Epoch != 1 || w.result.Epoch() != 1 || rec.Fence() != w.result.Fence() || !w.grant.Fence().Less(rec.Fence()) {
				t.Errorf("epoch %d, fence %v; grant %d, %v: want one take-over", rec.Epoch, rec.Fence(), w.result.Epoch(), w.result.Fence())
			}
			save(t, w.calm, w.result, kvlock.Running, "the grant is good")
		},
	},
	{
		name:   "Save",
		before: func(t *testing.T, w *world) { w.acquired(t) },
		verb: func(ctx context.Context, w *world) (err error) {
			w.result, err = w.shaken.Save(ctx, w.grant, kvlock.Running, []byte("saved"))
			return err
		},
		after: func(t *testing.T, w *world) {
			if rec := w.record(t); rec.Position != 1 || string(rec.Payload) != "saved" {
				t.Errorf("position %d, payload %q, want one save", rec.Position, rec.Payload)
			}
			save(t, w.calm, w.result, kvlock.Running, "the grant is good")
		},
	},
	{
		name:   "StageSave",
		before: func(t *testing.T, w *world) { w.acquired(t) },
		verb: func(ctx context.Context, w *world) error {
			_, err := w.store.Update(ctx, w.shaken.Keys(w.owner), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
				if err := w.shaken.StageSave(s, tx, w.grant, kvlock.Running, []byte("saved")); err != nil {
					return err
				}
				return w.count(s, tx)
			})
			return applied(err)
		},
		after: func(t *testing.T, w *world) {
			if rec := w.record(t); rec.Position != 1 {
				t.Errorf("position %d, want one save", rec.Position)
			}
			w.requireCount(t, "x")
		},
	},
	{
		name:   "StageEnd",
		before: func(t *testing.T, w *world) { w.acquired(t) },
		verb: func(ctx context.Context, w *world) error {
			_, err := w.store.Update(ctx, w.shaken.Keys(w.owner, w.claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
				if err := w.shaken.StageEnd(s, tx, w.grant, kvlock.Done, []byte("end")); err != nil {
					return err
				}
				return w.count(s, tx)
			})
			return applied(err)
		},
		after: func(t *testing.T, w *world) {
			w.requireEnded(t, kvlock.Done)
			w.requireCount(t, "x")
		},
	},
	{
		name:   "End",
		before: func(t *testing.T, w *world) { w.acquired(t) },
		verb: func(ctx context.Context, w *world) error {
			return w.shaken.End(ctx, w.grant, kvlock.Undone, []byte("end"))
		},
		after: func(t *testing.T, w *world) { w.requireEnded(t, kvlock.Undone) },
	},
	{
		name:   "Release",
		before: func(t *testing.T, w *world) { w.acquired(t) },
		verb:   func(ctx context.Context, w *world) error { return w.shaken.Release(ctx, w.grant) },
		after:  func(t *testing.T, w *world) { w.requireEnded(t, kvlock.Done) },
	},
	{
		name:   "Cancel",
		before: func(t *testing.T, w *world) { w.acquired(t) },
		verb: func(ctx context.Context, w *world) error {
			_, err := w.shaken.Cancel(ctx, w.owner, "user")
			return err
		},
		after: func(t *testing.T, w *world) {
			if rec := w.record(t); rec.Cancel == nil || rec.Cancel.By != "user" || rec.Fence() != w.grant.Fence() {
				t.Errorf("cancel %+v, fence %v, want the user's, %v", rec.Cancel, rec.Fence(), w.grant.Fence())
			}
			save(t, w.calm, w.grant, kvlock.Running, "the grant is good")
		},
	},
	{
		name:   "Break",
		before: func(t *testing.T, w *world) { w.acquired(t) },
		verb: func(ctx context.Context, w *world) error {
			return w.shaken.Break(ctx, w.owner, "test", func(_ context.Context, _ kvlock.Record, f kvlock.Fence) error {
				w.fences = append(w.fences, f)
				return nil
			})
		},
		after: func(t *testing.T, w *world) {
			w.requireEnded(t, kvlock.Void)
			rec := w.record(t)
			if rec.Epoch != 1 || len(rec.Audit) != 1 || len(w.fences) == 0 {
				t.Errorf("epoch %d, %d audits, %d fences, want one break", rec.Epoch, len(rec.Audit), len(w.fences))
			}
			for _, f := range w.fences {
				if f != rec.Fence() || !w.grant.Fence().Less(f) {
					t.Errorf("fence %v, want the void write's %v", f, rec.Fence())
				}
			}
		},
	},
}

// TestEveryVerbSurvivesEveryFaultAndMayBeRepeated meets each fault at each exchange of each verb, calls the verb again until it
// answers, and then once more.
func TestEveryVerbSurvivesEveryFaultAndMayBeRepeated(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	calm := kvlock.New(srv.Store(t))
	for i, st := range allStories() {
		for _, fault := range kvlocktest.AllFaults {
			t.Run(st.name+"/"+fault.String(), func(t *testing.T) {
				t.Parallel()
				faults := &kvlocktest.Faults{}
				store := srv.Store(t, kvtx.WithInterceptor(faults.Intercept))
				met := 0
				for n := 1; n == met+1; n++ {
					w := newWorld(calm, store, fmt.Sprintf("story-%d-%d-%d", i, fault, n))
					if st.before != nil {
						st.before(t, w)
					}
					if meetFault(t, w, st, faults, fault, n) {
						met++
					}
				}
				if met < 2 {
					t.Errorf("the fault was met at %d exchanges only: the test is blind", met)
				}
			})
		}
	}
}

// meetFault runs the story with the fault at the n-th exchange and says whether there was one.
func meetFault(t *testing.T, w *world, st story, faults *kvlocktest.Faults, fault kvlocktest.Fault, n int) bool {
	ctx, giveUp := context.WithTimeout(t.Context(), time.Minute)
	defer giveUp()
	faults.Arm(fault, n, giveUp)
	err := st.verb(ctx, w)
	met := faults.Disarm()
	w.gaveUp = met && (fault == kvlocktest.GiveUpBefore || fault == kvlocktest.GiveUpAfter)
	if err != nil && (!w.gaveUp || !errors.Is(err, context.Canceled)) {
		t.Fatalf("exchange %d: %v", n, err)
	}
	for range 2 {
		if err := st.verb(t.Context(), w); err != nil {
			t.Fatalf("exchange %d: the verb again: %v", n, err)
		}
	}
	st.after(t, w)
	return met
}

// between lets somebody else write after the first write of a store was applied or lost, before its copy is sent again.
func between(lost bool, other func(ctx context.Context) error) kvtx.Interceptor {
	done := false
	return func(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
		if done || call.Kind == kvtx.Read {
			return next(ctx)
		}
		done = true
		if !lost {
			if err := next(ctx); err != nil {
				return err
			}
		}
		if err := other(ctx); err != nil {
			return fmt.Errorf("the other writer: %w", err)
		}
		return errors.New("answer lost")
	}
}

func TestAdoptWhoseAnswerWasLostIsKnownByItsTokenUnderALaterWrite(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	calm := kvlock.New(srv.Store(t))
	old := acquire(t, calm, "op-1", kvlock.Exclusive("volume.v1"))
	shaken := kvlock.New(srv.Store(t, kvtx.WithInterceptor(between(false, func(ctx context.Context) error {
		_, err := calm.Cancel(ctx, "op-1", "user")
		return err
	}))))
	g, rec, err := shaken.Adopt(t.Context(), "op-1", "w", "d1")
	if err != nil {
		t.Fatal(err)
	}
	now := record(t, calm, "op-1")
	if g.Epoch() != 1 || now.Epoch != 1 || rec.Cancel == nil || !old.Fence().Less(g.Fence()) || g.Fence() != now.Fence() ||
		g.Fence().Rev >= uint64(now.Revision) {
		t.Errorf("grant %+v, record now %+v: want one take-over, its own revision as the fence, and the cancel seen", g, now)
	}
	save(t, calm, g, kvlock.Running, "the grant is good")
}

func TestAdoptThatNeverArrivedYieldsToAnotherWorker(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	calm := kvlock.New(srv.Store(t))
	acquire(t, calm, "op-1", kvlock.Exclusive("volume.v1"))
	var winner kvlock.Grant
	shaken := kvlock.New(srv.Store(t, kvtx.WithInterceptor(between(true, func(ctx context.Context) (err error) {
		winner, _, err = calm.Adopt(ctx, "op-1", "w", "d2") // the same worker's name decides nothing
		return err
	}))))
	_, rec, err := shaken.Adopt(t.Context(), "op-1", "w", "d1")
	wantErr(t, "Adopt", err, kvlock.ErrAdopted)
	if rec.Token != "d2" || rec.Epoch != 1 {
		t.Errorf("record %+v, want the winner's", rec)
	}
	save(t, calm, winner, kvlock.Running, "the winner's grant is good")
}

func TestSaveAfterALostAnswerIsNotDoneTwiceUnderALaterWrite(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	calm := kvlock.New(srv.Store(t))
	g := acquire(t, calm, "op-1", kvlock.Exclusive("volume.v1"))
	shaken := kvlock.New(srv.Store(t, kvtx.WithInterceptor(between(false, func(ctx context.Context) error {
		_, err := calm.Cancel(ctx, "op-1", "user")
		return err
	}))))
	g, err := shaken.Save(t.Context(), g, kvlock.Running, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	rec := record(t, calm, "op-1")
	if rec.Position != 1 || rec.Cancel == nil || string(rec.Payload) != "one" {
		t.Errorf("record %+v, want one save and the cancel", rec)
	}
	save(t, calm, g, kvlock.Running, "two")
}
