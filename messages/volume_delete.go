package messages

import (
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// DeleteVolume deletes a volume without snapshots and attachments.
type DeleteVolume struct {
	Volume block.VolumeID `msgpack:"volume"`
}

// Kind is volume.delete.
func (*DeleteVolume) Kind() block.Kind { return block.VolumeDelete }

// Version is 1.
func (*DeleteVolume) Version() int { return 1 }

// Resource is the volume's ID.
func (r *DeleteVolume) Resource() string { return string(r.Volume) }

// Validate checks the fields.
func (r *DeleteVolume) Validate() error { return checkID("volume", string(r.Volume)) }

// Claims: the volume and its attachments exclusively.
func (r *DeleteVolume) Claims() []kvlock.Claim {
	return []kvlock.Claim{kvlock.Exclusive(records.VolumeKey(r.Volume)), kvlock.Exclusive(records.AttachKey(r.Volume))}
}
