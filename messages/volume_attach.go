package messages

import (
	"encoding/json"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// AttachVolume exports a volume for a host. The attachment may have been reserved before.
type AttachVolume struct {
	Volume block.VolumeID `msgpack:"volume"`
	// Attachment is the attachment's ID; admission chooses one where it is empty.
	Attachment block.AttachmentID `msgpack:"attachment,omitempty"`
	Instance   string             `msgpack:"instance,omitempty"`
	ReadOnly   bool               `msgpack:"read_only,omitempty"`
	// Connector is what the host says of itself, as JSON.
	Connector []byte `msgpack:"connector,omitempty"`

	// New: admission made the attachment for this operation; what a client says here is overwritten.
	New bool `msgpack:"new,omitempty"`
}

// Kind is volume.attach.
func (*AttachVolume) Kind() block.Kind { return block.VolumeAttach }

// Version is 1.
func (*AttachVolume) Version() int { return 1 }

// Resource is the attachment's ID.
func (r *AttachVolume) Resource() string { return string(r.Attachment) }

// Validate checks the fields.
func (r *AttachVolume) Validate() error {
	err := first(checkID("volume", string(r.Volume)), optionalID("attachment", string(r.Attachment)), checkText("instance", r.Instance))
	if err != nil {
		return err
	}
	if len(r.Connector) > maxConnector {
		return fieldError("connector", "it has %d bytes, at most %d are allowed", len(r.Connector), maxConnector)
	}
	return checkConnector(r.Connector)
}

// checkConnector refuses what is no JSON object, and other than texts for what is read of it.
func checkConnector(connector []byte) error {
	if len(connector) == 0 {
		return nil
	}
	fields := connectorFields(connector)
	if fields == nil {
		return fieldError("connector", "it is no JSON object")
	}
	if key, twice := KeyTwice(connector); twice {
		return fieldError("connector", "the key %q stands twice in it", clip(key))
	}
	for _, name := range []string{"host", "mountpoint"} {
		if _, text := fields[name].(string); !text && fields[name] != nil {
			return fieldError("connector", "its %s is no text", name)
		}
	}
	return nil
}

// connectorFields reads a connector, nil if it is no JSON object. It is not read into a struct, which would take HOST for host.
func connectorFields(connector []byte) (fields map[string]any) {
	if json.Unmarshal(connector, &fields) != nil {
		return nil
	}
	return fields
}

// ReadConnector returns the host and the device that a connector names; "" for what it does not name.
func ReadConnector(connector []byte) (host, device string) {
	fields := connectorFields(connector)
	host, _ = fields["host"].(string)
	device, _ = fields["mountpoint"].(string)
	return host, device
}

// Claims: the volume's attachments exclusively, for the moment of the change; the volume shared.
func (r *AttachVolume) Claims() []kvlock.Claim {
	return []kvlock.Claim{kvlock.Exclusive(records.AttachKey(r.Volume)), kvlock.Shared(records.VolumeKey(r.Volume))}
}
