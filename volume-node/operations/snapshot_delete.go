package operations

import (
	"context"
	"errors"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// snapshotDelete deletes a snapshot. Volumes that were made from it stay.
type snapshotDelete struct {
	Backend  string           `msgpack:"backend"`
	Snapshot block.SnapshotID `msgpack:"snapshot"`
	Volume   block.VolumeID   `msgpack:"volume"`
	SizeGiB  block.GiB        `msgpack:"size_gib,omitempty"`
}

func (e *Env) snapshotDelete() saga.Definition[snapshotDelete] {
	return saga.Definition[snapshotDelete]{
		Name: string(block.SnapshotDelete), Version: 1,
		Steps: []saga.Step[snapshotDelete]{
			// The pivot comes first, as in the deletion of a volume.
			{Name: "check", Do: e.checkSnapshotDelete, Undo: saga.Nothing[snapshotDelete], Pivot: true, Records: true},
			{Name: "delete", Do: e.deleteSnapshot, Retry: untilDone},
		},
		Done: e.snapshotDeleted,
	}
}

func (e *Env) checkSnapshotDelete(ctx context.Context, run saga.Run, s *snapshotDelete) error {
	r, err := snapshot(e.look(ctx), s.Snapshot)
	if err != nil {
		return err
	}
	if r.data.Status == block.SnapshotCreating { // of another create, which waits behind this: what was to be deleted has gone
		return refused(messages.SnapshotNotFound(s.Snapshot))
	}
	s.Volume, s.SizeGiB = r.data.Volume, r.data.SizeGiB
	return e.follow(ctx, run, s.Backend, r.data.Backend, nil)
}

func (e *Env) deleteSnapshot(ctx context.Context, run saga.Run, s *snapshotDelete) error {
	snap := driver.Snapshot{ID: driver.SnapshotID(s.Snapshot), Volume: driver.VolumeID(s.Volume), Bytes: s.SizeGiB.Bytes()}
	d, c, err := e.writer(ctx, run, s.Backend, snap.ID.Ref())
	if err != nil {
		return err
	}
	return again(d.DeleteSnapshot(ctx, c, snap))
}

func (e *Env) snapshotDeleted(run saga.Run, s snapshotDelete) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		r, err := snapshot(snap, s.Snapshot)
		if err != nil {
			return err
		}
		v, err := load[block.Volume](snap, records.VolumeKey(r.data.Volume))
		if err == nil {
			v.data.RemoveSnapshot(s.Snapshot)
			v.put(tx)
		} else if !errors.Is(err, errMissing) {
			return err
		}
		if err := e.credit(snap, tx, r.data.Project, records.Usage{Snapshots: 1, GiB: r.data.SizeGiB}); err != nil {
			return err
		}
		r.remove(tx)
		return nil
	})
	return nil
}
