package intake_test

import (
	"cmp"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// request is one of those that clients make: mostly one that makes sense as things stand, now and then any.
func (h *history) request() messages.Request {
	v := h.vols[h.x.intn(len(h.vols))]
	vol, there := peek[block.Volume](h, records.VolumeKey(v))
	switch {
	case h.x.intn(8) == 0:
		return h.any(v)
	case !there:
		return h.newVolume(v)
	case len(vol.Attachments) > 0 && h.x.intn(2) == 0:
		return &messages.DetachVolume{Attachment: vol.Attachments[0].ID}
	case vol.Status == block.VolumeAvailable:
		return h.change(vol)
	case len(vol.Snapshots) > 0:
		return &messages.DeleteSnapshot{Snapshot: vol.Snapshots[0]}
	}
	return &messages.DeleteVolume{Volume: v}
}

// change is a request for a volume that is there.
func (h *history) change(vol block.Volume) messages.Request {
	reqs := []messages.Request{&messages.CreateSnapshot{Volume: vol.ID, Snapshot: h.freeSnapshot(), AllowAttached: true}}
	if vol.SizeGiB < 4 {
		reqs = append(reqs, &messages.ExtendVolume{Volume: vol.ID, SizeGiB: vol.SizeGiB + 1, AllowAttached: true})
	}
	if n := len(vol.Snapshots); n > 0 {
		reqs = append(reqs, &messages.DeleteSnapshot{Snapshot: vol.Snapshots[h.x.intn(n)]})
	}
	if len(vol.Attachments) > 0 {
		return reqs[h.x.intn(len(reqs))]
	}
	reqs = append(reqs, &messages.AttachVolume{Volume: vol.ID, ReadOnly: h.x.intn(4) == 0})
	if n := len(vol.Snapshots); n > 0 {
		reqs = append(reqs, &messages.RevertVolume{Volume: vol.ID, Snapshot: vol.Snapshots[n-1]})
	} else {
		reqs = append(reqs, &messages.DeleteVolume{Volume: vol.ID})
	}
	return reqs[h.x.intn(len(reqs))]
}

func (h *history) newVolume(v block.VolumeID) messages.Request {
	from, s := h.vols[h.x.intn(len(h.vols))], h.snaps[h.x.intn(len(h.snaps))]
	if snap, there := peek[block.Snapshot](h, records.SnapshotKey(s)); there && snap.Status == block.SnapshotAvailable && h.x.intn(2) == 0 {
		return &messages.CreateVolume{Volume: v, FromSnapshot: s}
	}
	if vol, there := peek[block.Volume](h, records.VolumeKey(from)); there && vol.Status == block.VolumeAvailable && len(vol.Attachments) == 0 && h.x.intn(2) == 0 {
		return &messages.CreateVolume{Volume: v, FromVolume: from}
	}
	return &messages.CreateVolume{Volume: v, SizeGiB: 1}
}

// any is a request that may be wrong in every way.
func (h *history) any(v block.VolumeID) messages.Request {
	from, s := h.vols[h.x.intn(len(h.vols))], h.snaps[h.x.intn(len(h.snaps))]
	reqs := []messages.Request{
		&messages.CreateVolume{Volume: v, SizeGiB: 1}, &messages.CreateVolume{Volume: v, FromSnapshot: s}, &messages.CreateVolume{Volume: v, FromVolume: from},
		&messages.DeleteVolume{Volume: v}, &messages.ExtendVolume{Volume: v, SizeGiB: block.GiB(2 + h.x.intn(3))},
		&messages.CreateSnapshot{Volume: v, Snapshot: s}, &messages.DeleteSnapshot{Snapshot: s}, &messages.RevertVolume{Volume: v, Snapshot: s},
		&messages.AttachVolume{Volume: v}, &messages.DetachVolume{Attachment: cmp.Or(h.attachment(), block.AttachmentID(newID()))},
	}
	return reqs[h.x.intn(len(reqs))]
}

// peek reads a record as it stands now.
func peek[T records.Record](h *history, key string) (T, bool) {
	var r T
	e, err := h.Store.Get(h.t.Context(), key)
	if err == nil && e.Exists {
		r, err = records.Decode[T](e.Value)
	}
	if err != nil {
		h.t.Errorf("%s: %v", key, err)
	}
	return r, err == nil && e.Exists
}

// freeSnapshot is an ID that has no record now, or any.
func (h *history) freeSnapshot() block.SnapshotID {
	at := h.x.intn(len(h.snaps))
	for i := range h.snaps {
		id := h.snaps[(at+i)%len(h.snaps)]
		if _, there := peek[block.Snapshot](h, records.SnapshotKey(id)); !there {
			return id
		}
	}
	return h.snaps[at]
}

// attachment is one of a random volume, if it has any.
func (h *history) attachment() block.AttachmentID {
	vol, _ := peek[block.Volume](h, records.VolumeKey(h.vols[h.x.intn(len(h.vols))]))
	if n := len(vol.Attachments); n > 0 {
		return vol.Attachments[h.x.intn(n)].ID
	}
	return ""
}

func operationOf(rec kvlock.Record) (records.Operation, error) {
	p, err := sagakv.DecodePayload(rec.Payload)
	if err != nil {
		return records.Operation{}, err
	}
	return records.Decode[records.Operation](p.Request)
}
