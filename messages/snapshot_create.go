package messages

import (
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// CreateSnapshot keeps a volume's content of one moment.
type CreateSnapshot struct {
	// Snapshot is the new snapshot's ID; admission chooses one where it is empty.
	Snapshot    block.SnapshotID  `msgpack:"snapshot,omitempty"`
	Volume      block.VolumeID    `msgpack:"volume"`
	Name        string            `msgpack:"name,omitempty"`
	Description string            `msgpack:"description,omitempty"`
	Metadata    map[string]string `msgpack:"metadata,omitempty"`
	// AllowAttached: the volume may be in use.
	AllowAttached bool `msgpack:"allow_attached,omitempty"`

	// SizeGiB and Backend are the volume's at admission; what a client says here is overwritten.
	SizeGiB block.GiB `msgpack:"size_gib,omitempty"`
	Backend string    `msgpack:"backend,omitempty"`
}

// Kind is snapshot.create.
func (*CreateSnapshot) Kind() block.Kind { return block.SnapshotCreate }

// Version is 1.
func (*CreateSnapshot) Version() int { return 1 }

// Resource is the snapshot's ID.
func (r *CreateSnapshot) Resource() string { return string(r.Snapshot) }

// Validate checks the fields.
func (r *CreateSnapshot) Validate() error {
	return first(optionalID("snapshot", string(r.Snapshot)), checkID("volume_id", string(r.Volume)), checkText("name", r.Name),
		checkText("description", r.Description), checkMetadata(r.Metadata), optionalToken("backend", r.Backend))
}

// Claims: the new snapshot exclusively, the volume shared.
func (r *CreateSnapshot) Claims() []kvlock.Claim {
	return []kvlock.Claim{kvlock.Exclusive(records.SnapshotKey(r.Snapshot)), kvlock.Shared(records.VolumeKey(r.Volume))}
}
