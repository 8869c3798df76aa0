package kvlock_test

import (
	"errors"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func TestStagedVerbsAreOneCommitWithTheCallersRecords(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	claims := []kvlock.Claim{kvlock.Exclusive("volume.v1"), kvlock.Shared("snapshot.s1")}

	var rec kvlock.Record
	res, err := store.Update(t.Context(), append(l.Keys("op-1", claims...), "volume.v1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		var err error
		if rec, err = l.StageAcquire(s, tx, "op-1", []byte("create"), claims...); err != nil {
			return err
		}
		tx.Put("volume.v1", []byte("creating"), 0)
		tx.Publish(store.DispatchSubject("req", "local", "op-1", "1"), nil, nil)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rec = l.Committed(rec, res)
	if rec.Phase != kvlock.Granted || rec.Dispatch != 1 || rec.Revision == 0 || rec.FenceRev != uint64(rec.Revision) {
		t.Errorf("record = %+v, want it granted, with its revision", rec)
	}
	// The owner record is the first and the dispatch the last message: consumers may see a prefix.
	dispatch, err := store.Stream().GetLastMsgForSubject(t.Context(), store.DispatchSubject("req", "local", "op-1", "1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{kvlock.LockKey("volume.v1"), kvlock.LockKey("snapshot.s1"), "volume.v1"} {
		if rev := res.Revision(key); rev <= rec.Revision || uint64(rev) >= dispatch.Sequence {
			t.Errorf("%s at %d, want it between the owner record's %d and the dispatch's %d", key, rev, rec.Revision, dispatch.Sequence)
		}
	}
	kvlocktest.RequireHeld(t, l, "op-1", claims...)

	g := adopt(t, l, "op-1", "d1")
	res, err = store.Update(t.Context(), append(l.Keys("op-1"), "pool.local"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		if err := l.StageSave(s, tx, g, kvlock.Running, []byte("reserved")); err != nil {
			return err
		}
		tx.Put("pool.local", []byte("1"), 0)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g = g.Saved(res)
	if now := record(t, l, "op-1"); g.Position() != now.Position || g.Revision() != now.Revision {
		t.Errorf("grant at position %d, revision %d; record at %d, %d", g.Position(), g.Revision(), now.Position, now.Revision)
	}

	volume := res.Revision("volume.v1")
	_, err = store.Update(t.Context(), append(l.Keys("op-1", g.Claims()...), "volume.v1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		if err := l.StageEnd(s, tx, g, kvlock.Done, nil); err != nil {
			return err
		}
		e, err := s.Get("volume.v1")
		if err != nil {
			return err
		}
		volume = e.Revision
		tx.Put("volume.v1", []byte("available"), e.Revision)
		return nil
	})
	if err != nil || volume == 0 {
		t.Fatal(volume, err)
	}
	kvlocktest.RequireFree(t, l)
	kvlocktest.RequireSound(t, l)
}

func TestARefusedStagedVerbCommitsNothingOfTheCaller(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	old := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	adopt(t, l, "op-1", "d1")
	for name, stage := range map[string]func(s kvtx.Snapshot, tx *kvtx.Tx) error{
		"acquire": func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			_, err := l.StageAcquire(s, tx, "op-2", nil, kvlock.Shared("volume.v1"))
			return err
		},
		"save": func(s kvtx.Snapshot, tx *kvtx.Tx) error { return l.StageSave(s, tx, old, kvlock.Running, nil) },
		"end":  func(s kvtx.Snapshot, tx *kvtx.Tx) error { return l.StageEnd(s, tx, old, kvlock.Done, nil) },
	} {
		_, err := store.Update(t.Context(), nil, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			tx.Put("volume.v1", []byte(name), 0)
			return stage(s, tx)
		})
		if !errors.Is(err, kvlock.ErrConflict) && !errors.Is(err, kvlock.ErrAdopted) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if e, err := store.Get(t.Context(), "volume.v1"); err != nil || e.Exists {
		t.Errorf("volume.v1 = %q, %v, want none", e.Value, err)
	}
}

func TestStageAcquireOfARepeatedOwnerCarriesItsRecord(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	submit := func() error {
		_, err := store.Update(t.Context(), l.Keys("op-1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			_, err := l.StageAcquire(s, tx, "op-1", []byte("first"), kvlock.Exclusive("volume.v1"))
			return err
		})
		return err
	}
	if err := submit(); err != nil {
		t.Fatal(err)
	}
	err := submit()
	wantErr(t, "StageAcquire again", err, kvlock.ErrExists)
	var exists *kvlock.ExistsError
	if !errors.As(err, &exists) || string(exists.Record.Payload) != "first" || errors.Is(err, kvlock.ErrEnded) {
		t.Errorf("error %v, want one that carries the live record", err)
	}
}

func TestSecondStagedSaveSaysThatItWasApplied(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	steps := 0
	step := func() error {
		_, err := store.Update(t.Context(), l.Keys("op-1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			if err := l.StageSave(s, tx, g, kvlock.Running, []byte("step")); err != nil {
				return err
			}
			steps++
			e, err := s.Get("counter")
			tx.Put("counter", append([]byte("x"), e.Value...), e.Revision)
			return err
		})
		return err
	}
	if err := step(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "the same step again", step(), kvlock.ErrApplied)
	if e, err := store.Get(t.Context(), "counter"); err != nil || string(e.Value) != "x" {
		t.Errorf("counter = %q, %v, want the step's effect once", e.Value, err)
	}
}

func TestStageAdoptInACommitOfTheCallers(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	old := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	take := func(token string) (kvlock.Record, error) {
		var rec kvlock.Record
		res, err := store.Update(t.Context(), l.Keys("op-1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			var err error
			if rec, err = l.StageAdopt(s, tx, "op-1", "w", token); err != nil {
				return err
			}
			e, err := s.Get("taken")
			tx.Put("taken", []byte(token), e.Revision)
			return err
		})
		return l.Committed(rec, res), err
	}
	rec, err := take("d1")
	if err != nil {
		t.Fatal(err)
	}
	g := l.GrantOf(rec)
	if g.Epoch() != 1 || !old.Fence().Less(g.Fence()) || g.Fence().Rev != uint64(g.Revision()) {
		t.Errorf("grant %+v after %+v", g, old)
	}
	_, err = take("d1")
	wantErr(t, "StageAdopt with the same token", err, kvlock.ErrApplied)
	save(t, l, g, kvlock.Running, "x")
}

func TestResumeLetsAStuckOperationGoOnUnderTheNextDispatch(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	resume := func(phase kvlock.Phase) (kvlock.Record, error) {
		var rec kvlock.Record
		_, err := store.Update(t.Context(), l.Keys("op-1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			var err error
			rec, err = l.StageResume(s, tx, "op-1", phase, "disk replaced", []byte("again"))
			return err
		})
		return rec, err
	}
	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	_, err := resume(kvlock.Running)
	wantErr(t, "resume of a running operation", err, kvlock.ErrInvalid)
	g = save(t, l, g, kvlock.Stuck, "stuck")
	_, err = resume(kvlock.Done)
	wantErr(t, "resume as done", err, kvlock.ErrInvalid)
	rec, err := resume(kvlock.Undoing)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Phase != kvlock.Undoing || rec.Dispatch != 2 || string(rec.Payload) != "again" ||
		len(rec.Audit) != 1 || rec.Audit[0].Action != "resume" || rec.Audit[0].Reason != "disk replaced" || rec.Audit[0].Phase != kvlock.Stuck {
		t.Errorf("record = %+v", rec)
	}
	_, err = l.Save(t.Context(), g, kvlock.Undoing, []byte("from the worker that got stuck"))
	wantErr(t, "save with the grant from before", err, kvlock.ErrBehind)
	next := adopt(t, l, "op-1", "d2")
	if got := record(t, l, "op-1"); got.Phase != kvlock.Undoing {
		t.Errorf("phase after the take-over = %s, want it undoing still", got.Phase)
	}
	if err := l.Release(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if got := record(t, l, "op-1"); got.Phase != kvlock.Undone {
		t.Errorf("phase after the release = %s, want undone", got.Phase)
	}
	_, err = resume(kvlock.Running)
	wantErr(t, "resume after the end", err, kvlock.ErrEnded)
}

func TestRedispatchDoesNotDisturbTheWorker(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	redispatch := func() (kvlock.Record, error) {
		var rec kvlock.Record
		_, err := store.Update(t.Context(), l.Keys("op-1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
			var err error
			rec, err = l.StageRedispatch(s, tx, "op-1")
			return err
		})
		return rec, err
	}
	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	for want := uint64(2); want < 4; want++ {
		if rec, err := redispatch(); err != nil || rec.Dispatch != want {
			t.Fatalf("dispatch %d, %v, want %d", rec.Dispatch, err, want)
		}
		g = save(t, l, g, kvlock.Running, "x")
		if rec := record(t, l, "op-1"); rec.Dispatch != want {
			t.Fatalf("dispatch after the worker's save = %d, want %d", rec.Dispatch, want)
		}
	}
	save(t, l, g, kvlock.Stuck, "x")
	_, err := redispatch()
	wantErr(t, "redispatch of a stuck operation", err, kvlock.ErrStuck)
}

func TestVerifyNamesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"), kvlock.Shared("snapshot.s1"))
	acquire(t, l, "op-2", kvlock.Shared("snapshot.s1"))
	kvlocktest.RequireSound(t, l)

	// What no history of the verbs makes: a lock lost, an owner record lost, a record that cannot be read.
	_, err := store.Update(t.Context(), nil, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		for _, key := range []string{kvlock.LockKey("volume.v1"), kvlock.OwnerKey("op-2")} {
			e, err := s.Get(key)
			if err != nil {
				return err
			}
			tx.Delete(key, e.Revision)
		}
		tx.Put(kvlock.LockKey("volume.v3"), []byte("?"), 0)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	problems, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[[2]string]string{}
	for _, p := range problems {
		found[[2]string{p.Owner, p.Key}] = p.String()
	}
	for _, want := range [][2]string{{"op-1", "volume.v1"}, {"op-2", "snapshot.s1"}, {"", "volume.v3"}} {
		if found[want] == "" {
			t.Errorf("no problem with operation %q, key %q", want[0], want[1])
		}
	}
	if len(problems) != 3 {
		t.Errorf("problems %q, want 3", problems)
	}
}

func TestObserverIsToldWhatHappened(t *testing.T) {
	t.Parallel()
	events := &recorder{}
	l := newLocker(t, kvlock.WithObserver(events))
	old := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	_, err := l.TryAcquire(t.Context(), "op-2", nil, kvlock.Exclusive("volume.v1"))
	wantErr(t, "TryAcquire", err, kvlock.ErrConflict)
	g := adopt(t, l, "op-1", "d1")
	_, err = l.Save(t.Context(), old, kvlock.Running, nil)
	wantErr(t, "Save", err, kvlock.ErrAdopted)
	if _, err := l.Cancel(t.Context(), "op-1", "user"); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	acquire(t, l, "op-3", kvlock.Exclusive("volume.v1"))
	if err := l.Break(t.Context(), "op-3", "test", kvlock.NothingFenced); err != nil {
		t.Fatal(err)
	}
	want := []kvlock.EventKind{
		kvlock.Acquired, kvlock.Refused, kvlock.Adopted, kvlock.Overtaken, kvlock.Canceled, kvlock.Released,
		kvlock.Acquired, kvlock.Voided, kvlock.Broken,
	}
	if len(events.got) != len(want) {
		t.Fatalf("events %v, want %v", events.got, want)
	}
	for i, e := range events.got {
		if e.Kind != want[i] {
			t.Errorf("event %d is %s, want %s", i, e.Kind, want[i])
		}
		if (e.Kind == kvlock.Released || e.Kind == kvlock.Broken) != (e.Held > 0) && e.Held > time.Millisecond {
			t.Errorf("event %s: held for %v", e.Kind, e.Held)
		}
	}
}

type recorder struct{ got []kvlock.Event }

func (r *recorder) Observe(e kvlock.Event) { r.got = append(r.got, e) }

// A process that knows an old state of a lock must not leave an entry behind when it ends an operation of another one.
func TestEndOnAnOldReadOfALockLeavesNoEntry(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	here, store := kvlock.New(srv.Store(t)), srv.Store(t)
	there := kvlock.New(store)
	claims := []kvlock.Claim{kvlock.Exclusive("volume.v1"), kvlock.Shared("snapshot.s1")}
	if _, err := store.Update(t.Context(), there.Keys("op-1", claims...), func(s kvtx.Snapshot, _ *kvtx.Tx) error {
		_, err := s.Get(kvlock.LockKey("volume.v1")) // known there from now on: free
		return err
	}); err != nil {
		t.Fatal(err)
	}
	acquire(t, here, "op-1", claims...)
	acquire(t, here, "op-2", kvlock.Shared("snapshot.s1"))
	g := adopt(t, there, "op-1", "d1")
	if err := there.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireFree(t, here, "volume.v1")
	kvlocktest.RequireHeld(t, here, "op-2", kvlock.Shared("snapshot.s1"))
	kvlocktest.RequireSound(t, here)
}
