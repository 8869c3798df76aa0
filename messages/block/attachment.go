package block

import "time"

// AttachmentStatus is the status of an attachment in the words of the Block Storage API.
type AttachmentStatus string

const (
	// AttachReserved: the volume is kept for a host that has not said yet who it is.
	AttachReserved AttachmentStatus = "reserved"
	// AttachAttaching: the volume is exported; the host has not said yet that it uses it.
	AttachAttaching AttachmentStatus = "attaching"
	// AttachAttached: the host uses it.
	AttachAttached AttachmentStatus = "attached"
	// AttachDetaching: the export is being closed. Shown while a detach holds the attachment; never in a record.
	AttachDetaching AttachmentStatus = "detaching"
	// AttachErrorAttaching: the export could not be made.
	AttachErrorAttaching AttachmentStatus = "error_attaching"
	// AttachErrorDetaching: the export could not be closed. Shown while a stuck detach holds the attachment.
	AttachErrorDetaching AttachmentStatus = "error_detaching"
)

// volumeStatus is what an attachment in this status says of its volume.
func (s AttachmentStatus) volumeStatus() VolumeStatus {
	switch s {
	case AttachReserved, AttachErrorAttaching:
		return VolumeReserved
	case AttachAttaching:
		return VolumeAttaching
	case AttachAttached, AttachErrorDetaching:
		return VolumeInUse
	case AttachDetaching:
		return VolumeDetaching
	}
	return VolumeAvailable
}

// Attachment is the record of one attachment.
type Attachment struct {
	ID       AttachmentID     `msgpack:"id"`
	Volume   VolumeID         `msgpack:"volume"`
	Project  string           `msgpack:"project"`
	User     string           `msgpack:"user"`
	Instance string           `msgpack:"instance"`
	Status   AttachmentStatus `msgpack:"status"`
	ReadOnly bool             `msgpack:"read_only"`
	// Connector is what the host said of itself, as JSON; empty while reserved.
	Connector []byte `msgpack:"connector,omitempty"`
	// Connection says how the host reaches the volume; set once it is exported.
	Connection    *Connection `msgpack:"connection,omitempty"`
	CreatedAt     time.Time   `msgpack:"created_at"`
	AttachedAt    time.Time   `msgpack:"attached_at"`
	UpdatedAt     time.Time   `msgpack:"updated_at"`
	LastOperation OperationID `msgpack:"last_operation,omitempty"`
	Fault         string      `msgpack:"fault,omitempty"`
}

// Connection says how a host reaches an exported volume.
type Connection struct {
	// Driver is the driver_volume_type of the Block Storage API, such as "nbd".
	Driver string `msgpack:"driver"`
	// URI names the export, such as nbd+unix:///EXPORT?socket=PATH.
	URI    string `msgpack:"uri"`
	Socket string `msgpack:"socket"`
	Export string `msgpack:"export"`
	Node   string `msgpack:"node"`
}

// ShownStatus is what users see while the holder has the attachment's key.
func (a *Attachment) ShownStatus(h Holder) AttachmentStatus { return a.Status.shown(h) }

func (s AttachmentStatus) shown(h Holder) AttachmentStatus {
	switch h.Kind {
	case VolumeAttach:
		return pick(h.Stuck, AttachErrorAttaching, AttachAttaching)
	case VolumeDetach:
		return pick(h.Stuck, AttachErrorDetaching, AttachDetaching)
	case VolumeCreate, VolumeDelete, VolumeExtend, VolumeRevert, SnapshotCreate, SnapshotDelete:
		return s
	}
	return s
}
