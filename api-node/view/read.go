package view

import (
	"cmp"
	"iter"
	"slices"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
)

// Volume returns the volume's row.
func (v *View) Volume(id block.VolumeID) (*Volume, bool) {
	r := get[Volume](v.tables, volumes, string(id))
	return r, r != nil
}

// Snapshot returns the snapshot's row.
func (v *View) Snapshot(id block.SnapshotID) (*Snapshot, bool) {
	r := get[Snapshot](v.tables, snapshots, string(id))
	return r, r != nil
}

// Attachment returns the attachment's row.
func (v *View) Attachment(id block.AttachmentID) (*Attachment, bool) {
	r := get[Attachment](v.tables, attachments, string(id))
	return r, r != nil
}

// Operation returns the operation's row. Of the ended ones only the last are here, see Lookup.
func (v *View) Operation(id block.OperationID) (*Operation, bool) {
	r, ok := v.record(id)
	if ok {
		r = v.withHeard(r)
	}
	return r, ok
}

// record returns the operation as its record says.
func (v *View) record(id block.OperationID) (*Operation, bool) {
	r := get[Operation](v.tables, operations, string(id))
	return r, r != nil
}

// Volumes goes over the volumes of a project, of all projects if it is empty, newest first (created, then ID, both
// descending), as they were at one publication.
func (v *View) Volumes(project string) iter.Seq[*Volume] {
	return list[Volume](v.tables, volumes, project)
}

// Snapshots goes over snapshots as Volumes does.
func (v *View) Snapshots(project string) iter.Seq[*Snapshot] {
	return list[Snapshot](v.tables, snapshots, project)
}

// Attachments goes over attachments as Volumes does.
func (v *View) Attachments(project string) iter.Seq[*Attachment] {
	return list[Attachment](v.tables, attachments, project)
}

// Operations goes over operations as Volumes does, the ended ones that are here included.
func (v *View) Operations(project string) iter.Seq[*Operation] {
	return list[Operation](v.tables, operations, project)
}

// Live goes over the operations of all projects that have not ended, newest first: those that wait, run or are stuck.
func (v *View) Live() iter.Seq[*Operation] {
	return walk[Operation](v.tables, operations, byLive)
}

// Waiting returns the operations that wait in line until a time.
func (v *View) Waiting() []*Operation {
	var all []*Operation
	for op := range v.Live() {
		if op.Phase == kvlock.Queued.String() && !op.Deadline.IsZero() {
			all = append(all, op)
		}
	}
	return all
}

// Locks goes over the keys that live operations hold or wait for, ordered by key. It is what the lock records must say;
// what they do say is read with kvlock. A line is in the order in which the operations were submitted.
func (v *View) Locks() iter.Seq[kvlock.Lock] {
	return func(yield func(kvlock.Lock) bool) {
		for _, l := range v.locks(func(string) bool { return true }) {
			if !yield(*l) {
				return
			}
		}
	}
}

// Lock returns one of Locks; false if nobody holds the key or waits for it.
func (v *View) Lock(key string) (kvlock.Lock, bool) {
	for _, l := range v.locks(func(k string) bool { return k == key }) {
		return *l, true
	}
	return kvlock.Lock{}, false
}

// locks collects the locks of the keys that are wanted.
func (v *View) locks(want func(key string) bool) []*kvlock.Lock {
	byKey := map[string]*kvlock.Lock{}
	var all []*kvlock.Lock
	for op := range v.Live() {
		for _, c := range op.Claims {
			if !want(c.Key) {
				continue
			}
			l := byKey[c.Key]
			if l == nil {
				l = &kvlock.Lock{Key: c.Key}
				byKey[c.Key] = l
				all = append(all, l)
			}
			mode := kvlock.ModeShared
			if c.Mode == kvlock.ModeExclusive.String() {
				mode = kvlock.ModeExclusive
			}
			if op.holds() {
				l.Mode = max(l.Mode, mode)
				l.Holders = append(l.Holders, kvlock.Holder{Owner: string(op.ID), Since: op.Submitted})
			} else {
				l.Line = append(l.Line, kvlock.Waiter{Owner: string(op.ID), Mode: mode, Since: op.Submitted, Deadline: op.Deadline})
			}
		}
	}
	for _, l := range all { // live operations come newest first, a lock names the oldest first
		slices.Reverse(l.Holders)
		slices.Reverse(l.Line)
	}
	slices.SortFunc(all, func(a, b *kvlock.Lock) int { return cmp.Compare(a.Key, b.Key) })
	return all
}
