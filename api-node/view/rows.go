package view

import (
	"time"
	"unique"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// Volume is a volume as users see it.
type Volume struct {
	block.Volume
	// Shown is the status with what operations do to the volume taken in.
	Shown block.VolumeStatus
	// Holder is the operation that has the volume exclusively; nil if none has. Its Step is not set: see View.Operation.
	Holder *messages.Holder
	// Readers share the volume, oldest first.
	Readers  []messages.Holder
	Revision kvtx.Revision // of the record
}

// Snapshot is a snapshot as users see it.
type Snapshot struct {
	block.Snapshot
	Shown    block.SnapshotStatus
	Holder   *messages.Holder  // as Volume's
	Readers  []messages.Holder // as Volume's
	Revision kvtx.Revision
}

// Attachment is an attachment as users see it.
type Attachment struct {
	block.Attachment
	Shown block.AttachmentStatus
	// Holder is the operation that attaches or detaches this attachment; nil if none does.
	Holder   *messages.Holder
	Revision kvtx.Revision
}

// Operation is an operation as users and operators see it.
type Operation struct {
	messages.Operation

	// Backend and Dispatch name the message that tells workers of it.
	Backend   string
	Dispatch  uint64
	RequestID string
	// StepSince is when the step that runs began; zero if none did.
	StepSince time.Time
	// Tries counts the failed tries of all steps.
	Tries int
	// Pivoted: nothing is undone any more.
	Pivoted  bool
	Adopted  time.Time // the last take-over; zero before the first
	Deadline time.Time // until when it waits in line; zero: as long as it takes
	Cancel   *kvlock.Cancel
	Audit    []kvlock.Audit
	Fence    kvlock.Fence
	Revision kvtx.Revision
}

func newVolume(r block.Volume, rev kvtx.Revision) *Volume {
	r.Project, r.User, r.Type, r.Zone, r.Backend, r.Status = same(r.Project), same(r.User), same(r.Type), same(r.Zone), same(r.Backend), same(r.Status)
	return &Volume{Volume: r, Revision: rev}
}

func newSnapshot(r block.Snapshot, rev kvtx.Revision) *Snapshot {
	r.Project, r.User, r.Backend, r.Status = same(r.Project), same(r.User), same(r.Backend), same(r.Status)
	return &Snapshot{Snapshot: r, Revision: rev}
}

func newAttachment(r block.Attachment, rev kvtx.Revision) *Attachment {
	r.Project, r.User, r.Status = same(r.Project), same(r.User), same(r.Status)
	return &Attachment{Attachment: r, Revision: rev}
}

// same returns an equal string that all rows share.
func same[S ~string](s S) S { return unique.Make(s).Value() }

// holds says that the operation's locks are held.
func (o *Operation) holds() bool { return !o.Ended && o.Phase != kvlock.Queued.String() }

// place is what the indexes know of a row.
type place struct {
	id      string
	project string
	created time.Time
	live    bool
}

// beside says that both stand at the same place of the indexes that every row is in.
func (p place) beside(q place) bool {
	return p.id == q.id && p.project == q.project && p.created.Equal(q.created)
}

type row interface{ place() place }

func (v *Volume) place() place   { return place{string(v.ID), v.Project, v.CreatedAt, false} }
func (s *Snapshot) place() place { return place{string(s.ID), s.Project, s.CreatedAt, false} }
func (a *Attachment) place() place {
	return place{string(a.ID), a.Project, a.CreatedAt, false}
}

func (o *Operation) place() place {
	return place{string(o.ID), o.Project, o.Submitted, !o.Ended}
}
