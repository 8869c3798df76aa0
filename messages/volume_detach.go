package messages

import (
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// DetachVolume cuts a host off a volume and removes the attachment.
type DetachVolume struct {
	Attachment block.AttachmentID `msgpack:"attachment"`

	// Volume is looked up by admission; what a client says here is overwritten.
	Volume block.VolumeID `msgpack:"volume,omitempty"`
}

// Kind is volume.detach.
func (*DetachVolume) Kind() block.Kind { return block.VolumeDetach }

// Version is 1.
func (*DetachVolume) Version() int { return 1 }

// Resource is the attachment's ID.
func (r *DetachVolume) Resource() string { return string(r.Attachment) }

// Validate checks the fields.
func (r *DetachVolume) Validate() error { return checkID("attachment", string(r.Attachment)) }

// Claims: the volume's attachments exclusively, for the moment of the change; the volume shared.
func (r *DetachVolume) Claims() []kvlock.Claim {
	return []kvlock.Claim{kvlock.Exclusive(records.AttachKey(r.Volume)), kvlock.Shared(records.VolumeKey(r.Volume))}
}
