package block

import (
	"slices"
	"time"
)

// VolumeStatus is the status of a volume in the words of the Block Storage API.
type VolumeStatus string

// Settled: these stand in records.
const (
	VolumeCreating       VolumeStatus = "creating"
	VolumeAvailable      VolumeStatus = "available"
	VolumeError          VolumeStatus = "error"
	VolumeErrorExtending VolumeStatus = "error_extending"
)

// Shown only: derived from the holder or from the attachments.
const (
	VolumeReserved      VolumeStatus = "reserved"
	VolumeAttaching     VolumeStatus = "attaching"
	VolumeInUse         VolumeStatus = "in-use"
	VolumeDetaching     VolumeStatus = "detaching"
	VolumeExtending     VolumeStatus = "extending"
	VolumeReverting     VolumeStatus = "reverting"
	VolumeDeleting      VolumeStatus = "deleting"
	VolumeErrorDeleting VolumeStatus = "error_deleting"
)

// MaxChildren bounds the snapshots and the attachments of one volume, so that its record stays small.
const MaxChildren = 1024

// Volume is the record of one volume.
type Volume struct {
	ID          VolumeID          `msgpack:"id"`
	Project     string            `msgpack:"project"`
	User        string            `msgpack:"user"`
	Name        string            `msgpack:"name"`
	Description string            `msgpack:"description"`
	SizeGiB     GiB               `msgpack:"size_gib"`
	Type        string            `msgpack:"type"`
	Zone        string            `msgpack:"zone"`
	Metadata    map[string]string `msgpack:"metadata,omitempty"`
	// Status is settled: creating, available, error or error_extending. What users see is ShownStatus.
	Status       VolumeStatus `msgpack:"status"`
	FromSnapshot SnapshotID   `msgpack:"from_snapshot,omitempty"`
	FromVolume   VolumeID     `msgpack:"from_volume,omitempty"`
	// Backend is where the volume lives: chosen at submit, final once ReservedGiB is set.
	Backend string `msgpack:"backend"`
	// ReservedGiB is what the volume takes of its pool. Invariant: the pool's Allocated is the sum of these.
	ReservedGiB GiB `msgpack:"reserved_gib"`
	// ChargedGiB is what the project's quota is charged. Invariant: the quota's use less its credits is the sum of these
	// and of the snapshots'. It is above SizeGiB while an extend is under way.
	ChargedGiB GiB `msgpack:"charged_gib"`
	// Snapshots in the order of their creation; the last one is what a revert may go back to.
	Snapshots   []SnapshotID    `msgpack:"snapshots,omitempty"`
	Attachments []AttachmentRef `msgpack:"attachments,omitempty"`
	CreatedAt   time.Time       `msgpack:"created_at"`
	UpdatedAt   time.Time       `msgpack:"updated_at"`
	// LastOperation is the last operation that claimed the volume exclusively. Each submit writes it, so that two
	// submits on one volume conflict on its revision.
	LastOperation OperationID `msgpack:"last_operation,omitempty"`
	// Fault says why the status is an error, for people.
	Fault string `msgpack:"fault,omitempty"`
}

// AttachmentRef is what a volume knows of one of its attachments.
type AttachmentRef struct {
	ID     AttachmentID     `msgpack:"id"`
	Status AttachmentStatus `msgpack:"status"`
}

// CreatedThen says whether this is the volume that was made at the time, and not another one that got its ID since; zero is any time.
func (v *Volume) CreatedThen(at time.Time) bool { return at.IsZero() || at.Equal(v.CreatedAt) }

// HasSnapshot reports whether the snapshot is a child of the volume.
func (v *Volume) HasSnapshot(id SnapshotID) bool { return slices.Contains(v.Snapshots, id) }

// AddSnapshot puts the snapshot last in the child set. Repeated: no effect.
func (v *Volume) AddSnapshot(id SnapshotID) {
	if !v.HasSnapshot(id) {
		v.Snapshots = append(slices.Clip(v.Snapshots), id)
	}
}

// RemoveSnapshot takes the snapshot out of the child set. Repeated: no effect.
func (v *Volume) RemoveSnapshot(id SnapshotID) {
	v.Snapshots = slices.DeleteFunc(slices.Clone(v.Snapshots), func(s SnapshotID) bool { return s == id })
}

// SetAttachment adds the attachment or changes its status. Repeated: no effect.
func (v *Volume) SetAttachment(id AttachmentID, status AttachmentStatus) {
	v.Attachments = slices.Clone(v.Attachments)
	for i := range v.Attachments {
		if v.Attachments[i].ID == id {
			v.Attachments[i].Status = status
			return
		}
	}
	v.Attachments = append(v.Attachments, AttachmentRef{ID: id, Status: status})
}

// RemoveAttachment takes the attachment out of the child set. Repeated: no effect.
func (v *Volume) RemoveAttachment(id AttachmentID) {
	v.Attachments = slices.DeleteFunc(slices.Clone(v.Attachments), func(a AttachmentRef) bool { return a.ID == id })
}

// ShownStatus is what users see while the holders have the volume and its attachments.
func (v *Volume) ShownStatus(h, attach Holder) VolumeStatus {
	return VolumeStatusOf(v.Status, v.Attachments, h, attach)
}

// VolumeStatusOf derives the status that users see from the settled status, the attachments, and the holders of the volume and of its
// attachments.
func VolumeStatusOf(settled VolumeStatus, attachments []AttachmentRef, h, attach Holder) VolumeStatus {
	if s, held := heldVolumeStatus(h); held {
		return s
	}
	if settled != VolumeAvailable {
		return settled
	}
	shown := VolumeAvailable
	for _, a := range attachments {
		status := a.Status
		if string(a.ID) == attach.Resource {
			status = status.shown(attach)
		}
		if s := status.volumeStatus(); attachRank[s] > attachRank[shown] {
			shown = s
		}
	}
	return shown
}

// attachRank orders what attachments say of their volume: the highest is shown.
var attachRank = map[VolumeStatus]int{
	VolumeAvailable: 0, VolumeReserved: 1, VolumeAttaching: 2, VolumeDetaching: 3, VolumeInUse: 4,
}

func heldVolumeStatus(h Holder) (VolumeStatus, bool) {
	switch h.Kind {
	case VolumeCreate:
		return pick(h.Stuck, VolumeError, VolumeCreating), true
	case VolumeDelete:
		return pick(h.Stuck, VolumeErrorDeleting, VolumeDeleting), true
	case VolumeExtend:
		return pick(h.Stuck, VolumeErrorExtending, VolumeExtending), true
	case VolumeRevert:
		return pick(h.Stuck, VolumeError, VolumeReverting), true
	case VolumeAttach, VolumeDetach, SnapshotCreate, SnapshotDelete: // these hold no volume exclusively
		return "", false
	}
	return "", false
}

func pick[T any](cond bool, yes, no T) T {
	if cond {
		return yes
	}
	return no
}
