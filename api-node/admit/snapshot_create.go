package admit

import (
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

func (d *draft) createSnapshot() error {
	r := *d.p.req.(*messages.CreateSnapshot)
	d.req = &r
	v, h, err := d.heldVolume(r.Volume)
	if err != nil {
		return err
	}
	shown, by, err := d.volumeStatus(v.T, h)
	if err != nil {
		return err
	}
	if shown == block.VolumeError {
		return naming(invalidVolume("The snapshot cannot be created when the volume is in error status."), by)
	}
	valid := "available"
	if r.AllowAttached {
		valid = "available, in-use"
	}
	if shown != block.VolumeAvailable && (!r.AllowAttached || shown != block.VolumeInUse) {
		return naming(invalidVolume("Volume %s status must be %s, but current status is: %s.", r.Volume, valid, shown), by)
	}
	if err := d.checkCopy(&v.T); err != nil {
		return err
	}
	if len(v.T.Snapshots) >= block.MaxChildren {
		return invalidVolume("Volume %s has %d snapshots, a volume cannot have more.", r.Volume, len(v.T.Snapshots))
	}
	key := records.SnapshotKey(r.Snapshot)
	rev, err := absent[block.Snapshot](d, key, "Snapshot", string(r.Snapshot))
	if err != nil {
		return err
	}
	r.SizeGiB, r.Backend, d.backend = v.T.SizeGiB, v.T.Backend, v.T.Backend
	if err := d.charge(d.p.caller.Project, snapshotUsage(r.SizeGiB)); err != nil {
		return err
	}
	v.T.AddSnapshot(r.Snapshot)
	put(d, records.VolumeKey(r.Volume), v.T, v.rev)
	put(d, key, block.Snapshot{
		ID: r.Snapshot, Volume: r.Volume, Project: d.p.caller.Project, User: d.p.caller.User, Name: r.Name, Description: r.Description,
		SizeGiB: r.SizeGiB, Metadata: r.Metadata, Status: block.SnapshotCreating, Backend: r.Backend,
		CreatedAt: d.p.at, LastOperation: d.p.id,
	}, rev)
	return nil
}
