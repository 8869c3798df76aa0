package admit_test

import (
	"strings"
	"sync"
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

func TestResumePublishesANewDispatchAndTheOperationEnds(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.newVolume()
	acc := s.run(&messages.DeleteVolume{Volume: v}, admittest.Stick)
	before := s.dispatches()
	if err := s.admit.Resume(t.Context(), alice, acc.Operation, "the array is back"); err != nil {
		t.Fatal(err)
	}
	rec := s.mustRecord(acc.Operation)
	if rec.Phase != kvlock.Running || rec.Dispatch != 2 || s.dispatches() != before+1 {
		t.Errorf("after the resume: phase %s, dispatch %d, %d messages more", rec.Phase, rec.Dispatch, s.dispatches()-before)
	}
	if _, err := s.store.Stream().GetLastMsgForSubject(t.Context(), s.store.DispatchSubject("req", "b1", string(acc.Operation), "2")); err != nil {
		t.Errorf("the new dispatch: %v", err)
	}
	wantRefused(t, s.admit.Resume(t.Context(), alice, acc.Operation, "again"), messages.CodeConflict,
		"operation "+string(acc.Operation)+" is not stuck and cannot be resumed")
	s.end(acc.Operation, admittest.Succeed)
	wantRefused(t, s.admit.Resume(t.Context(), alice, acc.Operation, "again"), messages.CodeConflict,
		"operation "+string(acc.Operation)+" has ended (done) and cannot be resumed")
	s.sound()
}

func TestAbandonReleasesTheLocksAndLeavesAnErrorThatCanBeDeleted(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	volumeIn := func(want block.VolumeStatus) func(string) {
		return func(id string) {
			v := s.volume(block.VolumeID(id))
			if v.Status != want || !strings.Contains(v.Fault, "the array burnt down") {
				t.Errorf("volume %s: status %s, want %s; fault %q", id, v.Status, want, v.Fault)
			}
			s.run(&messages.DeleteVolume{Volume: v.ID}, admittest.Succeed)
		}
	}
	snapshotIn := func(id string) {
		n := load[block.Snapshot](s, "snapshot."+id)
		if n.Status != block.SnapshotError || n.Fault == "" {
			t.Errorf("snapshot %+v", n)
		}
		s.run(&messages.DeleteSnapshot{Snapshot: n.ID}, admittest.Succeed)
	}
	attachmentIn := func(want block.AttachmentStatus) func(string) {
		return func(id string) {
			a := load[block.Attachment](s, "attachment."+id)
			if v := s.volume(a.Volume); a.Status != want || a.Fault == "" || v.Attachments[0].Status != want {
				t.Errorf("attachment %+v of volume %+v", a, v)
			}
			s.run(&messages.DetachVolume{Attachment: a.ID}, admittest.Succeed)
		}
	}
	volume, attached := s.newVolume(), s.newVolume()
	snap := s.newSnapshot(volume)
	att := s.newAttachment(attached)
	for _, c := range []struct {
		req   messages.Request
		check func(string)
	}{
		{&messages.CreateVolume{SizeGiB: 1}, volumeIn(block.VolumeError)},
		{&messages.DeleteVolume{Volume: s.newVolume()}, volumeIn(block.VolumeError)},
		{&messages.ExtendVolume{Volume: s.newVolume(), SizeGiB: 3}, volumeIn(block.VolumeErrorExtending)},
		{&messages.CreateSnapshot{Volume: volume}, snapshotIn},
		{&messages.DeleteSnapshot{Snapshot: snap}, snapshotIn},
		{&messages.AttachVolume{Volume: volume}, attachmentIn(block.AttachErrorAttaching)},
		{&messages.DetachVolume{Attachment: att}, attachmentIn(block.AttachErrorDetaching)},
	} {
		acc := s.run(c.req, admittest.Stick)
		if err := s.admit.Abandon(t.Context(), alice, acc.Operation, "the array burnt down"); err != nil {
			t.Fatalf("%s: %v", c.req.Kind(), err)
		}
		rec := s.mustRecord(acc.Operation)
		if rec.Live() || rec.Phase != kvlock.Void || len(rec.Audit) != 1 || rec.Audit[0].Reason != alice.User+": the array burnt down" {
			t.Errorf("%s: record after it was abandoned: %+v", c.req.Kind(), rec)
		}
		kvlocktest.RequireFree(t, s.locks)
		op, err := s.view.WaitEnded(t.Context(), acc.Operation)
		if err != nil || !op.Ended || op.Phase != "void" || !strings.Contains(op.Error, "the array burnt down") {
			t.Errorf("%s: the view shows %+v, %v", c.req.Kind(), op, err)
		}
		wantRefused(t, s.admit.Abandon(t.Context(), alice, acc.Operation, "again"), messages.CodeConflict,
			"operation "+string(acc.Operation)+" has ended (void) and cannot be abandoned")
		c.check(acc.Resource)
		s.sound()
	}
}

func TestOnlyStuckOperationsAreAbandonedAndOnlyByTheirProject(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	acc := s.submit(&messages.CreateVolume{SizeGiB: 1})
	wantRefused(t, s.admit.Abandon(t.Context(), alice, acc.Operation, "x"), messages.CodeConflict,
		"operation "+string(acc.Operation)+" is granted: only a stuck one can be abandoned; a running one can be canceled")
	wantRefused(t, s.admit.Abandon(t.Context(), alice, acc.Operation, ""), messages.CodeInvalid, "Invalid input for field/attribute reason: …")
	bob := admit.Caller{Project: "p2", User: "bob"}
	no := newOp()
	for name, f := range map[string]func(admit.Caller, block.OperationID) error{
		"cancel":  func(c admit.Caller, id block.OperationID) error { return s.admit.Cancel(t.Context(), c, id, "x") },
		"resume":  func(c admit.Caller, id block.OperationID) error { return s.admit.Resume(t.Context(), c, id, "x") },
		"abandon": func(c admit.Caller, id block.OperationID) error { return s.admit.Abandon(t.Context(), c, id, "x") },
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, f(bob, acc.Operation), messages.CodeNotFound, "Operation "+string(acc.Operation)+" could not be found.")
			wantRefused(t, f(alice, no), messages.CodeNotFound, "Operation "+string(no)+" could not be found.")
			wantRefused(t, f(alice, "x.y"), messages.CodeNotFound, "Operation x.y could not be found.")
		})
	}
	if rec := s.mustRecord(acc.Operation); rec.Phase != kvlock.Granted {
		t.Errorf("the operation is %s after refused verbs", rec.Phase)
	}
}

// A worker that takes a stuck operation up again just before it is voided may still write: the locks stay.
func TestAbandonOfAnOperationThatRunsAgainKeepsTheLocksUntilItIsRepeated(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.newVolume()
	acc := s.run(&messages.DeleteVolume{Volume: v}, admittest.Stick)
	other, err := kvtx.Open(t.Context(), s.srv.JetStream(t), kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	locks := kvlock.New(other)
	var once sync.Once
	hook := func(call kvtx.Call) {
		if call.Kind == kvtx.Write {
			once.Do(func() { // between Abandon's look and its void write
				if err := admit.New(other, locks, s.view, admit.Defaults{}, nil).Resume(t.Context(), alice, acc.Operation, "try"); err != nil {
					t.Errorf("resume: %v", err)
				}
				if _, _, err := locks.Adopt(t.Context(), string(acc.Operation), "w-2", "t-2"); err != nil {
					t.Errorf("adopt: %v", err)
				}
			})
		}
	}
	s.hook.Store(&hook)
	wantRefused(t, s.admit.Abandon(t.Context(), alice, acc.Operation, "lost"), messages.CodeUnavailable,
		"operation "+string(acc.Operation)+" was being worked on again by w-2: …")
	if rec := s.mustRecord(acc.Operation); rec.Phase != kvlock.Void || !rec.Live() {
		t.Errorf("the operation is %s, live %v", rec.Phase, rec.Live())
	}
	lock, err := s.locks.Holders(t.Context(), records.VolumeKey(v))
	if err != nil || !lock.Holds(string(acc.Operation)) {
		t.Errorf("the lock is %+v, %v", lock, err)
	}
	if err := s.admit.Abandon(t.Context(), alice, acc.Operation, "its worker has stopped"); err != nil {
		t.Fatal(err)
	}
	kvlocktest.RequireFree(t, s.locks)
	s.sound()
}

func TestCancelIsAWishInTheRecord(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	acc := s.submit(&messages.CreateVolume{SizeGiB: 1})
	for range 2 {
		if err := s.admit.Cancel(t.Context(), alice, acc.Operation, "not needed"); err != nil {
			t.Fatal(err)
		}
	}
	if rec := s.mustRecord(acc.Operation); rec.Cancel == nil || rec.Cancel.By != "alice: not needed" {
		t.Errorf("cancel in the record: %+v", rec.Cancel)
	}
	s.end(acc.Operation, admittest.Fail)
	wantRefused(t, s.admit.Cancel(t.Context(), alice, acc.Operation, ""), messages.CodeConflict,
		"operation "+string(acc.Operation)+" has ended (undone) and cannot be canceled")
	s.sound()
}
