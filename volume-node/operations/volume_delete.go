package operations

import (
	"context"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/messages/withdraw"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// volumeDelete deletes a volume that has no snapshots and no attachments. One that is in error and was never made on
// its backend is deleted the same way: what is missing is deleted.
type volumeDelete struct {
	Backend string         `msgpack:"backend"`
	Volume  block.VolumeID `msgpack:"volume"`
}

func (e *Env) volumeDelete() saga.Definition[volumeDelete] {
	return saga.Definition[volumeDelete]{
		Name: string(block.VolumeDelete), Version: 1,
		Steps: []saga.Step[volumeDelete]{
			// The pivot comes first: nobody can say what is left of a volume once its deletion began.
			{Name: "check", Do: e.checkVolumeDelete, Undo: saga.Nothing[volumeDelete], Records: true, Pivot: true},
			{Name: "delete", Do: e.deleteVolume, Retry: untilDone},
		},
		Done: e.volumeDeleted,
	}
}

func (e *Env) checkVolumeDelete(ctx context.Context, run saga.Run, s *volumeDelete) error {
	if err := e.followVolume(ctx, run, s.Backend, s.Volume); err != nil {
		return err
	}
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		seen, err := aside(snap, tx, v.data)
		switch {
		case err != nil:
			return err
		case v.data.Status == block.VolumeCreating: // of another create, which waits behind this: what was to be deleted has gone
			return refused(messages.VolumeNotFound(s.Volume))
		case len(seen.Snapshots) > 0:
			return kvtx.Sure(invalidVolume(s.Volume, "has %d snapshots and cannot be deleted before them.", len(seen.Snapshots)))
		case len(seen.Attachments) > 0:
			return kvtx.Sure(invalidVolume(s.Volume, "is attached and cannot be deleted."))
		case v.data.Backend != s.Backend:
			return elsewhere(s.Backend, v.data.Backend)
		}
		tx.Check(v.key, v.rev) // what this process remembers may be old
		return nil
	})
	return nil
}

func (e *Env) deleteVolume(ctx context.Context, run saga.Run, s *volumeDelete) error {
	id := driver.VolumeID(s.Volume)
	d, c, err := e.writer(ctx, run, s.Backend, id.Ref())
	if err != nil {
		return err
	}
	if err := e.closeExports(ctx, run, d, s.Volume); err != nil {
		return again(err)
	}
	return again(d.DeleteVolume(ctx, c, id))
}

func (e *Env) volumeDeleted(run saga.Run, s volumeDelete) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		if err := giveBack(snap, tx, v.data.Backend, v.data.ReservedGiB); err != nil {
			return err
		}
		if err := e.credit(snap, tx, v.data.Project, records.Usage{Volumes: 1, GiB: v.data.ChargedGiB}); err != nil {
			return err
		}
		v.remove(tx)
		return withdraw.Attachments(snap, tx, v.data)
	})
	return nil
}
