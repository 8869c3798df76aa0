package messages

import (
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// DeleteSnapshot deletes a snapshot. Volumes that were made from it stay.
type DeleteSnapshot struct {
	Snapshot block.SnapshotID `msgpack:"snapshot"`

	// Volume is looked up by admission; what a client says here is overwritten.
	Volume block.VolumeID `msgpack:"volume,omitempty"`
}

// Kind is snapshot.delete.
func (*DeleteSnapshot) Kind() block.Kind { return block.SnapshotDelete }

// Version is 1.
func (*DeleteSnapshot) Version() int { return 1 }

// Resource is the snapshot's ID.
func (r *DeleteSnapshot) Resource() string { return string(r.Snapshot) }

// Validate checks the fields.
func (r *DeleteSnapshot) Validate() error { return checkID("snapshot", string(r.Snapshot)) }

// Claims: the snapshot exclusively.
func (r *DeleteSnapshot) Claims() []kvlock.Claim {
	return []kvlock.Claim{kvlock.Exclusive(records.SnapshotKey(r.Snapshot))}
}
