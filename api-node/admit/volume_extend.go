package admit

import (
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// extendVolume checks in Cinder's order: size, status, quota. The project that has the volume is charged for the difference at once.
func (d *draft) extendVolume() error {
	r := *d.p.req.(*messages.ExtendVolume)
	d.req = &r
	v, h, err := d.heldVolume(r.Volume)
	if err != nil {
		return err
	}
	if r.SizeGiB <= v.T.SizeGiB {
		return invalidInput("New size for extend must be greater than current size. (current: %d, extended: %d).", v.T.SizeGiB, r.SizeGiB)
	}
	shown, by, err := d.volumeStatus(v.T, h)
	if err != nil {
		return err
	}
	want := block.VolumeAvailable
	if r.AllowAttached && shown == block.VolumeInUse {
		want = block.VolumeInUse
	}
	if shown != want {
		return naming(invalidVolume("Volume %s status must be '{'status': '%s'}' to extend, currently %s.", r.Volume, want, shown), by)
	}
	if h.read() {
		return volumeRead(r.Volume, h, d.p.at)
	}
	// An extend that was given up may have left the volume charged for more than its size; of those that wait, each has its own charge.
	have := v.T.ChargedGiB
	if d.p.wait.Queue {
		have = v.T.SizeGiB
	}
	if r.ChargeGiB = max(r.SizeGiB-have, 0); r.ChargeGiB > 0 {
		if err := d.charge(v.T.Project, records.Usage{GiB: r.ChargeGiB}); err != nil {
			return err
		}
		v.T.ChargedGiB += r.ChargeGiB
	}
	r.FromGiB, r.Created = v.T.SizeGiB, v.T.CreatedAt
	d.claimVolume(v)
	return nil
}
