package admit

import (
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// detachVolume may always be asked for. What has the volume or its attachments at this moment makes it unavailable, not
// wrong: it can be repeated when that has ended.
func (d *draft) detachVolume() error {
	r := *d.p.req.(*messages.DetachVolume)
	d.req = &r
	a, err := read[block.Attachment](d.s, records.AttachmentKey(r.Attachment))
	if err != nil {
		return err
	}
	if !a.exists || !d.p.caller.sees(a.T.Project) {
		return messages.AttachmentNotFound(r.Attachment)
	}
	r.Volume = a.T.Volume
	v, err := read[block.Volume](d.s, records.VolumeKey(r.Volume))
	if err != nil {
		return err
	}
	if !v.exists {
		return messages.VolumeNotFound(r.Volume)
	}
	for _, key := range []string{records.AttachKey(r.Volume), records.VolumeKey(r.Volume)} {
		h, err := d.held(key)
		if err != nil {
			return err
		}
		if h.holder != nil && (!h.read() || key == records.AttachKey(r.Volume)) {
			return busy(resource(key), h, d.p.at)
		}
	}
	a.T.LastOperation = d.p.id
	d.backend = v.T.Backend
	d.check(records.VolumeKey(r.Volume), v.rev) // one that was remembered from before it found its backend names another one
	put(d, records.AttachmentKey(r.Attachment), a.T, a.rev)
	return nil
}
