package operations

import (
	"context"
	"errors"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/messages/withdraw"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// volumeCreate makes a volume: empty, from a snapshot, or from another volume.
type volumeCreate struct {
	Backend string         `msgpack:"backend"`
	Volume  block.VolumeID `msgpack:"volume"`
	SizeGiB block.GiB      `msgpack:"size_gib"`
	// At most one of FromSnapshot and FromVolume is set.
	FromSnapshot   block.SnapshotID `msgpack:"from_snapshot,omitempty"`
	SnapshotVolume block.VolumeID   `msgpack:"snapshot_volume,omitempty"`
	FromVolume     block.VolumeID   `msgpack:"from_volume,omitempty"`
	SourceGiB      block.GiB        `msgpack:"source_gib,omitempty"`
	// Queued: it was to wait in line if it had to.
	Queued bool `msgpack:"queued,omitempty"`
	// Dispatch is the dispatch number that the run began with: it bounds how many backends are tried.
	Dispatch uint64 `msgpack:"dispatch"`
}

func newVolumeCreate(op records.Operation, r *messages.CreateVolume, dispatch uint64) volumeCreate {
	return volumeCreate{
		Backend: op.Backend, Queued: op.Queue, Volume: r.Volume, SizeGiB: r.SizeGiB, FromSnapshot: r.FromSnapshot, SnapshotVolume: r.SnapshotVolume,
		FromVolume: r.FromVolume, SourceGiB: r.SourceGiB, Dispatch: dispatch,
	}
}

func (e *Env) volumeCreate() saga.Definition[volumeCreate] {
	return saga.Definition[volumeCreate]{
		Name: string(block.VolumeCreate), Version: 1,
		Steps: []saga.Step[volumeCreate]{
			// The reservation is given back by Undone, in the commit that ends the run.
			{Name: "reserve", Do: e.reserveVolume, Undo: saga.Nothing[volumeCreate], Records: true, Retry: tryReserve},
			{Name: "create", Do: e.createVolume, Undo: e.removeVolume, Retry: tryDriver, UndoRetry: tryUndo},
		},
		Done:   e.volumeCreated,
		Undone: e.volumeNotCreated,
	}
}

// reserveVolume checks the source and takes the volume's room of the pool. A pool that turns out to be full is found
// by the commit; the next try looks for another backend.
func (e *Env) reserveVolume(ctx context.Context, run saga.Run, s *volumeCreate) error {
	on, err := s.checkSource(e.look(ctx))
	if err != nil {
		return err
	}
	if err := e.follow(ctx, run, s.Backend, on, s.placed(on)); err != nil {
		return err
	}
	if run.Attempt > 1 {
		if err := e.roomOrElsewhere(ctx, run, s); err != nil {
			return err
		}
	}
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		if v.data.Status != block.VolumeCreating || v.data.ReservedGiB != 0 {
			return invalidVolume(s.Volume, "is %s and cannot be made again.", v.data.Status)
		}
		if err := reserve(snap, tx, s.Backend, s.SizeGiB); err != nil {
			return err
		}
		v.data.Backend, v.data.ReservedGiB = s.Backend, s.SizeGiB
		v.put(tx)
		return nil
	})
	return nil
}

// checkSource is what admission checked, and says on which backend the source is: a create that waited may find its source changed. The operation holds the source since before
// this look, and many creates may share it, so it is read from the leader and not made part of the commit.
func (s *volumeCreate) checkSource(snap kvtx.Snapshot) (backend string, err error) {
	if s.FromSnapshot != "" {
		src, err := snapshot(snap, s.FromSnapshot)
		if err != nil {
			return "", err
		}
		if src.data.Status != block.SnapshotAvailable {
			return "", refuse(messages.CodeInvalidSnapshot,
				"Invalid snapshot: Originating snapshot status must be one of 'available' values, it is %s", src.data.Status)
		}
		return src.data.Backend, s.fits(src.data.SizeGiB)
	}
	if s.FromVolume != "" {
		src, err := volume(snap, s.FromVolume)
		if err != nil {
			return "", err
		}
		if src.data.Status != block.VolumeAvailable {
			return "", invalidVolume(s.FromVolume, "is %s and cannot be cloned.", src.data.Status)
		}
		return src.data.Backend, s.fits(src.data.SizeGiB)
	}
	return s.Backend, nil
}

func (s *volumeCreate) fits(source block.GiB) error {
	if s.SizeGiB < source {
		return refuse(messages.CodeInvalid, "Volume size %dGB cannot be smaller than the source's size %dGB.", s.SizeGiB, source)
	}
	return nil
}

func (s *volumeCreate) dst() driver.Volume {
	return driver.Volume{ID: driver.VolumeID(s.Volume), Bytes: s.SizeGiB.Bytes()}
}

func (e *Env) createVolume(ctx context.Context, run saga.Run, s *volumeCreate) error {
	d, c, err := e.writer(ctx, run, s.Backend, s.dst().ID.Ref())
	if err != nil {
		return err
	}
	switch {
	case s.FromSnapshot != "":
		src := driver.Snapshot{ID: driver.SnapshotID(s.FromSnapshot), Volume: driver.VolumeID(s.SnapshotVolume), Bytes: s.SourceGiB.Bytes()}
		err = d.CreateFromSnapshot(ctx, c, s.dst(), src)
	case s.FromVolume != "":
		src, lookErr := volume(e.look(ctx), s.FromVolume)
		if lookErr != nil {
			return lookErr
		}
		if err := e.hold(ctx, run, d, s.Backend, &src.data, &c); err != nil {
			return err
		}
		err = d.CloneVolume(ctx, c, s.dst(), onBackend(&src.data))
	default:
		err = d.CreateVolume(ctx, c, s.dst())
	}
	return driverError(err)
}

func (e *Env) removeVolume(ctx context.Context, run saga.Run, s volumeCreate) error {
	d, c, err := e.writer(ctx, run, s.Backend, s.dst().ID.Ref())
	if err != nil {
		return err
	}
	return again(d.DeleteVolume(ctx, c, s.dst().ID))
}

func (e *Env) volumeCreated(run saga.Run, s volumeCreate) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		v.data.Status, v.data.Fault, v.data.UpdatedAt = block.VolumeAvailable, "", now()
		v.put(tx)
		return nil
	})
	return nil
}

// volumeNotCreated leaves the volume as an error that its owner can read and delete; it stays charged until then.
func (e *Env) volumeNotCreated(run saga.Run, s volumeCreate, cause error) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := load[block.Volume](snap, records.VolumeKey(s.Volume))
		if errors.Is(err, errMissing) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := giveBack(snap, tx, v.data.Backend, v.data.ReservedGiB); err != nil {
			return err
		}
		if s.Queued && worldChanged(cause) {
			return withdraw.Volume(snap, tx, e.NodeName, s.Volume)
		}
		v.data.Status, v.data.Fault, v.data.ReservedGiB, v.data.UpdatedAt = block.VolumeError, words(cause), 0, now()
		v.put(tx)
		return nil
	})
	return nil
}
