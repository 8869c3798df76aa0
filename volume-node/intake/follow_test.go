package intake_test

import (
	"math/rand/v2"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// TestWhatWaitsForACreateFollowsIt: a create finds its room on another backend than admission thought, while others stand in line for
// what it makes, and for what those make. All that follow are done there.
func TestWhatWaitsForACreateFollowsIt(t *testing.T) {
	t.Parallel()
	h := newHistory(t, &trouble{rng: rand.New(rand.NewPCG(1, 1))})
	h.serveWakes()
	operationstest.Put(t, h.World, records.PoolKey(backend), func(p *records.Pool) { p.TotalBytes, p.FreeBytes = 0, 0 })
	v, s := h.vols, h.snaps
	attachment := ""
	var ops []block.OperationID
	for _, req := range []messages.Request{
		create(v[0]), create(v[1]), create(v[2]), create(v[5]),
		&messages.DeleteVolume{Volume: v[0]},
		&messages.CreateSnapshot{Volume: v[1], Snapshot: s[1]},
		&messages.CreateVolume{Volume: v[3], FromSnapshot: s[1]},
		&messages.CreateVolume{Volume: v[4], FromVolume: v[1]},
		&messages.RevertVolume{Volume: v[1], Snapshot: s[1]},
		&messages.DeleteSnapshot{Snapshot: s[1]},
		&messages.ExtendVolume{Volume: v[5], SizeGiB: 2},
		&messages.AttachVolume{Volume: v[2]},
	} {
		op, resource := h.queue(req)
		if req.Kind() == block.VolumeAttach {
			attachment = resource
		}
		ops = append(ops, op)
	}
	op, _ := h.queue(&messages.DetachVolume{Attachment: block.AttachmentID(attachment)})
	ops = append(ops, op)
	w := h.worker()
	h.eventually("all have ended", func() bool { return h.helpStuck() == 0 })
	for _, id := range ops {
		if rec := h.record(id); rec.Phase != kvlock.Done {
			op, _ := operationOf(rec)
			t.Errorf("%s of %s is %s, want done: %s", op.Kind, op.Resource, rec.Phase, h.story(records.VolumeKey(block.VolumeID(op.Resource))))
		}
	}
	for n, size := range map[int]block.GiB{1: 1, 2: 1, 3: 1, 4: 1, 5: 2} {
		if vol, _ := operationstest.Get[block.Volume](t, h.World, records.VolumeKey(v[n])); vol.Backend != second || vol.SizeGiB != size || len(vol.Attachments) > 0 {
			t.Errorf("volume %d is %+v; want %d GiB on %s", n, vol, size, second)
		}
	}
	h.requireBooks()
	h.requireNothingLeft(backend, second)
	w.end()
}
