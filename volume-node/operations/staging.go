package operations

import (
	"context"
	"errors"
	"fmt"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// stage adds a change of records to the commit of the step or of the end. fn may run several times.
func stage(run saga.Run, fn func(s kvtx.Snapshot, tx *kvtx.Tx) error) { run.Stage(sagakv.Write(fn)) }

// errMissing: there is no such record.
var errMissing = errors.New("there is no such record")

// stored is a record with the revision that a write of it expects.
type stored[T records.Record] struct {
	key  string
	rev  kvtx.Revision
	data T
}

// load reads a record. It matches errMissing if there is none; one that cannot be read is permanent: waiting does not
// make it readable.
func load[T records.Record](s kvtx.Snapshot, key string) (stored[T], error) {
	e, err := s.Get(key)
	if err != nil {
		return stored[T]{}, err
	}
	return decode[T](e)
}

func decode[T records.Record](e kvtx.Entry) (stored[T], error) {
	r := stored[T]{key: e.Key, rev: e.Revision}
	if !e.Exists {
		return r, fmt.Errorf("%s: %w", e.Key, errMissing)
	}
	data, err := records.Decode[T](e.Value)
	if err != nil {
		return r, saga.Permanent(fmt.Errorf("%s: %w", e.Key, err))
	}
	r.data = data
	return r, nil
}

func (r *stored[T]) put(tx *kvtx.Tx) { tx.Put(r.key, records.Encode(r.data), r.rev) }

func (r *stored[T]) remove(tx *kvtx.Tx) { tx.Delete(r.key, r.rev) }

// volume loads a volume that must be there; that it is not ends the operation.
func volume(s kvtx.Snapshot, id block.VolumeID) (stored[block.Volume], error) {
	v, err := load[block.Volume](s, records.VolumeKey(id))
	if errors.Is(err, errMissing) {
		err = refused(messages.VolumeNotFound(id))
	}
	return v, err
}

func snapshot(s kvtx.Snapshot, id block.SnapshotID) (stored[block.Snapshot], error) {
	v, err := load[block.Snapshot](s, records.SnapshotKey(id))
	if errors.Is(err, errMissing) {
		err = refused(messages.SnapshotNotFound(id))
	}
	return v, err
}

func attachment(s kvtx.Snapshot, id block.AttachmentID) (stored[block.Attachment], error) {
	v, err := load[block.Attachment](s, records.AttachmentKey(id))
	if errors.Is(err, errMissing) {
		err = refused(messages.AttachmentNotFound(id))
	}
	return v, err
}

// leader reads what a step decides on, each key from the stream's leader.
type leader struct {
	ctx   context.Context
	store *kvtx.Store
}

func (l leader) Get(key string) (kvtx.Entry, error) { return l.store.Get(l.ctx, key) }

// look is for the Do of a step: a snapshot that lives as long as the call.
func (e *Env) look(ctx context.Context) kvtx.Snapshot { return leader{ctx, e.Store} }

// errPoolFull: the pool has no room at this moment.
var errPoolFull = errors.New("the pool has no room")

// reserve takes size more of the backend's pool. It matches errPoolFull.
func reserve(s kvtx.Snapshot, tx *kvtx.Tx, backend string, size block.GiB) error {
	p, err := load[records.Pool](s, records.PoolKey(backend))
	if err != nil {
		return err
	}
	if !p.data.Room(size) {
		return fmt.Errorf("%w: %s", errPoolFull, roomWords(&p.data, size))
	}
	p.data.AllocatedGiB += size
	p.put(tx)
	return nil
}

// giveBack returns size to the backend's pool.
func giveBack(s kvtx.Snapshot, tx *kvtx.Tx, backend string, size block.GiB) error {
	if size == 0 {
		return nil
	}
	p, err := load[records.Pool](s, records.PoolKey(backend))
	if err != nil {
		return err
	}
	p.data.AllocatedGiB -= size
	p.put(tx)
	return nil
}

func roomWords(p *records.Pool, size block.GiB) string {
	return fmt.Sprintf("pool %s cannot take %d GiB more: %s", p.Backend, size, p.Words())
}

// credit gives the project back what it was charged, in this node's own record: admission folds it in.
func (e *Env) credit(s kvtx.Snapshot, tx *kvtx.Tx, project string, back records.Usage) error {
	if back.IsZero() {
		return nil
	}
	c, err := load[records.Credit](s, records.CreditKey(project, e.NodeName))
	if errors.Is(err, errMissing) {
		c.data, err = records.Credit{Project: project, Node: e.NodeName}, nil
	}
	if err != nil {
		return err
	}
	c.data.Back = c.data.Back.Add(back)
	c.put(tx)
	return nil
}
