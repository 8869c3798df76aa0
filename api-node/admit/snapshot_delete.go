package admit

import (
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

func (d *draft) deleteSnapshot() error {
	r := *d.p.req.(*messages.DeleteSnapshot)
	d.req = &r
	s, err := d.snapshot(r.Snapshot)
	if err != nil {
		return err
	}
	h, err := readHeld(d.s, records.SnapshotKey(r.Snapshot))
	if err != nil {
		return err
	}
	if shown := s.T.ShownStatus(h.exclusive()); shown != block.SnapshotAvailable && shown != block.SnapshotError || h.exclusive().Kind != "" {
		return naming(invalidSnapshot("Snapshot status must be available or error and must not be part of a group."), h.onlyExclusive())
	}
	if h.read() {
		return snapshotRead(r.Snapshot, h, d.p.at)
	}
	r.Volume = s.T.Volume
	d.claimSnapshot(s)
	return nil
}
