package admit

import (
	"cmp"
	"context"

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
	if d.p.empty != nil {
		return d.createEmpty(d.p.empty)
	}
	r := *d.p.req.(*messages.CreateVolume)
	d.req = &r
	if err := d.a.checkType(r.Type); err != nil {
		return err
	}
	src, err := d.source(&r)
	if err != nil {
		return err
	}
	if err := sizeFrom(&r, src); err != nil {
		return err
	}
	if err := d.a.checkZone(r.Zone); err != nil {
		return err
	}
	if r.Zone != "" && r.Zone != src.zone {
		return invalidInput("Volume must be in the same availability zone as the %s", src.word)
	}
	r.Type, r.Zone, r.Backend, d.backend = cmp.Or(r.Type, d.a.defaults.Type), cmp.Or(r.Zone, src.zone), src.backend, src.backend
	return d.newVolume(&r, records.Encode(d.p.volume(&r)), func() error {
		if _, err := d.a.roomFor(src.backend, r.SizeGiB); err != nil {
			return messages.Errorf(messages.CodeNoBackend,
				"No valid backend was found. The volume must be on the backend of its source: %s %v.", src.backend, err)
		}
		return nil
	})
}

// newVolume charges the quota and stages the volume's record, unless its ID is taken or room says that there is none.
func (d *draft) newVolume(r *messages.CreateVolume, record []byte, room func() error) error {
	key := records.VolumeKey(r.Volume)
	rev, err := absent[block.Volume](d, key, "Volume", string(r.Volume))
	if err != nil {
		return err
	}
	if err := d.charge(d.p.caller.Project, volumeUsage(r.SizeGiB)); err != nil {
		return err
	}
	if err := room(); err != nil {
		return err
	}
	d.writes = append(d.writes, write{key, record, rev})
	return nil
}

// volume is the record of the volume that a request makes, all of it settled.
func (p *prepared) volume(r *messages.CreateVolume) block.Volume {
	return block.Volume{
		ID: r.Volume, Project: p.caller.Project, User: p.caller.User, Name: r.Name, Description: r.Description,
		SizeGiB: r.SizeGiB, Type: r.Type, Zone: r.Zone, Metadata: r.Metadata, Status: block.VolumeCreating,
		FromSnapshot: r.FromSnapshot, FromVolume: r.FromVolume, Backend: r.Backend, ChargedGiB: r.SizeGiB,
		CreatedAt: p.at, LastOperation: p.id,
	}
}

// empty is the part of the decision about an empty volume that needs no record. It is made before the commit, because
// decisions of all requests run one after another.
type empty struct {
	err     error // of type or zone
	room    error // of the choice of a backend
	req     *messages.CreateVolume
	record  []byte
	payload []byte
}

func (a *Admitter) settleEmpty(ctx context.Context, p *prepared, r messages.CreateVolume) *empty {
	e := &empty{req: &r, err: cmp.Or(a.checkType(r.Type), a.checkZone(r.Zone))}
	if e.err != nil {
		return e
	}
	r.Type, r.Zone = cmp.Or(r.Type, a.defaults.Type), cmp.Or(r.Zone, a.defaults.Zone)
	if r.Backend, e.room = a.chooseBackend(ctx, r.Zone, r.SizeGiB); e.room != nil {
		return e
	}
	e.record, e.payload = records.Encode(p.volume(&r)), p.payload(&r, r.Backend)
	return e
}

func (d *draft) createEmpty(e *empty) error {
	if e.err != nil {
		return e.err
	}
	d.req, d.backend, d.payload = e.req, e.req.Backend, e.payload
	return d.newVolume(e.req, e.record, func() error { return e.room })
}

func (a *Admitter) checkType(name string) error {
	if name == "" || name == a.defaults.Type {
		return nil
	}
	return messages.TypeNameNotFound(name)
}

// source reads what the volume is made from.
func (d *draft) source(r *messages.CreateVolume) (*source, error) {
	if r.FromSnapshot != "" {
		return d.fromSnapshot(r)
	}
	return d.fromVolume(r)
}

func (d *draft) fromSnapshot(r *messages.CreateVolume) (*source, error) {
	s, h, err := d.heldSnapshot(r.FromSnapshot)
	if err != nil {
		return nil, err
	}
	if d.snapshotStatus(s.T, h) != block.SnapshotAvailable {
		return nil, naming(invalidSnapshot("Originating snapshot status must be one of 'available' values"), h.onlyExclusive())
	}
	// The lock alone does not prove that the snapshot is still there: free is what it was before, too.
	d.check(records.SnapshotKey(r.FromSnapshot), s.rev)
	r.SnapshotVolume, r.SourceGiB = s.T.Volume, s.T.SizeGiB
	b, _ := d.a.hints.Backend(s.T.Backend)
	return &source{size: s.T.SizeGiB, zone: d.a.zoneOf(b), backend: s.T.Backend, word: "snapshot"}, nil
}

func (d *draft) fromVolume(r *messages.CreateVolume) (*source, error) {
	v, h, err := d.heldVolume(r.FromVolume)
	if err != nil {
		return nil, err
	}
	shown, by, err := d.volumeStatus(v.T, h)
	if err != nil {
		return nil, err
	}
	if shown != block.VolumeAvailable && shown != block.VolumeInUse {
		return nil, naming(invalidVolume("Originating source volume status must be one of 'available, in-use' values"), by)
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

// onlyExclusive forgets readers: they are not what stands in the way.
func (h held) onlyExclusive() held {
	if h.lock.Mode != kvlock.ModeExclusive {
		h.holder = nil
	}
	return h
}
