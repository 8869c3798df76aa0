package admit

import (
	"cmp"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// source is what a new volume is made from.
type source struct {
	size    block.GiB
	zone    string
	backend string
	word    string // of Cinder's text about zones
}

// createVolume checks in Cinder's order: existence of the source, its state, size, type, zone, quota, backend.
func (d *draft) createVolume() error {
	r := *d.p.req.(*messages.CreateVolume)
	d.req = &r
	if err := d.checkType(r.Type); err != nil {
		return err
	}
	src, err := d.source(&r)
	if err != nil {
		return err
	}
	if err := sizeFrom(&r, src); err != nil {
		return err
	}
	if err := d.checkZone(r.Zone); err != nil {
		return err
	}
	if src != nil && r.Zone != "" && r.Zone != src.zone {
		return invalidInput("Volume must be in the same availability zone as the %s", src.word)
	}
	key := records.VolumeKey(r.Volume)
	rev, err := absent[block.Volume](d, key, "Volume", string(r.Volume))
	if err != nil {
		return err
	}
	if err := d.charge(d.p.caller.Project, volumeUsage(r.SizeGiB)); err != nil {
		return err
	}
	r.Type = cmp.Or(r.Type, d.a.defaults.Type)
	if err := d.place(&r, src); err != nil {
		return err
	}
	put(d, key, block.Volume{
		ID: r.Volume, Project: d.p.caller.Project, User: d.p.caller.User, Name: r.Name, Description: r.Description,
		SizeGiB: r.SizeGiB, Type: r.Type, Zone: r.Zone, Metadata: r.Metadata, Status: block.VolumeCreating,
		FromSnapshot: r.FromSnapshot, FromVolume: r.FromVolume, Backend: r.Backend, ChargedGiB: r.SizeGiB,
		CreatedAt: d.p.at, LastOperation: d.p.id,
	}, rev)
	return nil
}

func (d *draft) checkType(name string) error {
	if name == "" || name == d.a.defaults.Type {
		return nil
	}
	return messages.Errorf(messages.CodeNotFound, "Volume type with name %s could not be found.", name)
}

// source reads what the volume is made from; nil if it is to be empty.
func (d *draft) source(r *messages.CreateVolume) (*source, error) {
	switch {
	case r.FromSnapshot != "":
		return d.fromSnapshot(r)
	case r.FromVolume != "":
		return d.fromVolume(r)
	}
	return nil, nil
}

func (d *draft) fromSnapshot(r *messages.CreateVolume) (*source, error) {
	s, err := d.snapshot(r.FromSnapshot)
	if err != nil {
		return nil, err
	}
	h, err := readHeld(d.s, records.SnapshotKey(r.FromSnapshot))
	if err != nil {
		return nil, err
	}
	if s.T.ShownStatus(h.exclusive()) != block.SnapshotAvailable {
		return nil, naming(invalidSnapshot("Originating snapshot status must be one of 'available' values"), h.onlyExclusive())
	}
	// The lock alone does not prove that the snapshot is still there: free is what it was before, too.
	d.check(records.SnapshotKey(r.FromSnapshot), s.rev)
	r.SnapshotVolume, r.SourceGiB = s.T.Volume, s.T.SizeGiB
	b, _ := d.a.hints.Backend(s.T.Backend)
	return &source{size: s.T.SizeGiB, zone: d.zoneOf(b), backend: s.T.Backend, word: "snapshot"}, nil
}

func (d *draft) fromVolume(r *messages.CreateVolume) (*source, error) {
	v, err := d.volume(r.FromVolume)
	if err != nil {
		return nil, err
	}
	h, err := readHeld(d.s, records.VolumeKey(r.FromVolume))
	if err != nil {
		return nil, err
	}
	shown := v.T.ShownStatus(h.exclusive())
	if shown != block.VolumeAvailable && shown != block.VolumeInUse {
		return nil, naming(invalidVolume("Originating source volume status must be one of 'available, in-use' values"), h.onlyExclusive())
	}
	if err := d.checkCopy(&v.T); err != nil {
		return nil, err
	}
	d.check(records.VolumeKey(r.FromVolume), v.rev)
	r.SourceGiB = v.T.SizeGiB
	return &source{size: v.T.SizeGiB, zone: v.T.Zone, backend: v.T.Backend, word: "source volume"}, nil
}

// checkCopy refuses a copy of an attached volume where the backend cannot make one of one moment.
func (d *draft) checkCopy(v *block.Volume) error {
	b, known := d.a.hints.Backend(v.Backend)
	if len(v.Attachments) == 0 || !known || b.Reflink {
		return nil
	}
	return invalidVolume("Volume %s is attached, and backend %s cannot copy a volume that is in use: its file system has no reflink.", v.ID, v.Backend)
}

// sizeFrom settles the size.
func sizeFrom(r *messages.CreateVolume, src *source) error {
	if src == nil {
		return nil // Validate has checked it
	}
	if r.SizeGiB == 0 {
		r.SizeGiB = src.size
	}
	if r.SizeGiB >= src.size {
		return nil
	}
	if r.FromSnapshot != "" {
		return invalidInput("Volume size '%d'GB cannot be smaller than the snapshot size %dGB. They must be >= original snapshot size.", r.SizeGiB, src.size)
	}
	return invalidInput("Volume size '%d'GB cannot be smaller than original volume size  %dGB. They must be >= original volume size.", r.SizeGiB, src.size)
}

// place settles backend and zone: with its source, else where there is most room.
func (d *draft) place(r *messages.CreateVolume, src *source) error {
	if src == nil {
		r.Zone = cmp.Or(r.Zone, d.a.defaults.Zone)
		backend, err := d.chooseBackend(r.Zone, r.SizeGiB)
		r.Backend, d.backend = backend, backend
		return err
	}
	r.Zone, r.Backend, d.backend = cmp.Or(r.Zone, src.zone), src.backend, src.backend
	if _, err := d.roomFor(src.backend, r.SizeGiB); err != nil {
		return messages.Errorf(messages.CodeNoBackend,
			"No valid backend was found. The volume must be on the backend of its source: %s %v.", src.backend, err)
	}
	return nil
}

// onlyExclusive forgets readers: they are not what stands in the way.
func (h held) onlyExclusive() held {
	if h.lock.Mode != kvlock.ModeExclusive {
		h.holder = nil
	}
	return h
}
