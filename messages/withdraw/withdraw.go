// Package withdraw says what becomes of the records of an operation that gave up waiting for its locks: nothing of it stays. What
// was made for it at admission is removed, and its project gets back what it was charged, in the commit in which it leaves its lines.
//
// It is given to kvlock (WithLeft) by every process, because anybody whose commit goes through a line may find a waiter whose deadline
// has passed.
package withdraw

import (
	"fmt"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// Into returns what is to be staged when an operation leaves its lines. node names whose credit record takes what projects get back.
func Into(node string) func(kvtx.Snapshot, *kvtx.Tx, kvlock.Record) ([]byte, error) {
	return func(s kvtx.Snapshot, tx *kvtx.Tx, r kvlock.Record) ([]byte, error) {
		payload, err := sagakv.DecodePayload(r.Payload)
		if err != nil {
			return nil, err
		}
		op, err := records.Decode[records.Operation](payload.Request)
		if err != nil {
			return nil, err
		}
		req, err := messages.DecodeRequest(op.Kind, op.Version, op.Request)
		if err != nil {
			return nil, err
		}
		w := withdrawal{s: s, tx: tx, node: node}
		switch req := req.(type) {
		case *messages.CreateVolume:
			return nil, w.Volume(req.Volume)
		case *messages.CreateSnapshot:
			return nil, w.Snapshot(req.Snapshot)
		case *messages.ExtendVolume:
			return nil, w.extend(req)
		case *messages.AttachVolume:
			return nil, w.attach(req, op.Submitted)
		}
		return nil, nil
	}
}

// withdrawal is one of them.
type withdrawal struct {
	s    kvtx.Snapshot
	tx   *kvtx.Tx
	node string
}

// Volume removes the record of a volume that was never made, and gives back its charge.
func Volume(s kvtx.Snapshot, tx *kvtx.Tx, node string, id block.VolumeID) error {
	return withdrawal{s: s, tx: tx, node: node}.Volume(id)
}

// Snapshot removes the record of a snapshot that was never made, and gives back its charge.
func Snapshot(s kvtx.Snapshot, tx *kvtx.Tx, node string, id block.SnapshotID) error {
	return withdrawal{s: s, tx: tx, node: node}.Snapshot(id)
}

// Attachments removes the records of the attachments of a volume that is removed in this commit. They belong to requests that wait in
// line behind its end; an attachment of no volume could never be removed.
func Attachments(s kvtx.Snapshot, tx *kvtx.Tx, v block.Volume) error {
	for _, ref := range v.Attachments {
		_, e, err := load[block.Attachment](s, records.AttachmentKey(ref.ID))
		if err != nil {
			return err
		}
		if e.Exists {
			tx.Delete(e.Key, e.Revision)
		}
	}
	return nil
}

func (w withdrawal) Volume(id block.VolumeID) error {
	v, e, err := load[block.Volume](w.s, records.VolumeKey(id))
	if err != nil || !e.Exists {
		return err
	}
	w.tx.Delete(e.Key, e.Revision)
	if err := Attachments(w.s, w.tx, v); err != nil {
		return err
	}
	return w.credit(v.Project, records.Usage{Volumes: 1, GiB: v.ChargedGiB})
}

func (w withdrawal) Snapshot(id block.SnapshotID) error {
	n, e, err := load[block.Snapshot](w.s, records.SnapshotKey(id))
	if err != nil || !e.Exists {
		return err
	}
	v, ve, err := load[block.Volume](w.s, records.VolumeKey(n.Volume))
	if err != nil {
		return err
	}
	if ve.Exists {
		v.RemoveSnapshot(id)
		w.tx.Put(ve.Key, records.Encode(v), ve.Revision)
	}
	w.tx.Delete(e.Key, e.Revision)
	return w.credit(n.Project, records.Usage{Snapshots: 1, GiB: n.SizeGiB})
}

// extend gives back what the larger volume was charged at admission.
func (w withdrawal) extend(req *messages.ExtendVolume) error {
	v, e, err := load[block.Volume](w.s, records.VolumeKey(req.Volume))
	if err != nil || !e.Exists || req.ChargeGiB == 0 || !v.CreatedThen(req.Created) {
		return err
	}
	v.ChargedGiB -= req.ChargeGiB
	w.tx.Put(e.Key, records.Encode(v), e.Revision)
	return w.credit(v.Project, records.Usage{GiB: req.ChargeGiB})
}

// attach removes an attachment that this operation brought, and not another one that got its ID since. Who waits behind it for the
// same attachment finds that it has gone.
func (w withdrawal) attach(req *messages.AttachVolume, submitted time.Time) error {
	a, e, err := load[block.Attachment](w.s, records.AttachmentKey(req.Attachment))
	if err != nil || !e.Exists || !req.New || !a.CreatedAt.Equal(submitted) {
		return err
	}
	v, ve, err := load[block.Volume](w.s, records.VolumeKey(req.Volume))
	if err != nil {
		return err
	}
	if ve.Exists {
		v.RemoveAttachment(req.Attachment)
		w.tx.Put(ve.Key, records.Encode(v), ve.Revision)
	}
	w.tx.Delete(e.Key, e.Revision)
	return nil
}

// credit gives the project back what it was charged: admission folds it in.
func (w withdrawal) credit(project string, back records.Usage) error {
	key := records.CreditKey(project, w.node)
	c, e, err := load[records.Credit](w.s, key)
	if err != nil {
		return err
	}
	c.Project, c.Node, c.Back = project, w.node, c.Back.Add(back)
	w.tx.Put(key, records.Encode(c), e.Revision)
	return nil
}

func load[T records.Record](s kvtx.Snapshot, key string) (T, kvtx.Entry, error) {
	var zero T
	e, err := s.Get(key)
	if err != nil || !e.Exists {
		return zero, e, err
	}
	r, err := records.Decode[T](e.Value)
	if err != nil {
		return zero, e, fmt.Errorf("%s: %w", key, err)
	}
	return r, e, nil
}
