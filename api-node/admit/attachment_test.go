package admit_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

func TestAttachmentFromReserveToDetach(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.newVolume()
	a, rev, err := s.admit.Reserve(t.Context(), alice, v, "", "vm-1", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.view.Wait(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if row, ok := s.view.Attachment(a.ID); !ok || row.Shown != block.AttachReserved || !row.ReadOnly || row.Instance != "vm-1" {
		t.Errorf("reserved: %+v, %v", row, ok)
	}
	if row, _ := s.view.Volume(v); row.Shown != block.VolumeReserved {
		t.Errorf("the volume shows %s", row.Shown)
	}
	_, err = s.admit.CompleteAttachment(t.Context(), alice, a.ID)
	wantRefused(t, err, messages.CodeInvalidAttachment, "Invalid attachment: Attachment "+string(a.ID)+" is reserved: …")
	_, _, err = s.admit.Reserve(t.Context(), alice, v, "", "vm-2", false)
	wantRefused(t, err, messages.CodeInvalidVolume, "Invalid volume: Volume "+string(v)+" status must be available or downloading to reserve, but the current status is reserved.")

	acc := s.submit(&messages.AttachVolume{Volume: v, Attachment: a.ID, Connector: []byte(`{"host":"h"}`)})
	if acc.Resource != string(a.ID) {
		t.Errorf("attached %s, want %s", acc.Resource, a.ID)
	}
	must(0, s.view.Wait(t.Context(), acc.Revision))
	if row, _ := s.view.Attachment(a.ID); row.Shown != block.AttachAttaching || row.Holder == nil || row.Holder.Operation != acc.Operation {
		t.Errorf("while it attaches: %+v", row)
	}
	_, err = s.submitAs(alice, "", &messages.AttachVolume{Volume: v, Attachment: a.ID})
	if e := wantRefused(t, err, messages.CodeUnavailable, "The attachment of volume "+string(v)+" is held by volume.attach, operation "+string(acc.Operation)+", for …"); e.Holder == nil {
		t.Error("the refusal names no holder")
	}
	_, err = s.admit.CompleteAttachment(t.Context(), alice, a.ID)
	wantRefused(t, err, messages.CodeUnavailable, "The attachment of volume "+string(v)+" is held by…")
	_, err = s.submitAs(alice, "", &messages.DetachVolume{Attachment: a.ID})
	wantRefused(t, err, messages.CodeUnavailable, "The attachment of volume "+string(v)+" is held by…")
	s.end(acc.Operation, admittest.Succeed)

	_, err = s.submitAs(alice, "", &messages.AttachVolume{Volume: v, Attachment: a.ID})
	wantRefused(t, err, messages.CodeInvalidAttachment, "Invalid attachment: Attachment "+string(a.ID)+" is attaching already: its connector cannot be changed.")
	for range 2 {
		rev, err := s.admit.CompleteAttachment(t.Context(), alice, a.ID)
		if err != nil || rev == 0 {
			t.Fatalf("complete: %d, %v", rev, err)
		}
		must(0, s.view.Wait(t.Context(), rev))
	}
	if row, _ := s.view.Volume(v); row.Shown != block.VolumeInUse {
		t.Errorf("the volume shows %s", row.Shown)
	}
	ext := s.submit(&messages.ExtendVolume{Volume: v, SizeGiB: 2, AllowAttached: true})
	_, err = s.submitAs(alice, "", &messages.DetachVolume{Attachment: a.ID})
	wantRefused(t, err, messages.CodeUnavailable, "Volume "+string(v)+" is held by volume.extend, operation "+string(ext.Operation)+"…")
	s.end(ext.Operation, admittest.Succeed)

	acc = s.submit(&messages.DetachVolume{Attachment: a.ID})
	must(0, s.view.Wait(t.Context(), acc.Revision))
	if row, _ := s.view.Volume(v); row.Shown != block.VolumeDetaching {
		t.Errorf("the volume shows %s while its only attachment is detached", row.Shown)
	}
	s.end(acc.Operation, admittest.Succeed)
	if row, _ := s.view.Volume(v); row.Shown != block.VolumeAvailable {
		t.Errorf("the volume shows %s", row.Shown)
	}
	// The ID is spent: an update that comes too late makes nothing anew.
	_, err = s.submitAs(alice, "", &messages.AttachVolume{Volume: v, Attachment: a.ID})
	wantRefused(t, err, messages.CodeNotFound, "Volume attachment could not be found with filter: attachment_id = "+string(a.ID)+".")
	_, _, err = s.admit.Reserve(t.Context(), alice, v, a.ID, "vm-1", false)
	wantRefused(t, err, messages.CodeNotFound, "Volume attachment could not be found with filter: attachment_id = "+string(a.ID)+".")
	s.sound()
}

func TestReserveWithoutAnAnswerSaysThatItIsNotKnown(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy, kvtx.WithAckTimeout(200*time.Millisecond))
	v := s.newVolume()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.faults.Arm(kvlocktest.GiveUpAfter, 1, cancel, kvtx.Batch)
	_, _, err := s.admit.Reserve(ctx, alice, v, "", "vm", false)
	wantRefused(t, err, messages.CodeUnavailable, "the store did not answer in time. It is not known whether the change was made: …")
	s.sound()
}

func TestOneInstanceMayMoveBetweenHosts(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.newVolume()
	first := s.newAttachment(v)
	must(s.admit.CompleteAttachment(t.Context(), alice, first))
	second, _, err := s.admit.Reserve(t.Context(), alice, v, "", "vm", false)
	if err != nil {
		t.Fatalf("a second attachment of the same instance: %v", err)
	}
	_, _, err = s.admit.Reserve(t.Context(), alice, v, "", "other", false)
	wantRefused(t, err, messages.CodeInvalidVolume, "Invalid volume: Volume "+string(v)+" status must be available or downloading to reserve, but the current status is in-use.")
	_, err = s.submitAs(alice, "", &messages.AttachVolume{Volume: v, Attachment: second.ID})
	wantRefused(t, err, messages.CodeConflict, "Resource conflict: duplicate connectors detected on volume "+string(v))
}

func TestAttachmentsThatABackendCannotServeAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	s.register(records.Backend{Name: "null", Kind: "null", Zone: "z", Reflink: true}, -1)
	s.register(records.Backend{Name: "sparse", Kind: "file", Zone: "y", KeepsData: true}, -1)
	null := block.VolumeID(s.run(&messages.CreateVolume{SizeGiB: 1, Zone: "z"}, admittest.Succeed).Resource)
	_, err := s.submitAs(alice, "", &messages.AttachVolume{Volume: null})
	wantRefused(t, err, messages.CodeUnsupported, "backend null keeps no data: there is nothing to attach")
	_, _, err = s.admit.Reserve(t.Context(), alice, null, "", "", false)
	wantRefused(t, err, messages.CodeUnsupported, "backend null keeps no data: there is nothing to attach")

	sparse := block.VolumeID(s.run(&messages.CreateVolume{SizeGiB: 1, Zone: "y"}, admittest.Succeed).Resource)
	must(s.admit.CompleteAttachment(t.Context(), alice, s.newAttachment(sparse)))
	for _, r := range []messages.Request{&messages.CreateSnapshot{Volume: sparse, AllowAttached: true}, &messages.CreateVolume{FromVolume: sparse}} {
		_, err = s.submitAs(alice, "", r)
		wantRefused(t, err, messages.CodeInvalidVolume, "Invalid volume: Volume "+string(sparse)+" is attached, and backend sparse cannot copy a volume that is in use: …")
	}
}

func TestNamesChangeInAnyState(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.newVolume()
	n := s.newSnapshot(v)
	s.submit(&messages.CreateVolume{FromSnapshot: n})
	name, text, long := "new", "said", strings.Repeat("ä", 256)
	got, rev, err := s.admit.UpdateVolume(t.Context(), alice, v, patch(&name, nil))
	if err != nil || got.Name != name || got.UpdatedAt.IsZero() {
		t.Fatalf("%+v, %v", got, err)
	}
	must(0, s.view.Wait(t.Context(), rev))
	if row, _ := s.view.Volume(v); row.Name != name {
		t.Errorf("the view shows %q", row.Name)
	}
	snap, _, err := s.admit.UpdateSnapshot(t.Context(), alice, n, patch(nil, &text))
	if err != nil || snap.Description != text || snap.Status != block.SnapshotAvailable {
		t.Fatalf("%+v, %v", snap, err)
	}
	_, _, err = s.admit.UpdateVolume(t.Context(), alice, v, patch(&long, nil))
	wantRefused(t, err, messages.CodeInvalid, "Invalid input for field/attribute name: …")
	bob := alice
	bob.Project = "p2"
	_, _, err = s.admit.UpdateVolume(t.Context(), bob, v, patch(&name, nil))
	wantRefused(t, err, messages.CodeNotFound, "Volume "+string(v)+" could not be found.")
	_, _, err = s.admit.UpdateSnapshot(t.Context(), bob, n, patch(&name, nil))
	wantRefused(t, err, messages.CodeNotFound, "Snapshot "+string(n)+" could not be found.")
	_, _, err = s.admit.UpdateVolume(t.Context(), alice, "no.uuid", patch(&name, nil))
	wantRefused(t, err, messages.CodeNotFound, "Volume no.uuid could not be found.")
	bob.Admin = true
	if _, _, err := s.admit.UpdateVolume(t.Context(), bob, v, patch(&text, nil)); err != nil {
		t.Errorf("an admin of another project: %v", err)
	}
}

// A name that changes while an operation is being submitted does not stop either of them.
func TestNamesAndOperationsAtTheSameMoment(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	for range 10 {
		v := s.newVolume()
		name := "n"
		for _, err := range together(
			func() error { _, _, err := s.admit.UpdateVolume(t.Context(), alice, v, patch(&name, nil)); return err },
			func() error { _, err := s.submitAs(alice, "", &messages.CreateSnapshot{Volume: v}); return err },
			func() error { _, err := s.submitAs(alice, "", &messages.CreateSnapshot{Volume: v}); return err },
		) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := s.volume(v); got.Name != name || len(got.Snapshots) != 2 {
			t.Fatalf("one of the changes was lost: %+v", got)
		}
	}
	s.sound()
}

func patch(name, description *string) admit.Patch {
	return admit.Patch{Name: name, Description: description}
}

// Whoever knows the ID of another project's attachment learns nothing by it, not even which volume it is of.
func TestAttachmentOfAnotherProjectIsNotFound(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	a, _, err := s.admit.Reserve(t.Context(), alice, s.newVolume(), "", "vm-1", false)
	if err != nil {
		t.Fatal(err)
	}
	bob := admit.Caller{Project: "p2", User: "bob"}
	acc, err := s.submitAs(bob, "", &messages.CreateVolume{SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.end(acc.Operation, admittest.Succeed)
	_, err = s.submitAs(bob, "", &messages.AttachVolume{Volume: block.VolumeID(acc.Resource), Attachment: a.ID})
	wantRefused(t, err, messages.CodeNotFound, "Volume attachment could not be found with filter: attachment_id = "+string(a.ID)+".")
}

// The socket of an export is in the file system of the node's machine: any other host would be told that it is attached, and reach
// nothing.
func TestAHostThatDoesNotReachTheVolumeIsRefused(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	s.register(records.Backend{Name: "b1", Kind: "file", Fencing: "node", Reflink: true, KeepsData: true, NodeName: "n1", Hosts: []string{"n1", "vm.example.org"}}, -1)
	s.until("its hosts are in the view", func() bool { b, _ := s.view.Backend("b1"); return len(b.Hosts) == 2 })
	v := s.newVolume()
	a, rev, err := s.admit.Reserve(t.Context(), alice, v, "", "vm-1", false)
	if err != nil {
		t.Fatal(err)
	}
	must(0, s.view.Wait(t.Context(), rev))
	attach := func(id block.AttachmentID, host string) error {
		_, err := s.submitAs(alice, "", &messages.AttachVolume{Volume: v, Attachment: id, Instance: "vm-1", Connector: []byte(`{"ip": "10.0.0.1", "host": "` + host + `"}`)})
		return err
	}
	before := s.bucket()
	for _, id := range []block.AttachmentID{"", a.ID} { // one that is made at once, and the reserved one
		wantRefused(t, attach(id, "othernode"), messages.CodeInvalid, `Invalid input received: host "othernode" does not reach the volume: `+
			"volumes of backend b1 can be attached only on the machine of node n1, whose names are n1, vm.example.org and localhost.")
	}
	if after := s.bucket(); after != before {
		t.Errorf("refused attachments left\n%s\nbefore there was\n%s", after, before)
	}
	if err := attach(a.ID, "VM"); err != nil {
		t.Errorf("the machine itself is refused: %v", err)
	}
}

// A volume is not reserved past an operation that waits for it: that would find it attached when its turn has come.
func TestAReservationDoesNotPassWhoWaits(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.available(1)
	clone := s.submit(&messages.CreateVolume{FromVolume: v}).Operation
	deletion := s.mustQueue(&messages.DeleteVolume{Volume: v}, kvlock.Queued).Operation
	before := s.bucket()
	_, _, err := s.admit.Reserve(t.Context(), alice, v, "", "vm", false)
	wantRefused(t, err, messages.CodeUnavailable, "Volume "+string(v)+" is waited for by volume.delete, operation "+string(deletion)+", for …")
	if s.bucket() != before {
		t.Error("refused, and the bucket changed")
	}
	s.end(clone, admittest.Succeed)
	s.end(deletion, admittest.Succeed)
}
