package admit

import (
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

func (d *draft) deleteSnapshot() error {
	r := *d.p.req.(*messages.DeleteSnapshot)
	d.req = &r
	s, h, err := d.heldSnapshot(r.Snapshot)
	if err != nil {
		return err
	}
	if shown := d.snapshotStatus(s.T, h); shown != block.SnapshotAvailable && shown != block.SnapshotError || h.exclusive().Kind != "" {
		return naming(invalidSnapshot("Snapshot status must be available or error and must not be part of a group."), h.onlyExclusive())
	}
	if h.read() {
		return snapshotRead(r.Snapshot, h, d.p.at)
	}
	r.Volume = s.T.Volume
	d.claimSnapshot(s)
	return nil
}
