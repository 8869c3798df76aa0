package kvlock_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func TestConflictNamesHoldersAndChangesNothing(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	before := time.Now()
	acquire(t, l, "reader-1", kvlock.Shared("snapshot.s1"))
	acquire(t, l, "reader-2", kvlock.Shared("snapshot.s1"), kvlock.Exclusive("volume.v1"))

	_, err := l.TryAcquire(t.Context(), "writer", nil,
		kvlock.Exclusive("snapshot.s1"), kvlock.Shared("volume.v1"), kvlock.Exclusive("volume.v2"))

	wantErr(t, "TryAcquire", err, kvlock.ErrConflict)
	var conflict *kvlock.ConflictError
	if !errors.As(err, &conflict) || len(conflict.Conflicts) != 2 {
		t.Fatalf("error %v, want conflicts on two keys", err)
	}
	on, ok := conflict.On("snapshot.s1")
	if !ok || on.Mode != kvlock.ModeShared || len(on.Holders) != 2 ||
		on.Holders[0].Owner != "reader-1" || on.Holders[1].Owner != "reader-2" || on.Waiter != nil {
		t.Errorf("conflict on snapshot.s1 = %+v", on)
	}
	if since := on.Holders[0].Since; since.Before(before.Truncate(time.Millisecond)) || since.After(time.Now()) {
		t.Errorf("held since %v, want a time since %v", since, before)
	}
	if on, ok := conflict.On("volume.v1"); !ok || on.Mode != kvlock.ModeExclusive || len(on.Holders) != 1 || on.Holders[0].Owner != "reader-2" {
		t.Errorf("conflict on volume.v1 = %+v", on)
	}
	if text := err.Error(); !strings.Contains(text, "operation reader-1 since 20") || !strings.Contains(text, "operation reader-2 since 20") {
		t.Errorf("error %q does not name the holders", text)
	}
	if _, err := l.Record(t.Context(), "writer"); !errors.Is(err, kvlock.ErrNotFound) {
		t.Errorf("record of the refused operation: error %v, want %v", err, kvlock.ErrNotFound)
	}
	kvlocktest.RequireFree(t, l, "volume.v2")
	kvlocktest.RequireSound(t, l)
}

func TestReadersShareAndEachReleaseTakesOnlyItsOwnID(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	grants := make([]kvlock.Grant, 5)
	for i := range grants {
		grants[i] = acquire(t, l, fmt.Sprintf("op-%d", i), kvlock.Shared("snapshot.s1"))
	}
	for i, g := range grants {
		for range 2 { // repeated after a lost answer
			if err := l.Release(t.Context(), g); err != nil {
				t.Fatal(err)
			}
		}
		lock, err := l.Holders(t.Context(), "snapshot.s1")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(lock.Holders), len(grants)-i-1; got != want {
			t.Fatalf("%d holders after %d releases, each twice, want %d", got, i+1, want)
		}
	}
	kvlocktest.RequireFree(t, l)
	kvlocktest.RequireSound(t, l)
}

func TestOneKeyClaimedTwiceIsHeldOnceInTheStrongerMode(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	g := acquire(t, l, "op-1", kvlock.Shared("volume.v1"), kvlock.Exclusive("volume.v1"))
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	if got, want := g.Claims(), []kvlock.Claim{kvlock.Exclusive("volume.v1")}; !reflect.DeepEqual(got, want) {
		t.Errorf("Claims = %v, want %v", got, want)
	}
}

func TestRepeatedTryAcquireReturnsTheSameGrant(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	claims := []kvlock.Claim{kvlock.Exclusive("volume.v1"), kvlock.Shared("snapshot.s1")}
	first := acquire(t, l, "op-1", claims...)
	if again := acquire(t, l, "op-1", claims...); !reflect.DeepEqual(again, first) {
		t.Errorf("repeated grant %+v, want %+v", again, first)
	}

	_, err := l.TryAcquire(t.Context(), "op-1", nil, kvlock.Exclusive("volume.v2"))
	wantErr(t, "TryAcquire with other claims", err, kvlock.ErrExists)

	successor := adopt(t, l, "op-1", "d1")
	_, err = l.TryAcquire(t.Context(), "op-1", nil, claims...)
	wantErr(t, "TryAcquire after a take-over", err, kvlock.ErrExists)

	if err := l.End(t.Context(), successor, kvlock.Done, nil); err != nil {
		t.Fatal(err)
	}
	_, err = l.TryAcquire(t.Context(), "op-1", nil, claims...)
	wantErr(t, "TryAcquire after the end", err, kvlock.ErrExists, kvlock.ErrEnded)
	var exists *kvlock.ExistsError
	if !errors.As(err, &exists) || exists.Record.Phase != kvlock.Done {
		t.Errorf("error %v, want one that carries the ended record", err)
	}
	kvlocktest.RequireFree(t, l)
}

func TestReleaseAfterAdoptKeepsLocks(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	old := acquire(t, l, "op-1", kvlock.Exclusive("volume.v9"))
	adopt(t, l, "op-1", "d1")
	wantErr(t, "Release with a stale grant", l.Release(t.Context(), old), kvlock.ErrAdopted)
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.v9"))
}

func TestStaleGrantsAreRefusedByEveryVerb(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	old := acquire(t, l, "op-1", kvlock.Exclusive("volume.v9"))
	adopt(t, l, "op-1", "d1")
	_, err := l.Save(t.Context(), old, kvlock.Running, []byte("late"))
	wantErr(t, "Save", err, kvlock.ErrAdopted)
	wantErr(t, "End", l.End(t.Context(), old, kvlock.Done, nil), kvlock.ErrAdopted)
	wantErr(t, "Release", l.Release(t.Context(), old), kvlock.ErrAdopted)
	rec, err := l.Check(t.Context(), old)
	wantErr(t, "Check", err, kvlock.ErrAdopted)
	if rec.Epoch != 1 || rec.Worker != "worker-of-d1" || len(rec.Payload) > 0 {
		t.Errorf("record = %+v, want the successor's", rec)
	}
	var adopted *kvlock.AdoptedError
	if !errors.As(err, &adopted) || adopted.Record.Worker != "worker-of-d1" || errors.Is(err, kvlock.ErrVoid) {
		t.Errorf("error %v, want one that names the successor", err)
	}
}

func TestFencesRiseWithEveryTakeOverAndStayKnown(t *testing.T) {
	t.Parallel()
	l := newLocker(t, kvlock.WithEra(7))
	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v9"))
	last := g.Fence()
	for i := range 3 {
		g = adopt(t, l, "op-1", fmt.Sprintf("d%d", i))
		if !last.Less(g.Fence()) || g.Fence().Era != 7 || g.Fence().Rev != uint64(g.Revision()) {
			t.Fatalf("fence %v at revision %d after %v, want a higher one of era 7, the take-over's revision", g.Fence(), g.Revision(), last)
		}
		last = g.Fence()
		if _, err := l.Cancel(t.Context(), "op-1", "user"); err != nil { // another writer right after the take-over
			t.Fatal(err)
		}
		g = save(t, l, g, kvlock.Running, "x")
		if rec := record(t, l, "op-1"); g.Fence() != last || rec.Fence() != last || rec.FenceRev >= uint64(rec.Revision) {
			t.Fatalf("fence of grant %v, of record %v at revision %d, want %v still", g.Fence(), rec.Fence(), rec.Revision, last)
		}
	}
}

func TestGrantOfAnotherEraIsRefused(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	before := kvlock.New(srv.Store(t))
	g := acquire(t, before, "op-1", kvlock.Exclusive("volume.v9"))
	after := kvlock.New(srv.Store(t), kvlock.WithEra(2))
	_, err := after.Save(t.Context(), g, kvlock.Running, nil)
	wantErr(t, "Save", err, kvlock.ErrEra)
	wantErr(t, "Release", after.Release(t.Context(), g), kvlock.ErrEra)
	if next := adopt(t, after, "op-1", "d1"); !g.Fence().Less(next.Fence()) || next.Fence().Era != 2 {
		t.Errorf("fence %v after %v, want one of era 2", next.Fence(), g.Fence())
	}
}

func TestEraOfStreamMetadata(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]uint64{"3": 3, "18446744073709551615": 1<<64 - 1, "0": 0, "x": 0, "": 0, "-1": 0} {
		got, err := kvlock.EraOf(map[string]string{kvlock.EraMetadata: value})
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("EraOf(%q) = %d, %v, want %d", value, got, err, want)
		}
	}
	if got, err := kvlock.EraOf(nil); got != 1 || err != nil {
		t.Errorf("EraOf(nil) = %d, %v, want 1", got, err)
	}
}

func TestAdoptIsDecidedByTheToken(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	acquire(t, l, "op-1", kvlock.Exclusive("volume.v9"))
	first := adopt(t, l, "op-1", "d1")
	if again := adopt(t, l, "op-1", "d1"); !reflect.DeepEqual(again, first) {
		t.Errorf("repeated Adopt with one token = %+v, want %+v", again, first)
	}
	first = save(t, l, first, kvlock.Running, "x")
	if again := adopt(t, l, "op-1", "d1"); !reflect.DeepEqual(again, first) {
		t.Errorf("repeated Adopt after a save = %+v, want %+v", again, first)
	}
	// The same worker with another token: a name decides nothing.
	second, rec, err := l.Adopt(t.Context(), "op-1", "worker-of-d1", "d2")
	if err != nil || second.Epoch() != 2 || rec.Position != 1 || string(rec.Payload) != "x" {
		t.Errorf("Adopt with a new token = %+v, %+v, %v", second, rec, err)
	}
}

func TestAdoptSaysWhyNot(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	_, _, err := l.Adopt(t.Context(), "op-0", "w", "d")
	wantErr(t, "missing", err, kvlock.ErrNotFound)

	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	save(t, l, g, kvlock.Stuck, "why")
	_, rec, err := l.Adopt(t.Context(), "op-1", "w", "d")
	wantErr(t, "stuck", err, kvlock.ErrStuck)
	if string(rec.Payload) != "why" {
		t.Errorf("record = %+v, want the stuck one", rec)
	}
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.v1"))

	if _, err := l.Void(t.Context(), "op-1", "test"); err != nil {
		t.Fatal(err)
	}
	_, _, err = l.Adopt(t.Context(), "op-1", "w", "d")
	wantErr(t, "void", err, kvlock.ErrVoid)

	g = acquire(t, l, "op-2", kvlock.Exclusive("volume.v2"))
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	_, _, err = l.Adopt(t.Context(), "op-2", "w", "d")
	wantErr(t, "ended", err, kvlock.ErrEnded)
	for _, bad := range [][3]string{{"a.b", "w", "d"}, {"op", "", "d"}, {"op", "w", ""}, {"op", "w", strings.Repeat("d", 129)}} {
		if _, _, err := l.Adopt(t.Context(), bad[0], bad[1], bad[2]); !errors.Is(err, kvlock.ErrInvalid) && !errors.Is(err, kvlock.ErrTooLarge) {
			t.Errorf("Adopt(%q): error %v, want %v", bad, err, kvlock.ErrInvalid)
		}
	}
}

func TestSaveKeepsTheCancelAndCountsPositions(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	acquire(t, l, "op-1", kvlock.Exclusive("volume.v9"))
	g := adopt(t, l, "op-1", "d1")
	g = save(t, l, g, kvlock.Running, "one")
	for _, who := range []string{"user-1", "user-2"} {
		if rec, err := l.Cancel(t.Context(), "op-1", who); err != nil || rec.Cancel == nil || rec.Cancel.By != "user-1" {
			t.Fatalf("Cancel(%s) = %+v, %v, want the first wish", who, rec.Cancel, err)
		}
	}
	g = save(t, l, g, kvlock.Undoing, "two")
	rec := record(t, l, "op-1")
	if rec.Cancel == nil || rec.Cancel.By != "user-1" || rec.Position != 2 || rec.Phase != kvlock.Undoing || string(rec.Payload) != "two" {
		t.Errorf("record = %+v", rec)
	}
	if g.Position() != 2 || g.Revision() != rec.Revision {
		t.Errorf("grant at position %d, revision %d, want 2, %d", g.Position(), g.Revision(), rec.Revision)
	}
	if kept, err := l.Save(t.Context(), g, kvlock.Undoing, nil); err != nil || string(record(t, l, "op-1").Payload) != "two" {
		t.Errorf("Save(nil) = %+v, %v, want the payload kept", kept, err)
	}
}

func TestRepeatedSaveIsRecognizedAndAnotherCopyIsBehind(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v9"))
	next := save(t, l, g, kvlock.Running, "one")
	if again := save(t, l, g, kvlock.Running, "one"); !reflect.DeepEqual(again, next) {
		t.Errorf("repeated Save = %+v, want %+v", again, next)
	}
	_, err := l.Save(t.Context(), g, kvlock.Running, []byte("other"))
	wantErr(t, "Save of other progress with the old grant", err, kvlock.ErrBehind)
	save(t, l, next, kvlock.Running, "two")
	_, err = l.Save(t.Context(), g, kvlock.Running, []byte("one"))
	wantErr(t, "Save two positions behind", err, kvlock.ErrBehind)
	wantErr(t, "End two positions behind", l.End(t.Context(), g, kvlock.Done, nil), kvlock.ErrBehind)
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.v9"))
}

func TestIllegalMovesAreRefused(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v9"))
	for _, phase := range []kvlock.Phase{kvlock.Queued, kvlock.Granted, kvlock.Done, kvlock.Undone, kvlock.Void, 0, 99} {
		_, err := l.Save(t.Context(), g, phase, nil)
		wantErr(t, "Save "+phase.String(), err, kvlock.ErrInvalid)
	}
	for _, phase := range []kvlock.Phase{kvlock.Queued, kvlock.Granted, kvlock.Running, kvlock.Undoing, kvlock.Stuck, kvlock.Void, 0} {
		wantErr(t, "End "+phase.String(), l.End(t.Context(), g, phase, nil), kvlock.ErrInvalid)
	}
	g = save(t, l, g, kvlock.Undoing, "back")
	_, err := l.Save(t.Context(), g, kvlock.Running, nil)
	wantErr(t, "forward after undoing began", err, kvlock.ErrInvalid)
	wantErr(t, "done after undoing began", l.End(t.Context(), g, kvlock.Done, nil), kvlock.ErrInvalid)
	g = save(t, l, g, kvlock.Stuck, "stuck")
	wantErr(t, "end of a stuck operation", l.End(t.Context(), g, kvlock.Undone, nil), kvlock.ErrInvalid)
	wantErr(t, "release of a stuck operation", l.Release(t.Context(), g), kvlock.ErrStuck)
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.v9"))
}

func TestEndRemovesTheEntriesAndGivesTheRecordATimeToLive(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store, kvlock.WithRetention(time.Minute)) // less than an hour counts as an hour
	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"), kvlock.Shared("snapshot.s1"))
	entry, err := store.Get(t.Context(), kvlock.OwnerKey("op-1"))
	if err != nil || entry.TTL != 0 {
		t.Errorf("live record has a time to live of %v, %v", entry.TTL, err)
	}
	g = save(t, l, g, kvlock.Undoing, "back")
	for range 2 {
		if err := l.End(t.Context(), g, kvlock.Undone, []byte("final")); err != nil {
			t.Fatal(err)
		}
	}
	kvlocktest.RequireFree(t, l)
	entry, err = store.Get(t.Context(), kvlock.OwnerKey("op-1"))
	if err != nil || entry.TTL != time.Hour {
		t.Errorf("ended record has a time to live of %v, %v, want an hour", entry.TTL, err)
	}
	rec, err := kvlock.DecodeRecord(entry)
	if err != nil || rec.Live() || rec.Phase != kvlock.Undone || string(rec.Payload) != "final" || len(rec.Claims) != 2 {
		t.Errorf("record = %+v, %v", rec, err)
	}
	if err := l.Release(t.Context(), g); err != nil {
		t.Errorf("Release after the end: %v", err)
	}
	_, err = l.Save(t.Context(), g, kvlock.Undoing, nil)
	wantErr(t, "Save after the end", err, kvlock.ErrEnded)
	wantErr(t, "End otherwise", l.End(t.Context(), g, kvlock.Undone, []byte("other")), kvlock.ErrEnded)
	_, err = l.Check(t.Context(), g)
	wantErr(t, "Check after the end", err, kvlock.ErrEnded)
	_, err = l.Cancel(t.Context(), "op-1", "user")
	wantErr(t, "Cancel after the end", err, kvlock.ErrEnded)
	wantErr(t, "Break after the end", l.Break(t.Context(), "op-1", "test", kvlock.NothingFenced), kvlock.ErrEnded)
	kvlocktest.RequireSound(t, l)
}

func TestGrantTravelsAsData(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	here, there := kvlock.New(srv.Store(t)), kvlock.New(srv.Store(t))
	g := acquire(t, here, "op-1", kvlock.Exclusive("volume.v9"), kvlock.Shared("snapshot.s1"))
	data, err := g.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var moved kvlock.Grant
	if err := moved.UnmarshalBinary(data); err != nil || !reflect.DeepEqual(moved, g) {
		t.Fatalf("moved grant %+v, %v, want %+v", moved, err, g)
	}
	if err := there.Release(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireFree(t, here)
}

func TestReuseOfAnOwnerAfterItsRecordExpiredRefusesTheOldGrant(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	l := kvlock.New(store)
	old := acquire(t, l, "op-1", kvlock.Exclusive("volume.v9"))
	if err := l.Release(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	_, err := store.Update(t.Context(), l.Keys("op-1"), func(s kvtx.Snapshot, tx *kvtx.Tx) error { // as the server does later
		e, err := s.Get(kvlock.OwnerKey("op-1"))
		if err == nil {
			tx.Delete(e.Key, e.Revision)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(t.Context(), old); err != nil {
		t.Errorf("Release after the record expired: %v", err)
	}
	wantErr(t, "End after the record expired", l.End(t.Context(), old, kvlock.Done, nil), kvlock.ErrNotFound)
	acquire(t, l, "op-1", kvlock.Exclusive("volume.v9"))
	wantErr(t, "Release with the grant of the first", l.Release(t.Context(), old), kvlock.ErrAdopted)
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.v9"))
}
