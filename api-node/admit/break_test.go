package admit_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// backends is the way to the backends of a test.
type backends struct {
	raise func(backend string, id block.OperationID) error
}

func (b *backends) RaiseFence(_ context.Context, backend string, id block.OperationID) error {
	return b.raise(backend, id)
}

// breaking is admission that raises fences so.
func (s *stack) breaking(raise func(backend string, id block.OperationID) error) *admit.Admitter {
	return admit.New(s.store, s.locks, s.view, admit.Defaults{}, nil, admit.WithFences(&backends{raise}))
}

func brk(id block.VolumeID) admit.Break {
	return admit.Break{Keys: []string{records.VolumeKey(id)}, Reason: "the array burnt down"}
}

func TestABreakRaisesTheFenceAndHandsTheLocksOn(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.available(1)
	extend := s.submit(&messages.ExtendVolume{Volume: v, SizeGiB: 2}).Operation
	snapshot := s.mustQueue(&messages.CreateSnapshot{Volume: v}, kvlock.Queued)
	raised := 0
	a := s.breaking(func(backend string, id block.OperationID) error {
		raised++
		if rec := s.mustRecord(id); backend != "b1" || id != extend || rec.Phase != kvlock.Void || !rec.Live() {
			t.Errorf("fence of %s at %s, whose record is %+v; want it void, with its locks", id, backend, rec)
		}
		kvlocktest.RequireHeld(t, s.locks, string(id), kvlock.Exclusive(records.VolumeKey(v)))
		return nil
	})
	_, err := a.Break(t.Context(), alice, brk(v))
	wantRefused(t, err, messages.CodeConflict, "operation "+string(extend)+" is granted and gives its locks back at its end (volume.extend, operation "+string(extend)+"…")
	if raised != 0 || !s.mustRecord(extend).Live() {
		t.Fatalf("a break that was refused raised %d fences", raised)
	}
	b := brk(v)
	b.Force = true
	id, err := a.Break(t.Context(), alice, b)
	if err != nil || id != extend || raised != 1 {
		t.Fatalf("break = %s, %v, after %d fences; want %s and 1", id, err, raised, extend)
	}
	rec := s.mustRecord(extend)
	if rec.Live() || len(rec.Audit) != 1 || rec.Audit[0].Action != "break" || rec.Audit[0].Reason != "alice: the array burnt down" || rec.Audit[0].At.IsZero() {
		t.Errorf("record %+v, want it ended, with who broke it and why", rec)
	}
	if v := s.volume(v); v.Status != block.VolumeErrorExtending || !strings.Contains(v.Fault, "was broken: the array burnt down") {
		t.Errorf("volume %+v", v)
	}
	if rec := s.mustRecord(snapshot.Operation); rec.Phase != kvlock.Granted {
		t.Errorf("who waited is %s, want it granted", rec.Phase)
	}
	if op, err := s.view.WaitEnded(t.Context(), extend); err != nil || op.Error != "broken: alice: the array burnt down" {
		t.Errorf("shown as %+v, %v", op, err)
	}
}

func TestABreakIsGoneOnWithWhenTheFenceCanBeRaised(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.available(1)
	extend := s.run(&messages.ExtendVolume{Volume: v, SizeGiB: 2}, admittest.Stick).Operation
	away := errors.New("node n1 does not answer")
	fail := away
	a := s.breaking(func(string, block.OperationID) error { return fail })
	for range 2 {
		id, err := a.Break(t.Context(), alice, brk(v)) // a stuck one needs no force, nor does a void one
		wantRefused(t, err, messages.CodeUnavailable, "operation "+string(extend)+" is void: nobody goes on with it; but its locks are still held…")
		if id != extend {
			t.Errorf("the error is of operation %q", id)
		}
		kvlocktest.RequireHeld(t, s.locks, string(extend), kvlock.Exclusive(records.VolumeKey(v)))
	}
	if rec := s.mustRecord(extend); len(rec.Audit) != 1 {
		t.Errorf("audits %+v, want one", rec.Audit)
	}
	fail = nil
	if _, err := a.Break(t.Context(), alice, brk(v)); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireFree(t, s.locks)
	_, err := a.Break(t.Context(), alice, brk(v))
	wantRefused(t, err, messages.CodeConflict, "nobody holds volume."+string(v)+": there is nothing to break")
}

func TestABreakNamesWhoseLocks(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.available(1)
	one := s.submit(&messages.CreateVolume{FromVolume: v}).Operation
	two := s.submit(&messages.CreateVolume{FromVolume: v}).Operation
	a := s.breaking(func(string, block.OperationID) error { return nil })
	b := brk(v)
	b.Force = true
	_, err := a.Break(t.Context(), alice, b)
	wantRefused(t, err, messages.CodeConflict, "volume."+string(v)+" is held by 2 operations: say whose lock is to be broken: "+string(one)+", "+string(two))
	b.Operation = newOp()
	_, err = a.Break(t.Context(), alice, b)
	wantRefused(t, err, messages.CodeConflict, "operation "+string(b.Operation)+" does not hold volume."+string(v))
	b.Operation = two
	if id, err := a.Break(t.Context(), alice, b); err != nil || id != two {
		t.Fatalf("break = %s, %v", id, err)
	}
	kvlocktest.RequireHeld(t, s.locks, string(one), kvlock.Shared(records.VolumeKey(v)))
	b.Reason = ""
	_, err = a.Break(t.Context(), alice, b)
	wantRefused(t, err, messages.CodeInvalid, "Invalid input for field/attribute reason: say why the lock is broken")
}

func TestALockOfNobodyIsMended(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.available(1)
	extend := s.submit(&messages.ExtendVolume{Volume: v, SizeGiB: 2}).Operation
	var tx kvtx.Tx // what only a corruption does
	tx.Delete(kvlock.OwnerKey(string(extend)), s.mustRecord(extend).Revision)
	if _, err := s.store.Commit(t.Context(), &tx); err != nil {
		t.Fatal(err)
	}
	a := s.breaking(func(string, block.OperationID) error {
		t.Error("there is nothing to fence")
		return nil
	})
	if id, err := a.Break(t.Context(), alice, brk(v)); err != nil || id != extend {
		t.Fatalf("break = %s, %v; want %s", id, err, extend)
	}
	kvlocktest.RequireFree(t, s.locks)
}
