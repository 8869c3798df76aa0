package messages

import (
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// RevertVolume sets a volume's content back to its latest snapshot.
type RevertVolume struct {
	Volume   block.VolumeID   `msgpack:"volume"`
	Snapshot block.SnapshotID `msgpack:"snapshot"`
}

// Kind is volume.revert.
func (*RevertVolume) Kind() block.Kind { return block.VolumeRevert }

// Version is 1.
func (*RevertVolume) Version() int { return 1 }

// Resource is the volume's ID.
func (r *RevertVolume) Resource() string { return string(r.Volume) }

// Validate checks the fields.
func (r *RevertVolume) Validate() error {
	return first(checkID("volume", string(r.Volume)), checkID("snapshot_id", string(r.Snapshot)))
}

// Claims: the volume, its attachments and the snapshot exclusively.
func (r *RevertVolume) Claims() []kvlock.Claim {
	return []kvlock.Claim{kvlock.Exclusive(records.VolumeKey(r.Volume)), kvlock.Exclusive(records.AttachKey(r.Volume)),
		kvlock.Exclusive(records.SnapshotKey(r.Snapshot))}
}
