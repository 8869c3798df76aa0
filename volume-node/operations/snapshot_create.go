package operations

import (
	"context"
	"errors"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/messages/withdraw"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// snapshotCreate keeps a volume's content of one moment.
type snapshotCreate struct {
	Backend  string           `msgpack:"backend"`
	Snapshot block.SnapshotID `msgpack:"snapshot"`
	Volume   block.VolumeID   `msgpack:"volume"`
	SizeGiB  block.GiB        `msgpack:"size_gib"`
	// Queued: it was to wait in line if it had to.
	Queued bool `msgpack:"queued,omitempty"`
}

func (e *Env) snapshotCreate() saga.Definition[snapshotCreate] {
	return saga.Definition[snapshotCreate]{
		Name: string(block.SnapshotCreate), Version: 1,
		Steps: []saga.Step[snapshotCreate]{
			// The snapshot's name is in the request, so it stands in the journal before the snapshot is in the world.
			{Name: "snapshot", Do: e.createSnapshot, Undo: e.removeSnapshot, Retry: tryDriver, UndoRetry: tryUndo},
		},
		Done:   e.snapshotCreated,
		Undone: e.snapshotNotCreated,
	}
}

func (s *snapshotCreate) dst() driver.Snapshot {
	return driver.Snapshot{ID: driver.SnapshotID(s.Snapshot), Volume: driver.VolumeID(s.Volume), Bytes: s.SizeGiB.Bytes()}
}

func (e *Env) createSnapshot(ctx context.Context, run saga.Run, s *snapshotCreate) error {
	v, err := volume(e.look(ctx), s.Volume)
	if err != nil {
		return err
	}
	if err := e.follow(ctx, run, s.Backend, v.data.Backend, s.placed(v.data.Backend)); err != nil {
		return err
	}
	if v.data.Status != block.VolumeAvailable { // an attach may have come since, and waits for this copy or is held for it
		return invalidVolume(s.Volume, "is %s, no snapshot of it can be made.", v.data.Status)
	}
	d, c, err := e.writer(ctx, run, s.Backend, s.dst().ID.Ref())
	if err != nil {
		return err
	}
	if err := e.hold(ctx, run, d, s.Backend, &v.data, &c); err != nil {
		return err
	}
	return driverError(d.CreateSnapshot(ctx, c, s.dst()))
}

// placed says where the snapshot will be.
func (s *snapshotCreate) placed(on string) kvtxStage {
	return func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		r, err := snapshot(snap, s.Snapshot)
		if err != nil {
			return err
		}
		r.data.Backend = on
		r.put(tx)
		return nil
	}
}

func (e *Env) removeSnapshot(ctx context.Context, run saga.Run, s snapshotCreate) error {
	d, c, err := e.writer(ctx, run, s.Backend, s.dst().ID.Ref())
	if err != nil {
		return err
	}
	return again(d.DeleteSnapshot(ctx, c, s.dst()))
}

func (e *Env) snapshotCreated(run saga.Run, s snapshotCreate) error {
	return e.snapshotIs(run, s, block.SnapshotAvailable, "")
}

// snapshotNotCreated leaves the snapshot as an error that its owner can read and delete; it stays charged until then.
func (e *Env) snapshotNotCreated(run saga.Run, s snapshotCreate, cause error) error {
	if s.Queued && worldChanged(cause) {
		stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
			return withdraw.Snapshot(snap, tx, e.NodeName, s.Snapshot)
		})
		return nil
	}
	return e.snapshotIs(run, s, block.SnapshotError, words(cause))
}

func (e *Env) snapshotIs(run saga.Run, s snapshotCreate, status block.SnapshotStatus, fault string) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		r, err := load[block.Snapshot](snap, records.SnapshotKey(s.Snapshot))
		if errors.Is(err, errMissing) && status == block.SnapshotError {
			return nil
		}
		if err != nil {
			return err
		}
		r.data.Status, r.data.Fault, r.data.UpdatedAt = status, fault, now()
		r.put(tx)
		return nil
	})
	return nil
}
