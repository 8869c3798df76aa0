package admit_test

import (
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// other is a second API node and worker on the same stream, with memories of its own.
func (s *stack) other() (*admit.Admitter, *admittest.Worker) {
	s.t.Helper()
	store, err := kvtx.Open(s.t.Context(), s.srv.JetStream(s.t), kvtx.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = store.Close() })
	locks := kvlock.New(store)
	return admit.New(store, locks, s.view, admit.Defaults{Limits: roomy}, nil), admittest.New(store, locks, "n2")
}

// This node remembers the snapshot and knows nothing of its lock, which is free: as it was before the delete.
func TestARememberedSnapshotIsNoProofThatItIsThere(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	there, worker := s.other()
	ask := func(r messages.Request) admit.Accepted {
		acc, err := there.Submit(t.Context(), admit.Submission{Caller: alice, Request: r})
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.End(t.Context(), acc.Operation, admittest.Succeed); err != nil {
			t.Fatal(err)
		}
		return acc
	}
	v := block.VolumeID(ask(&messages.CreateVolume{SizeGiB: 1}).Resource)
	n := block.SnapshotID(ask(&messages.CreateSnapshot{Volume: v}).Resource)
	name := "remembered"
	if _, _, err := s.admit.UpdateSnapshot(t.Context(), alice, n, patch(&name, nil)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.admit.UpdateVolume(t.Context(), alice, v, patch(&name, nil)); err != nil {
		t.Fatal(err)
	}
	ask(&messages.DeleteSnapshot{Snapshot: n})
	ask(&messages.DeleteVolume{Volume: v})
	_, err := s.submitAs(alice, "", &messages.CreateVolume{FromSnapshot: n})
	wantRefused(t, err, messages.CodeNotFound, "Snapshot "+string(n)+" could not be found.")
	_, err = s.submitAs(alice, "", &messages.CreateVolume{FromVolume: v})
	wantRefused(t, err, messages.CodeNotFound, "Volume "+string(v)+" could not be found.")
	s.sound()
}

// This node remembers that the volume's lock is free and reads the volume's record anew.
func TestARememberedLockIsNoProofThatItIsFree(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	there, _ := s.other()
	v := s.newVolume() // its lock was taken and released by this node
	if _, err := there.Submit(t.Context(), admit.Submission{Caller: alice, Request: &messages.ExtendVolume{Volume: v, SizeGiB: 2}}); err != nil {
		t.Fatal(err)
	}
	name := "read anew"
	if _, _, err := s.admit.UpdateVolume(t.Context(), alice, v, patch(&name, nil)); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.admit.Reserve(t.Context(), alice, v, "", "vm", false)
	wantRefused(t, err, messages.CodeInvalidVolume, "Invalid volume: Volume "+string(v)+" status must be available or downloading to reserve, but the current status is extending.")
	if got := load[block.Volume](s, records.VolumeKey(v)); len(got.Attachments) != 0 {
		t.Errorf("a volume that is being extended has attachments: %+v", got)
	}
}
