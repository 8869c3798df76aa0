package admit

import (
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// deletable are the statuses in which a volume may be deleted.
var deletable = map[block.VolumeStatus]bool{
	block.VolumeAvailable: true, block.VolumeError: true, block.VolumeErrorExtending: true,
}

func (d *draft) deleteVolume() error {
	r := *d.p.req.(*messages.DeleteVolume)
	d.req = &r
	v, h, err := d.heldVolume(r.Volume)
	if err != nil {
		return err
	}
	shown, by, err := d.volumeStatus(v.T, h)
	if err != nil {
		return err
	}
	if !deletable[shown] || len(v.T.Attachments) > 0 || len(v.T.Snapshots) > 0 {
		return naming(invalidVolume("Volume status must be available or error or error_restoring or error_extending or error_managing and "+
			"must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, "+
			"or be disassociated from snapshots after volume transfer."), by)
	}
	if h.read() {
		return volumeRead(r.Volume, h, d.p.at)
	}
	d.claimVolume(v)
	return nil
}

// claimVolume rewrites the record of a volume that the operation will have exclusively.
func (d *draft) claimVolume(v found[block.Volume]) {
	v.T.LastOperation = d.p.id
	d.backend = v.T.Backend
	put(d, records.VolumeKey(v.T.ID), v.T, v.rev)
}
