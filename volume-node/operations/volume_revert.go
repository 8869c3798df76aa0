package operations

import (
	"context"
	"slices"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// volumeRevert sets a volume's content back to its latest snapshot. What was written since is lost.
type volumeRevert struct {
	Backend  string           `msgpack:"backend"`
	Volume   block.VolumeID   `msgpack:"volume"`
	Snapshot block.SnapshotID `msgpack:"snapshot"`
	// Sizes as the first step found them; both are claimed exclusively, so they stay.
	SizeGiB     block.GiB `msgpack:"size_gib,omitempty"`
	SnapshotGiB block.GiB `msgpack:"snapshot_gib,omitempty"`
}

func (e *Env) volumeRevert() saga.Definition[volumeRevert] {
	return saga.Definition[volumeRevert]{
		Name: string(block.VolumeRevert), Version: 1,
		Steps: []saga.Step[volumeRevert]{
			{Name: "check", Do: e.checkVolumeRevert, Undo: saga.Nothing[volumeRevert], Retry: tryDriver},
			// What it overwrites cannot be brought back. Its begin is journalled, so that whoever comes after a crash
			// knows that an earlier child may live.
			{Name: "revert", Do: e.revertVolume, Pivot: true, Intent: true, Retry: tryDriver},
		},
		Done: e.volumeReverted,
	}
}

func (e *Env) checkVolumeRevert(ctx context.Context, run saga.Run, s *volumeRevert) error {
	look := e.look(ctx)
	v, err := e.alone(ctx, s.Volume)
	if err != nil {
		return err
	}
	if err := e.follow(ctx, run, s.Backend, v.Backend, nil); err != nil {
		return err
	}
	src, err := snapshot(look, s.Snapshot)
	if err != nil {
		return err
	}
	d, err := e.backend(s.Backend)
	if err != nil {
		return err
	}
	switch {
	case v.Status != block.VolumeAvailable || len(v.Attachments) > 0:
		return invalidVolume(s.Volume, "is %s: it must be available and detached to be reverted.", v.ShownStatus(block.Holder{}, block.Holder{}))
	case src.data.Status != block.SnapshotAvailable:
		return invalidSnapshot(s.Snapshot, "is %s, a volume cannot be reverted to it.", src.data.Status)
	case src.data.Volume != s.Volume || len(v.Snapshots) == 0 || v.Snapshots[len(v.Snapshots)-1] != s.Snapshot:
		return invalidSnapshot(s.Snapshot, "is not the latest snapshot of volume %s (%d snapshots), only to that one it can be reverted.",
			s.Volume, len(slices.Clip(v.Snapshots)))
	case src.data.SizeGiB > v.SizeGiB:
		return invalidVolume(s.Volume, "is smaller than snapshot %s.", s.Snapshot)
	case !d.Info().Capabilities.Revert:
		return refuse(messages.CodeUnsupported, "backend %s cannot revert volumes", s.Backend)
	}
	s.SizeGiB, s.SnapshotGiB = v.SizeGiB, src.data.SizeGiB
	return driverError(e.closeExports(ctx, run, d, s.Volume))
}

func (e *Env) revertVolume(ctx context.Context, run saga.Run, s *volumeRevert) error {
	dst := driver.Volume{ID: driver.VolumeID(s.Volume), Bytes: s.SizeGiB.Bytes()}
	src := driver.Snapshot{ID: driver.SnapshotID(s.Snapshot), Volume: dst.ID, Bytes: s.SnapshotGiB.Bytes()}
	d, c, err := e.writer(ctx, run, s.Backend, dst.ID.Ref())
	if err != nil {
		return perhaps(run, err)
	}
	if run.Again && run.Epoch <= 1 { // an earlier try of this worker: its child must be gone, too
		if err := d.RaiseFence(ctx, c, dst.ID.Ref()); err != nil {
			return perhaps(run, driverError(err))
		}
	}
	return perhaps(run, driverError(d.RevertVolume(ctx, c, dst, src)))
}

func (e *Env) volumeReverted(run saga.Run, s volumeRevert) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		v.data.UpdatedAt = now()
		v.put(tx)
		return nil
	})
	return nil
}
