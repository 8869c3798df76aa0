package block

import "time"

// SnapshotStatus is the status of a snapshot in the words of the Block Storage API.
type SnapshotStatus string

// Settled: these stand in records.
const (
	SnapshotCreating  SnapshotStatus = "creating"
	SnapshotAvailable SnapshotStatus = "available"
	SnapshotError     SnapshotStatus = "error"
)

// Shown only: derived from the holder.
const (
	SnapshotDeleting      SnapshotStatus = "deleting"
	SnapshotRestoring     SnapshotStatus = "restoring"
	SnapshotErrorDeleting SnapshotStatus = "error_deleting"
)

// Snapshot is the record of one snapshot.
type Snapshot struct {
	ID          SnapshotID        `msgpack:"id"`
	Volume      VolumeID          `msgpack:"volume"`
	Project     string            `msgpack:"project"`
	User        string            `msgpack:"user"`
	Name        string            `msgpack:"name"`
	Description string            `msgpack:"description"`
	SizeGiB     GiB               `msgpack:"size_gib"`
	Metadata    map[string]string `msgpack:"metadata,omitempty"`
	// Status is settled: creating, available or error. What users see is ShownStatus.
	Status        SnapshotStatus `msgpack:"status"`
	Backend       string         `msgpack:"backend"`
	CreatedAt     time.Time      `msgpack:"created_at"`
	UpdatedAt     time.Time      `msgpack:"updated_at"`
	LastOperation OperationID    `msgpack:"last_operation,omitempty"`
	Fault         string         `msgpack:"fault,omitempty"`
}

// ShownStatus is what users see while the holder has the snapshot.
func (s *Snapshot) ShownStatus(h Holder) SnapshotStatus {
	switch h.Kind {
	case SnapshotCreate:
		return pick(h.Stuck, SnapshotError, SnapshotCreating)
	case SnapshotDelete, VolumeDelete: // a cascading delete holds its snapshots
		return pick(h.Stuck, SnapshotErrorDeleting, SnapshotDeleting)
	case VolumeRevert:
		return pick(h.Stuck, SnapshotError, SnapshotRestoring)
	case VolumeCreate, VolumeExtend, VolumeAttach, VolumeDetach: // these hold no snapshot exclusively
		return s.Status
	}
	return s.Status
}
