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
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// TestADetachIsToldToWhereTheVolumeIs: the create found another backend since this node saw the volume.
func TestADetachIsToldToWhereTheVolumeIs(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	there, worker := s.other()
	_ = worker
	acc, err := there.Submit(t.Context(), admit.Submission{Caller: alice, Request: &messages.CreateVolume{SizeGiB: 1}})
	if err != nil {
		t.Fatal(err)
	}
	v := block.VolumeID(acc.Resource)
	name := "renamed while it is being created"
	if _, _, err := s.admit.UpdateVolume(t.Context(), alice, v, patch(&name, nil)); err != nil {
		t.Fatal(err)
	}
	// another process: the create moves to another backend and succeeds there, an attachment is made.
	other, err := kvtx.Open(t.Context(), s.srv.JetStream(t), kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	if err := worker.End(t.Context(), acc.Operation, admittest.Succeed); err != nil {
		t.Fatal(err)
	}
	_, err = other.Update(t.Context(), []string{records.VolumeKey(v)}, func(sn kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := sn.Get(records.VolumeKey(v))
		if err != nil {
			return err
		}
		r, err := records.Decode[block.Volume](e.Value)
		if err != nil {
			return err
		}
		r.Backend = "elsewhere"
		tx.Put(e.Key, records.Encode(r), e.Revision)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	att, _, err := there.Reserve(t.Context(), alice, v, "", "vm", false)
	if err != nil {
		t.Fatal(err)
	}
	det, err := s.submitAs(alice, "", &messages.DetachVolume{Attachment: att.ID})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.store.Get(t.Context(), kvlock.OwnerKey(string(det.Operation)))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := kvlock.DecodeRecord(e)
	if err != nil {
		t.Fatal(err)
	}
	p, err := sagakv.DecodePayload(rec.Payload)
	if err != nil {
		t.Fatal(err)
	}
	op, err := records.Decode[records.Operation](p.Request)
	if err != nil {
		t.Fatal(err)
	}
	now := load[block.Volume](s, records.VolumeKey(v)).Backend
	if op.Backend != now {
		t.Errorf("detach was dispatched to backend %s, the volume is on %s", op.Backend, now)
	}
}
