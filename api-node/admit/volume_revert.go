package admit

import (
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// revertVolume goes back to the latest snapshot only. A wrong state is 409 here, as in Cinder, readers are 400.
func (d *draft) revertVolume() error {
	r := *d.p.req.(*messages.RevertVolume)
	d.req = &r
	v, err := d.volume(r.Volume)
	if err != nil {
		return err
	}
	if len(v.T.Snapshots) == 0 {
		return messages.Errorf(messages.CodeInvalid, "Volume %s doesn't have any snapshots.", r.Volume)
	}
	if latest := v.T.Snapshots[len(v.T.Snapshots)-1]; r.Snapshot != latest {
		return messages.Errorf(messages.CodeInvalid, "Specified snapshot %s is None or not the latest one of volume %s.", r.Snapshot, r.Volume)
	}
	s, err := d.snapshot(r.Snapshot)
	if err != nil {
		return err
	}
	if v.T.SizeGiB != s.T.SizeGiB {
		return messages.Errorf(messages.CodeInvalid, "Can't revert volume %s to its latest snapshot %s. The volume size must be equal to the snapshot size.",
			r.Volume, r.Snapshot)
	}
	hv, err := d.held(records.VolumeKey(r.Volume))
	if err != nil {
		return err
	}
	hs, err := d.held(records.SnapshotKey(r.Snapshot))
	if err != nil {
		return err
	}
	shown, by, err := d.volumeStatus(v.T, hv)
	if err != nil {
		return err
	}
	switch {
	case shown != block.VolumeAvailable:
		return naming(messages.Errorf(messages.CodeConflict, "Invalid volume: Can't revert volume %s to its latest snapshot %s. "+
			"Volume's status must be 'available'.", r.Volume, r.Snapshot), by)
	case d.snapshotStatus(s.T, hs) != block.SnapshotAvailable:
		return naming(messages.Errorf(messages.CodeConflict, "Invalid snapshot: Can't revert volume %s to its latest snapshot %s. "+
			"Snapshot's status must be 'available'.", r.Volume, r.Snapshot), hs.onlyExclusive())
	case hv.read():
		return volumeRead(r.Volume, hv, d.p.at)
	case hs.read():
		return snapshotRead(r.Snapshot, hs, d.p.at)
	}
	d.claimVolume(v)
	d.claimSnapshot(s)
	return nil
}

// claimSnapshot rewrites the record of a snapshot that the operation will have exclusively.
func (d *draft) claimSnapshot(s found[block.Snapshot]) {
	s.T.LastOperation = d.p.id
	d.backend = s.T.Backend
	put(d, records.SnapshotKey(s.T.ID), s.T, s.rev)
}
