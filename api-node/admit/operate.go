package admit

import (
	"context"
	"errors"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// Cancel wishes that an operation ends early and is undone. Its worker decides: past the point of no return nothing comes
// of it. Repeated, it is no error.
func (a *Admitter) Cancel(ctx context.Context, c Caller, id block.OperationID, reason string) error {
	owner, err := ownerOf(id)
	if err != nil {
		return err
	}
	if err := checkReason(reason, ""); err != nil {
		return err
	}
	by := who(c, reason)
	var rec kvlock.Record
	_, err = a.update(ctx, needsLittle, []string{kvlock.OwnerKey(owner)}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		seen, err := visible(s, c, id)
		if err == nil && !seen.Live() {
			err = ended(seen, "canceled")
		}
		if err != nil {
			return err
		}
		rec, err = a.locks.StageCancel(s, tx, owner, by)
		return err
	})
	if errors.Is(err, kvlock.ErrApplied) {
		return nil
	}
	if errors.Is(err, kvlock.ErrQueued) {
		return a.leave(ctx, id, "canceled by "+by)
	}
	if err == nil {
		a.locks.Observe(kvlock.EventOf(kvlock.Canceled, rec))
	}
	return a.operated(id, "canceled", err)
}

// Resume lets a stuck operation go on where it got stuck: one commit with a new dispatch number and a dispatch.
func (a *Admitter) Resume(ctx context.Context, c Caller, id block.OperationID, reason string) error {
	owner, err := ownerOf(id)
	if err != nil {
		return err
	}
	if err := checkReason(reason, ""); err != nil {
		return err
	}
	var rec kvlock.Record
	_, err = a.update(ctx, needsLittle, []string{kvlock.OwnerKey(owner)}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		seen, err := visible(s, c, id)
		if err == nil && !seen.Live() {
			err = ended(seen, "resumed")
		}
		if err != nil {
			return err
		}
		if rec, err = sagakv.StageResume(a.locks, s, tx, owner, who(c, reason)); err != nil {
			return err
		}
		op, err := operationOf(rec)
		if err != nil {
			return err
		}
		tx.Publish(a.store.DispatchSubject(records.DispatchParts(op.Backend, id, rec.Dispatch)...), nil, nil)
		return nil
	})
	if err == nil {
		a.locks.Observe(kvlock.EventOf(kvlock.Resumed, rec))
		a.log.WarnContext(ctx, "operation resumed", "operation", id, "reason", reason, "user", c.User)
	}
	return a.operated(id, "resumed", err)
}

// Abandon gives a stuck operation up: its locks are released, and what it worked on becomes an error that names the
// reason, in one commit. The record keeps who did what and why.
//
// First the operation becomes void with a higher epoch, so that nobody can take it over or write its record any more; then
// its locks go. No fence is raised at the backend in between, because what is given up here is often the backend: see
// giveUp. An operation that a worker had picked up again between the look and the void write is left void with its locks
// held, and refused in words: abandoning it once more, when that worker has stopped, releases them.
func (a *Admitter) Abandon(ctx context.Context, c Caller, id block.OperationID, reason string) error {
	owner, err := ownerOf(id)
	if err != nil {
		return err
	}
	if err := checkReason(reason, "the operation is given up"); err != nil {
		return err
	}
	rec, err := a.void(ctx, c, owner, reason)
	if err != nil {
		return a.operated(id, "abandoned", err)
	}
	op, err := operationOf(rec)
	if err != nil {
		return a.operated(id, "abandoned", err)
	}
	return a.giveAway(ctx, c, rec, op, "abandoned", reason)
}

// void makes a stuck operation void. One that is void already is returned as it is.
func (a *Admitter) void(ctx context.Context, c Caller, owner, reason string) (kvlock.Record, error) {
	id := block.OperationID(owner)
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	entry, err := a.store.Get(ctx, kvlock.OwnerKey(owner))
	if err != nil {
		return kvlock.Record{}, err
	}
	rec, err := visible(one{entry}, c, id)
	if err != nil {
		return rec, err
	}
	if !rec.Live() {
		return rec, ended(rec, "abandoned")
	}
	if rec.Phase != kvlock.Stuck && rec.Phase != kvlock.Void {
		return rec, messages.Errorf(messages.CodeConflict, "operation %s is %s: only a stuck one can be abandoned; a running one can be canceled", id, rec.Phase)
	}
	seen := rec.Phase
	if seen == kvlock.Void {
		a.again(ctx, c, id, "abandoned", reason)
	}
	if rec, err = a.locks.Void(ctx, owner, who(c, reason)); err != nil {
		return rec, err
	}
	if !rec.Live() {
		return rec, kvlock.ErrEnded
	}
	if seen == kvlock.Stuck && !wasStuck(rec) {
		return rec, messages.Errorf(messages.CodeUnavailable, "operation %s was being worked on again by %s: it is void now and its locks are still held; "+
			"abandon it once more when that worker has stopped", id, rec.Audit[len(rec.Audit)-1].Worker)
	}
	return rec, nil
}

// wasStuck says that the last thing before the break was that the operation was stuck.
func wasStuck(rec kvlock.Record) bool {
	return len(rec.Audit) > 0 && rec.Audit[len(rec.Audit)-1].Phase == kvlock.Stuck
}

// giveUp stages what becomes of the resource of an operation that nobody will finish.
//
// A worker that was overtaken in the middle of a call may wake up at any time, and no fence keeps its effect out yet. The
// status does no less: only a deletion, a detach or another attach are accepted in it, and each of them writes the very
// thing, with a fence above the void write, before anything may rest on what the backend holds.
func giveUp(s kvtx.Snapshot, tx *kvtx.Tx, op records.Operation, fault string, at time.Time) error {
	switch op.Kind {
	case block.VolumeCreate, block.VolumeDelete, block.VolumeRevert:
		return faultVolume(s, tx, block.VolumeID(op.Resource), block.VolumeError, fault, at)
	case block.VolumeExtend: // its size on the backend is not known
		return faultVolume(s, tx, block.VolumeID(op.Resource), block.VolumeErrorExtending, fault, at)
	case block.SnapshotCreate, block.SnapshotDelete:
		return faultSnapshot(s, tx, block.SnapshotID(op.Resource), fault, at)
	case block.VolumeAttach:
		return faultAttachment(s, tx, block.AttachmentID(op.Resource), block.AttachErrorAttaching, fault, at)
	case block.VolumeDetach:
		return faultAttachment(s, tx, block.AttachmentID(op.Resource), block.AttachErrorDetaching, fault, at)
	}
	return nil
}

func faultVolume(s kvtx.Snapshot, tx *kvtx.Tx, id block.VolumeID, status block.VolumeStatus, fault string, at time.Time) error {
	v, err := read[block.Volume](s, records.VolumeKey(id))
	if err != nil || !v.exists {
		return err
	}
	v.T.Status, v.T.Fault, v.T.UpdatedAt = status, fault, at
	tx.Put(records.VolumeKey(id), records.Encode(v.T), v.rev)
	return nil
}

func faultSnapshot(s kvtx.Snapshot, tx *kvtx.Tx, id block.SnapshotID, fault string, at time.Time) error {
	n, err := read[block.Snapshot](s, records.SnapshotKey(id))
	if err != nil || !n.exists {
		return err
	}
	n.T.Status, n.T.Fault, n.T.UpdatedAt = block.SnapshotError, fault, at
	tx.Put(records.SnapshotKey(id), records.Encode(n.T), n.rev)
	return nil
}

func faultAttachment(s kvtx.Snapshot, tx *kvtx.Tx, id block.AttachmentID, status block.AttachmentStatus, fault string, at time.Time) error {
	a, err := read[block.Attachment](s, records.AttachmentKey(id))
	if err != nil || !a.exists {
		return err
	}
	v, err := read[block.Volume](s, records.VolumeKey(a.T.Volume))
	if err != nil {
		return err
	}
	a.T.Status, a.T.Fault, a.T.UpdatedAt = status, fault, at
	tx.Put(records.AttachmentKey(id), records.Encode(a.T), a.rev)
	if v.exists {
		v.T.SetAttachment(id, status)
		tx.Put(records.VolumeKey(v.T.ID), records.Encode(v.T), v.rev)
	}
	return nil
}

// ended refuses what is asked of an operation that has ended.
func ended(rec kvlock.Record, verb string) error {
	return messages.Errorf(messages.CodeConflict, "operation %s has ended (%s) and cannot be %s", rec.Owner, rec.Phase, verb)
}

// ownerOf checks the ID before it becomes part of a key.
func ownerOf(id block.OperationID) (string, error) {
	if !block.IsUUID(string(id)) {
		return "", messages.OperationNotFound(id)
	}
	return string(id), nil
}

// visible reads an operation's record if the caller may see the operation.
func visible(s kvtx.Snapshot, c Caller, id block.OperationID) (kvlock.Record, error) {
	e, err := s.Get(kvlock.OwnerKey(string(id)))
	if err != nil {
		return kvlock.Record{}, err
	}
	if !e.Exists {
		return kvlock.Record{}, messages.OperationNotFound(id)
	}
	rec, err := kvlock.DecodeRecord(e)
	if err != nil {
		return rec, err
	}
	op, err := operationOf(rec)
	if err != nil {
		return rec, err
	}
	if !c.sees(op.Project) {
		return rec, messages.OperationNotFound(id)
	}
	return rec, nil
}

// one is a snapshot of one entry.
type one struct{ entry kvtx.Entry }

func (o one) Get(string) (kvtx.Entry, error) { return o.entry, nil }

// operated puts the errors of the verbs on operations in words.
func (a *Admitter) operated(id block.OperationID, verb string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kvlock.ErrNotFound):
		return messages.OperationNotFound(id)
	case errors.Is(err, kvlock.ErrEnded):
		return messages.Errorf(messages.CodeConflict, "operation %s has ended and cannot be %s", id, verb)
	case errors.Is(err, kvlock.ErrVoid):
		return messages.Errorf(messages.CodeConflict, "operation %s is void and cannot be %s: it can only be abandoned", id, verb)
	case errors.Is(err, kvlock.ErrQueued):
		return messages.Errorf(messages.CodeConflict, "operation %s waits in line and cannot be %s", id, verb)
	case errors.Is(err, saga.ErrNotStuck), errors.Is(err, kvlock.ErrInvalid):
		return messages.Errorf(messages.CodeConflict, "operation %s is not stuck and cannot be %s", id, verb)
	case errors.Is(err, kvlock.ErrTooLarge):
		return messages.Errorf(messages.CodeTooLarge, "operation %s cannot be %s: %v", id, verb, err)
	}
	return a.refusal(err, id)
}
