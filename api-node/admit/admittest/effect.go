package admittest

import (
	"errors"
	"strings"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

type stored[T records.Record] struct {
	key    string
	val    T
	rev    kvtx.Revision
	exists bool
}

func read[T records.Record](s kvtx.Snapshot, key string) (stored[T], error) {
	e, err := s.Get(key)
	r := stored[T]{key: key, rev: e.Revision, exists: e.Exists}
	if err == nil && e.Exists {
		r.val, err = records.Decode[T](e.Value)
	}
	return r, err
}

func put[T records.Record](tx *kvtx.Tx, r stored[T]) { tx.Put(r.key, records.Encode(r.val), r.rev) }

// operationOf returns the operation that a dispatch subject names: op.<bucket>.req.<backend>.<operation>.<n>.
func operationOf(subject string) block.OperationID {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 2 {
		return ""
	}
	return block.OperationID(tokens[len(tokens)-2])
}

// effect is what the end of an operation does to resources, pool and credits.
func (w *Worker) effect(s kvtx.Snapshot, tx *kvtx.Tx, req messages.Request, failed bool) error {
	switch r := req.(type) {
	case *messages.CreateVolume:
		return w.volume(s, tx, r.Volume, func(v *block.Volume) (block.GiB, error) {
			v.Status = block.VolumeAvailable
			if failed {
				v.Status, v.Fault = block.VolumeError, ErrTest.Error()
				return 0, nil
			}
			v.ReservedGiB = v.SizeGiB
			return v.SizeGiB, nil
		})
	case *messages.ExtendVolume:
		return w.volume(s, tx, r.Volume, func(v *block.Volume) (block.GiB, error) {
			if failed {
				back := records.Usage{GiB: v.ChargedGiB - v.SizeGiB}
				v.ChargedGiB = v.SizeGiB
				return 0, w.credit(s, tx, v.Project, back)
			}
			more := r.SizeGiB - v.ReservedGiB
			v.SizeGiB, v.ReservedGiB = r.SizeGiB, r.SizeGiB
			return more, nil
		})
	case *messages.DeleteVolume:
		return w.deleteVolume(s, tx, r, failed)
	case *messages.CreateSnapshot:
		n, err := read[block.Snapshot](s, records.SnapshotKey(r.Snapshot))
		if err != nil {
			return err
		}
		n.val.Status = block.SnapshotAvailable
		if failed {
			n.val.Status, n.val.Fault = block.SnapshotError, ErrTest.Error()
		}
		put(tx, n)
	case *messages.DeleteSnapshot:
		return w.deleteSnapshot(s, tx, r, failed)
	case *messages.AttachVolume:
		status := block.AttachAttaching
		if failed {
			status = block.AttachErrorAttaching
		}
		return attachment(s, tx, r.Volume, r.Attachment, status)
	case *messages.DetachVolume:
		return attachment(s, tx, r.Volume, r.Attachment, "")
	case *messages.RevertVolume:
	}
	return nil
}

// volume changes a volume and adds what change returns to its pool.
func (w *Worker) volume(s kvtx.Snapshot, tx *kvtx.Tx, id block.VolumeID, change func(*block.Volume) (block.GiB, error)) error {
	v, err := read[block.Volume](s, records.VolumeKey(id))
	if err != nil {
		return err
	}
	if !v.exists {
		return errors.New("the volume is gone")
	}
	more, err := change(&v.val)
	if err != nil {
		return err
	}
	v.val.UpdatedAt = time.Now().UTC()
	put(tx, v)
	return w.reserve(s, tx, v.val.Backend, more)
}

func (w *Worker) reserve(s kvtx.Snapshot, tx *kvtx.Tx, backend string, more block.GiB) error {
	if more == 0 {
		return nil
	}
	p, err := read[records.Pool](s, records.PoolKey(backend))
	if err != nil {
		return err
	}
	p.val.AllocatedGiB += more
	put(tx, p)
	return nil
}

func (w *Worker) credit(s kvtx.Snapshot, tx *kvtx.Tx, project string, back records.Usage) error {
	c, err := read[records.Credit](s, records.CreditKey(project, w.node))
	if err != nil {
		return err
	}
	c.val.Project, c.val.Node, c.val.Back = project, w.node, c.val.Back.Add(back)
	put(tx, c)
	return nil
}

func (w *Worker) deleteVolume(s kvtx.Snapshot, tx *kvtx.Tx, r *messages.DeleteVolume, failed bool) error {
	v, err := read[block.Volume](s, records.VolumeKey(r.Volume))
	if err != nil || failed {
		return err
	}
	if len(v.val.Snapshots)+len(v.val.Attachments) > 0 {
		return errors.New("the volume has children")
	}
	tx.Delete(v.key, v.rev)
	if err := w.reserve(s, tx, v.val.Backend, -v.val.ReservedGiB); err != nil {
		return err
	}
	return w.credit(s, tx, v.val.Project, records.Usage{Volumes: 1, GiB: v.val.ChargedGiB})
}

func (w *Worker) deleteSnapshot(s kvtx.Snapshot, tx *kvtx.Tx, r *messages.DeleteSnapshot, failed bool) error {
	n, err := read[block.Snapshot](s, records.SnapshotKey(r.Snapshot))
	if err != nil || failed {
		return err
	}
	v, err := read[block.Volume](s, records.VolumeKey(n.val.Volume))
	if err != nil {
		return err
	}
	v.val.RemoveSnapshot(r.Snapshot)
	put(tx, v)
	tx.Delete(n.key, n.rev)
	return w.credit(s, tx, n.val.Project, records.Usage{Snapshots: 1, GiB: n.val.SizeGiB})
}

// attachment sets the status, or removes the attachment if it is empty.
func attachment(s kvtx.Snapshot, tx *kvtx.Tx, volume block.VolumeID, id block.AttachmentID, status block.AttachmentStatus) error {
	a, err := read[block.Attachment](s, records.AttachmentKey(id))
	if err != nil {
		return err
	}
	v, err := read[block.Volume](s, records.VolumeKey(volume))
	if err != nil {
		return err
	}
	if !a.exists || !v.exists {
		return errors.New("the attachment or its volume is gone")
	}
	if status == "" {
		tx.Delete(a.key, a.rev)
		v.val.RemoveAttachment(id)
	} else {
		a.val.Status = status
		if status == block.AttachAttaching {
			a.val.Connection = &block.Connection{Driver: "nbd", Export: string(id)}
		}
		put(tx, a)
		v.val.SetAttachment(id, status)
	}
	put(tx, v)
	return nil
}
