package messages

import (
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// CreateVolume makes a volume: empty, from a snapshot, or from another volume.
type CreateVolume struct {
	// Volume is the new volume's ID; admission chooses one where it is empty.
	Volume      block.VolumeID `msgpack:"volume,omitempty"`
	Name        string         `msgpack:"name,omitempty"`
	Description string         `msgpack:"description,omitempty"`
	// SizeGiB may be 0 where there is a source: then it is the source's size.
	SizeGiB  block.GiB         `msgpack:"size_gib,omitempty"`
	Type     string            `msgpack:"type,omitempty"`
	Zone     string            `msgpack:"zone,omitempty"`
	Metadata map[string]string `msgpack:"metadata,omitempty"`
	// At most one of FromSnapshot and FromVolume is set.
	FromSnapshot block.SnapshotID `msgpack:"from_snapshot,omitempty"`
	FromVolume   block.VolumeID   `msgpack:"from_volume,omitempty"`

	// SnapshotVolume and Backend are decided by admission; what a client says here is overwritten.
	SnapshotVolume block.VolumeID `msgpack:"snapshot_volume,omitempty"`
	SourceGiB      block.GiB      `msgpack:"source_gib,omitempty"`
	Backend        string         `msgpack:"backend,omitempty"`
}

// Kind is volume.create.
func (*CreateVolume) Kind() block.Kind { return block.VolumeCreate }

// Version is 1.
func (*CreateVolume) Version() int { return 1 }

// Resource is the volume's ID.
func (r *CreateVolume) Resource() string { return string(r.Volume) }

// Validate checks the fields.
func (r *CreateVolume) Validate() error {
	err := first(
		optionalID("volume", string(r.Volume)), checkText("name", r.Name), checkText("description", r.Description),
		checkText("volume_type", r.Type), checkText("availability_zone", r.Zone), checkMetadata(r.Metadata),
		optionalID("snapshot_id", string(r.FromSnapshot)), optionalID("source_volid", string(r.FromVolume)),
		optionalToken("backend", r.Backend))
	if err != nil {
		return err
	}
	if r.FromSnapshot != "" && r.FromVolume != "" {
		return fieldError("source_volid", "a volume has one source at most: snapshot_id or source_volid")
	}
	if r.SizeGiB == 0 && (r.FromSnapshot != "" || r.FromVolume != "") {
		return nil
	}
	return checkSize("size", r.SizeGiB)
}

// Claims: the new volume exclusively, the source shared.
func (r *CreateVolume) Claims() []kvlock.Claim {
	claims := []kvlock.Claim{kvlock.Exclusive(records.VolumeKey(r.Volume))}
	if r.FromSnapshot != "" {
		claims = append(claims, kvlock.Shared(records.SnapshotKey(r.FromSnapshot)))
	}
	if r.FromVolume != "" {
		claims = append(claims, kvlock.Shared(records.VolumeKey(r.FromVolume)))
	}
	return claims
}
