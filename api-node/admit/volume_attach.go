package admit

import (
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// attachVolume exports a volume for an attachment that is new or was reserved before.
func (d *draft) attachVolume() error {
	r := *d.p.req.(*messages.AttachVolume)
	d.req = &r
	v, err := d.volume(r.Volume)
	if err != nil {
		return err
	}
	a, err := read[block.Attachment](d.s, records.AttachmentKey(r.Attachment))
	if err != nil {
		return err
	}
	if a.exists && !d.p.caller.sees(a.T.Project) {
		return messages.AttachmentNotFound(r.Attachment)
	}
	if err := d.checkAttachable(v.T, r.Connector); err != nil {
		return err
	}
	if a.exists {
		err = d.reattach(&r, &v, &a)
	} else {
		err = d.newAttachment(&r, &v, &a)
	}
	if err != nil {
		return err
	}
	a.T.Connector, a.T.LastOperation = r.Connector, d.p.id
	d.backend = v.T.Backend
	put(d, records.VolumeKey(r.Volume), v.T, v.rev)
	put(d, records.AttachmentKey(r.Attachment), a.T, a.rev)
	return nil
}

// checkAttachable refuses what no backend of this kind can do, and a host that would get a way to the volume that it cannot go.
func (d *draft) checkAttachable(v block.Volume, connector []byte) error {
	b, known := d.a.hints.Backend(v.Backend)
	host, _ := messages.ReadConnector(connector)
	switch {
	case !known:
		return nil
	case !b.KeepsData:
		return messages.Errorf(messages.CodeUnsupported, "backend %s keeps no data: there is nothing to attach", v.Backend)
	case !b.Reaches(host):
		return invalidInput("host %q does not reach the volume: volumes of backend %s can be attached only on the machine of node %s, whose names are %s "+
			"and localhost.", host, v.Backend, b.NodeName, strings.Join(b.Hosts, ", "))
	}
	return nil
}

func (d *draft) newAttachment(r *messages.AttachVolume, v *found[block.Volume], a *found[block.Attachment]) error {
	if a.rev != 0 { // its marker says that it was there
		return messages.AttachmentNotFound(r.Attachment)
	}
	if err := d.reservable(v.T, r.Instance); err != nil {
		return err
	}
	h, err := d.held(records.AttachKey(r.Volume))
	if err != nil {
		return err
	}
	if h.holder != nil {
		return busy(resource(records.AttachKey(r.Volume)), h, d.p.at)
	}
	a.T = reserved(d.p.caller, r.Attachment, v.T, r.Instance, r.ReadOnly, d.p.at)
	v.T.SetAttachment(a.T.ID, a.T.Status)
	r.New = true
	return nil
}

// reattach gives a reserved attachment its connector, or tries again what failed.
func (d *draft) reattach(r *messages.AttachVolume, v *found[block.Volume], a *found[block.Attachment]) error {
	if a.T.Volume != r.Volume {
		return messages.Errorf(messages.CodeInvalidAttachment, "Invalid attachment: Attachment %s is of volume %s, not of volume %s.", a.T.ID, a.T.Volume, r.Volume)
	}
	hv, err := d.held(records.VolumeKey(r.Volume))
	if err != nil {
		return err
	}
	ha, err := d.held(records.AttachKey(r.Volume))
	if err != nil {
		return err
	}
	shown, by, err := d.volumeStatus(v.T, hv)
	if err != nil {
		return err
	}
	switch {
	case strings.Contains(string(shown), "error"):
		return naming(messages.Errorf(messages.CodeConflict, "Resource conflict: Volume attachments can not be updated if the volume is in an error state. "+
			"The Volume %s currently has a status of: %s ", r.Volume, shown), by)
	case ha.holder != nil:
		return busy(resource(records.AttachKey(r.Volume)), ha, d.p.at)
	case hv.exclusive().Kind != "":
		return busy(resource(records.VolumeKey(r.Volume)), hv, d.p.at)
	case a.T.Status != block.AttachReserved && a.T.Status != block.AttachErrorAttaching:
		return messages.Errorf(messages.CodeInvalidAttachment, "Invalid attachment: Attachment %s is %s already: its connector cannot be changed.", a.T.ID, a.T.Status)
	}
	if exported := slices.ContainsFunc(v.T.Attachments, func(o block.AttachmentRef) bool {
		return o.ID != a.T.ID && o.Status != block.AttachReserved && o.Status != block.AttachErrorAttaching
	}); exported {
		return messages.Errorf(messages.CodeConflict, "Resource conflict: duplicate connectors detected on volume %s", r.Volume)
	}
	r.ReadOnly = r.ReadOnly || a.T.ReadOnly
	a.T.ReadOnly = r.ReadOnly
	if r.Instance != "" {
		a.T.Instance = r.Instance
	}
	a.T.Status, a.T.Fault, a.T.UpdatedAt = block.AttachReserved, "", d.p.at
	v.T.SetAttachment(a.T.ID, a.T.Status)
	return nil
}

// reservable refuses a volume that cannot take one more attachment. The same instance may have several: it is then
// moving from one host to another.
func (d *draft) reservable(v block.Volume, instance string) error {
	h, err := d.held(records.VolumeKey(v.ID))
	if err != nil {
		return err
	}
	shown, by, err := d.volumeStatus(v, h)
	if err != nil {
		return err
	}
	switch {
	case strings.Contains(string(shown), "error"):
		return naming(invalidVolume("Volume attachments can not be created if the volume is in an error state. "+
			"The Volume %s currently has a status of: %s ", v.ID, shown), by)
	case shown == block.VolumeAvailable:
		return nil
	case instance != "" && (shown == block.VolumeInUse || shown == block.VolumeReserved) && len(v.Attachments) < block.MaxChildren:
		for _, ref := range v.Attachments {
			a, err := read[block.Attachment](d.s, records.AttachmentKey(ref.ID))
			if err != nil {
				return err
			}
			if a.exists && a.T.Instance == instance {
				return nil
			}
		}
	}
	return naming(invalidVolume("Volume %s status must be available or downloading to reserve, but the current status is %s.", v.ID, shown), by)
}
