package admit_test

import (
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// Every kind: what the accepting commit leaves in the records.
func TestAcceptedRequestIsOneCommitOfEverything(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	src := s.newVolume()
	snap := s.newSnapshot(src)
	before := s.dispatches()

	acc := s.submit(&messages.CreateVolume{Name: "a", FromSnapshot: snap, SizeGiB: 3})
	kvlocktest.RequireHeld(t, s.locks, string(acc.Operation),
		kvlock.Exclusive("volume."+acc.Resource), kvlock.Shared(records.SnapshotKey(snap)))
	v := s.volume(block.VolumeID(acc.Resource))
	if v.Status != block.VolumeCreating || v.ChargedGiB != 3 || v.ReservedGiB != 0 || v.Backend != "b1" || v.LastOperation != acc.Operation ||
		v.Project != "p1" || v.User != "alice" || v.FromSnapshot != snap || v.Zone != "nova" || v.Type != "__DEFAULT__" {
		t.Errorf("volume record %+v", v)
	}
	msg, err := s.store.Stream().GetLastMsgForSubject(t.Context(), s.store.DispatchSubject("req", "b1", string(acc.Operation), "1"))
	if err != nil {
		t.Fatalf("dispatch: %v", err)
	}
	if op := s.mustRecord(acc.Operation); uint64(op.Revision) >= msg.Sequence {
		t.Errorf("the dispatch (%d) stands before the operation record (%d)", msg.Sequence, op.Revision)
	}
	if got := s.dispatches() - before; got != 1 {
		t.Errorf("%d dispatches, want 1", got)
	}
	if err := s.view.Wait(t.Context(), acc.Revision); err != nil {
		t.Fatal(err)
	}
	if row, ok := s.view.Volume(block.VolumeID(acc.Resource)); !ok || row.Shown != block.VolumeCreating || row.Holder == nil || row.Holder.Operation != acc.Operation {
		t.Errorf("after Wait(Revision) the view shows %+v, %v", row, ok)
	}
	if op, ok := s.view.Operation(acc.Operation); !ok || op.Kind != block.VolumeCreate || op.Backend != "b1" || op.User != "alice" {
		t.Errorf("after Wait(Revision) the view shows operation %+v, %v", op, ok)
	}
	s.end(acc.Operation, admittest.Succeed)
	clone := block.VolumeID(acc.Resource)

	acc = s.submit(&messages.ExtendVolume{Volume: clone, SizeGiB: 7})
	if v := s.volume(clone); v.ChargedGiB != 7 || v.SizeGiB != 3 || v.LastOperation != acc.Operation || v.Status != block.VolumeAvailable {
		t.Errorf("volume while it is extended %+v", v)
	}
	s.end(acc.Operation, admittest.Succeed)

	acc = s.submit(&messages.CreateSnapshot{Volume: clone, Name: "s"})
	id := block.SnapshotID(acc.Resource)
	if v, n := s.volume(clone), load[block.Snapshot](s, records.SnapshotKey(id)); !v.HasSnapshot(id) || n.Status != block.SnapshotCreating || n.SizeGiB != 7 || n.Backend != "b1" {
		t.Errorf("volume %+v, snapshot %+v", v, n)
	}
	s.end(acc.Operation, admittest.Succeed)

	acc = s.submit(&messages.RevertVolume{Volume: clone, Snapshot: id})
	if n := load[block.Snapshot](s, records.SnapshotKey(id)); n.LastOperation != acc.Operation || s.volume(clone).LastOperation != acc.Operation {
		t.Error("a revert does not write the records that it claims")
	}
	kvlocktest.RequireHeld(t, s.locks, string(acc.Operation), kvlock.Exclusive(records.VolumeKey(clone)),
		kvlock.Exclusive(records.SnapshotKey(id)), kvlock.Exclusive(records.AttachKey(clone)))
	s.end(acc.Operation, admittest.Succeed)

	acc = s.submit(&messages.AttachVolume{Volume: clone, Instance: "vm", ReadOnly: true, Connector: []byte(`{"host":"h"}`)})
	a := load[block.Attachment](s, "attachment."+acc.Resource)
	if v := s.volume(clone); len(v.Attachments) != 1 || v.Attachments[0].Status != block.AttachReserved || a.Status != block.AttachReserved || !a.ReadOnly ||
		string(a.Connector) != `{"host":"h"}` || a.Instance != "vm" || a.LastOperation != acc.Operation {
		t.Errorf("volume %+v, attachment %+v", v, a)
	}
	s.end(acc.Operation, admittest.Succeed)

	acc = s.submit(&messages.DetachVolume{Attachment: a.ID})
	kvlocktest.RequireHeld(t, s.locks, string(acc.Operation), kvlock.Exclusive(records.AttachKey(clone)), kvlock.Shared(records.VolumeKey(clone)))
	s.end(acc.Operation, admittest.Succeed)
	s.run(&messages.DeleteSnapshot{Snapshot: id}, admittest.Succeed)
	s.run(&messages.DeleteVolume{Volume: clone}, admittest.Succeed)
	s.sound()
	if got, want := s.usage("p1"), (records.Usage{Volumes: 1, Snapshots: 1, GiB: 2}); got != want {
		t.Errorf("usage %+v, want %+v", got, want)
	}
	kvlocktest.RequireFree(t, s.locks)
}

func (s *stack) usage(project string) records.Usage {
	_, use := s.view.Quota(project)
	return use
}

func (s *stack) mustRecord(id block.OperationID) kvlock.Record {
	s.t.Helper()
	rec, err := s.locks.Record(s.t.Context(), string(id))
	if err != nil {
		s.t.Fatal(err)
	}
	return rec
}
