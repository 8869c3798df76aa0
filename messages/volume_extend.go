package messages

import (
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// ExtendVolume makes a volume larger.
type ExtendVolume struct {
	Volume block.VolumeID `msgpack:"volume"`
	// SizeGiB is the size to reach.
	SizeGiB block.GiB `msgpack:"size_gib"`
	// AllowAttached: the volume may be in use.
	AllowAttached bool `msgpack:"allow_attached,omitempty"`

	// FromGiB is the size at admission; what a client says here is overwritten.
	FromGiB block.GiB `msgpack:"from_gib,omitempty"`
	// ChargeGiB is what the project was charged for it at admission, likewise.
	ChargeGiB block.GiB `msgpack:"charge_gib,omitempty"`
	// Created is when the volume was made that was charged, likewise: while this waits, another one may get its ID.
	Created time.Time `msgpack:"created,omitempty"`
}

// Kind is volume.extend.
func (*ExtendVolume) Kind() block.Kind { return block.VolumeExtend }

// Version is 1.
func (*ExtendVolume) Version() int { return 1 }

// Resource is the volume's ID.
func (r *ExtendVolume) Resource() string { return string(r.Volume) }

// Validate checks the fields.
func (r *ExtendVolume) Validate() error {
	return first(checkID("volume", string(r.Volume)), checkSize("new_size", r.SizeGiB))
}

// Claims: the volume exclusively.
func (r *ExtendVolume) Claims() []kvlock.Claim {
	return []kvlock.Claim{kvlock.Exclusive(records.VolumeKey(r.Volume))}
}
