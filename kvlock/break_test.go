package kvlock_test

import (
	"context"
	"errors"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
)

func TestBreakFencesWithTheRevisionOfItsOwnWriteBeforeItReleases(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"), kvlock.Shared("snapshot.s1"))
	var raised kvlock.Fence
	err := l.Break(t.Context(), "op-1", "node burnt down", func(ctx context.Context, rec kvlock.Record, f kvlock.Fence) error {
		raised = f
		// At this moment the worker is out and the locks are held still.
		_, err := l.Save(ctx, g, kvlock.Running, []byte("late"))
		wantErr(t, "the worker's save during the break", err, kvlock.ErrAdopted, kvlock.ErrVoid)
		_, _, err = l.Adopt(ctx, "op-1", "w", "d")
		wantErr(t, "a take-over during the break", err, kvlock.ErrVoid)
		kvlocktest.RequireHeld(t, l, "op-1", g.Claims()...)
		if now := record(t, l, "op-1"); uint64(now.Revision) != f.Rev || rec.Epoch != 1 {
			t.Errorf("fence %v, epoch %d; want the void write's revision %d, epoch 1", f, rec.Epoch, now.Revision)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !g.Fence().Less(raised) {
		t.Errorf("fence raised to %v, the worker has %v", raised, g.Fence())
	}
	kvlocktest.RequireFree(t, l)
	kvlocktest.RequireSound(t, l)
	rec := record(t, l, "op-1")
	if rec.Phase != kvlock.Void || rec.Live() || len(rec.Audit) != 1 || rec.Audit[0].Reason != "node burnt down" ||
		rec.Audit[0].Action != "break" || rec.Audit[0].Phase != kvlock.Running {
		t.Errorf("record = %+v, want it void, ended and with an audit", rec)
	}
	// A successor's fence is higher than the break's.
	if next := acquire(t, l, "op-2", kvlock.Exclusive("volume.v1")); !raised.Less(next.Fence()) {
		t.Errorf("fence of the next %v, of the break %v", next.Fence(), raised)
	}
	wantErr(t, "the worker's release after the break", l.Release(t.Context(), g), kvlock.ErrAdopted, kvlock.ErrVoid, kvlock.ErrEnded)
}

func TestRepeatedBreakUsesTheRevisionThatItFinds(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	g := acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	unreachable := errors.New("backend unreachable")
	var fences []kvlock.Fence
	raise := func(_ context.Context, _ kvlock.Record, f kvlock.Fence) error {
		fences = append(fences, f)
		if len(fences) < 3 {
			return unreachable
		}
		return nil
	}
	for range 2 {
		wantErr(t, "Break while the fence cannot be raised", l.Break(t.Context(), "op-1", "test", raise), unreachable)
		kvlocktest.RequireHeld(t, l, "op-1", g.Claims()...)
		kvlocktest.RequireSound(t, l)
	}
	for range 2 { // the second one finds it broken
		if err := l.Break(t.Context(), "op-1", "test", raise); err != nil {
			t.Fatal(err)
		}
	}
	if len(fences) != 3 || fences[0] != fences[1] || fences[1] != fences[2] {
		t.Errorf("fences %v, want one and the same three times", fences)
	}
	if rec := record(t, l, "op-1"); rec.Epoch != 1 || len(rec.Audit) != 1 {
		t.Errorf("epoch %d, %d audits, want one of each", rec.Epoch, len(rec.Audit))
	}
	kvlocktest.RequireFree(t, l)
}

func TestBreakOfAStuckOperationKeepsOthersEntries(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	save(t, l, acquire(t, l, "op-1", kvlock.Shared("snapshot.s1")), kvlock.Stuck, "stuck")
	acquire(t, l, "op-2", kvlock.Shared("snapshot.s1"))
	if err := l.Break(t.Context(), "op-1", "given up", kvlock.NothingFenced); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireHeld(t, l, "op-2", kvlock.Shared("snapshot.s1"))
	kvlocktest.RequireSound(t, l)
}

func TestBreakRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	l := newLocker(t)
	acquire(t, l, "op-1", kvlock.Exclusive("volume.v1"))
	wantErr(t, "Break without a way to fence", l.Break(t.Context(), "op-1", "test", nil), kvlock.ErrInvalid)
	wantErr(t, "Break of a missing one", l.Break(t.Context(), "op-2", "test", kvlock.NothingFenced), kvlock.ErrNotFound)
	wantErr(t, "Break of a bad ID", l.Break(t.Context(), "op.2", "test", kvlock.NothingFenced), kvlock.ErrInvalid)
	wantErr(t, "Break with a novel", l.Break(t.Context(), "op-1", string(make([]byte, 1025)), kvlock.NothingFenced), kvlock.ErrTooLarge)
	kvlocktest.RequireHeld(t, l, "op-1", kvlock.Exclusive("volume.v1"))
}
