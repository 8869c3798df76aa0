package admit_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// fullDisk is a disk that is full once its test says so.
type fullDisk struct {
	full   atomic.Bool
	spared atomic.Int64
}

func (d *fullDisk) Short() error {
	if d.full.Load() {
		return errors.New("the disk of /data is full: make room")
	}
	return nil
}

func (d *fullDisk) Spare() { d.spared.Add(1) }

// On a full disk what needs room is refused before anything is asked of the stream, with the disk's own words; what frees room or ends work
// gets what the disk keeps for it; and what was accepted before is found again.
func TestOnAFullDiskOnlyWhatFreesRoomIsAccepted(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	disk := &fullDisk{}
	s.admit = admit.New(s.store, s.locks, s.view, admit.Defaults{Limits: roomy}, nil, admit.WithDisk(disk))
	v1, v2, v3 := s.newVolume(), s.newVolume(), s.newVolume()
	snapshot := s.newSnapshot(v1)
	attached := block.AttachmentID(s.run(&messages.AttachVolume{Volume: v2, Connector: []byte("{}")}, admittest.Succeed).Resource)
	before := newOp()
	create := &messages.CreateVolume{SizeGiB: 1}
	if _, err := s.submitAs(alice, before, create); err != nil {
		t.Fatal(err)
	}

	reservation := block.AttachmentID(newOp())
	reserve := func() (block.Attachment, error) {
		a, _, err := s.admit.Reserve(t.Context(), alice, v3, reservation, "vm", true)
		return a, err
	}
	reserved := must(reserve())

	disk.full.Store(true)
	refused := func(what string, err error) {
		t.Helper()
		if e, ok := errors.AsType[*messages.Error](err); !ok || e.Code != messages.CodeUnavailable || !strings.Contains(e.Message, "/data is full") {
			t.Errorf("%s on a full disk = %v, want CodeUnavailable in the disk's words", what, err)
		}
	}
	for _, r := range []messages.Request{
		create, &messages.ExtendVolume{Volume: v1, SizeGiB: 2}, &messages.CreateSnapshot{Volume: v1}, &messages.AttachVolume{Volume: v1, Connector: []byte("{}")},
		&messages.RevertVolume{Volume: v1, Snapshot: snapshot},
	} {
		_, err := s.submitAs(alice, "", r)
		refused(string(r.Kind()), err)
		_, err = s.submitAs(alice, newOp(), r)
		refused(string(r.Kind())+" with an ID", err)
	}
	name := "new"
	_, _, err := s.admit.UpdateVolume(t.Context(), alice, v1, admit.Patch{Name: &name})
	refused("rename", err)
	_, _, err = s.admit.Reserve(t.Context(), alice, v1, "", "", false)
	refused("reservation", err)
	if n := disk.spared.Load(); n != 0 {
		t.Errorf("what is kept was given up %d times for what was refused", n)
	}

	if acc, err := s.submitAs(alice, before, create); err != nil || !acc.Repeated {
		t.Errorf("repeated submission = %+v, %v, want the operation that was accepted before", acc, err)
	}
	if a, err := reserve(); err != nil || a.ID != reservation || !a.CreatedAt.Equal(reserved.CreatedAt) {
		t.Errorf("repeated reservation = %+v, %v, want the one that was made before", a, err)
	}
	if err := s.admit.Cancel(t.Context(), alice, before, ""); err != nil {
		t.Errorf("cancel: %v", err)
	}
	for _, r := range []messages.Request{
		&messages.DetachVolume{Attachment: attached}, &messages.DeleteSnapshot{Snapshot: snapshot}, &messages.DeleteVolume{Volume: v1},
	} {
		s.run(r, admittest.Succeed)
	}
	if n := disk.spared.Load(); n != 4 {
		t.Errorf("what is kept was asked for %d times, want 4", n)
	}
}
