package operations

import (
	"context"
	"errors"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// volumeExtend makes a volume larger: to a size, never by one.
type volumeExtend struct {
	Backend       string         `msgpack:"backend"`
	Volume        block.VolumeID `msgpack:"volume"`
	ToGiB         block.GiB      `msgpack:"to_gib"`
	AllowAttached bool           `msgpack:"allow_attached,omitempty"`
	// ChargeGiB is what the project was charged for this extend; the volume may be charged for others that wait, too.
	ChargeGiB block.GiB `msgpack:"charge_gib,omitempty"`
	// Created is when the volume was made that was charged.
	Created time.Time `msgpack:"created,omitempty"`
}

func (e *Env) volumeExtend() saga.Definition[volumeExtend] {
	return saga.Definition[volumeExtend]{
		Name: string(block.VolumeExtend), Version: 1,
		Steps: []saga.Step[volumeExtend]{
			{Name: "reserve", Do: e.reserveExtend, Undo: saga.Nothing[volumeExtend], Records: true, Retry: tryReserve},
			// Shrinking loses data, so nothing is taken back once the backend has grown the volume.
			{Name: "extend", Do: e.extendVolume, Pivot: true, Retry: tryDriver},
			{Name: "tell-hosts", Do: e.resizeExports, Retry: untilDone},
		},
		Done:   e.volumeExtended,
		Undone: e.volumeNotExtended,
	}
}

func (e *Env) reserveExtend(ctx context.Context, run saga.Run, s *volumeExtend) error {
	if err := e.followVolume(ctx, run, s.Backend, s.Volume); err != nil {
		return err
	}
	d, err := e.backend(s.Backend)
	if err != nil {
		return err
	}
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		seen, err := aside(snap, tx, v.data)
		if err != nil {
			return err
		}
		shown := seen.ShownStatus(block.Holder{}, block.Holder{})
		switch {
		case v.data.Backend != s.Backend:
			return elsewhere(s.Backend, v.data.Backend)
		case v.data.Status != block.VolumeAvailable, shown != block.VolumeAvailable && !s.AllowAttached:
			return kvtx.Sure(invalidVolume(s.Volume, "is %s and cannot be extended.", shown))
		case shown != block.VolumeAvailable && !d.Info().Capabilities.OnlineExtend:
			return kvtx.Sure(invalidVolume(s.Volume, "is attached, and backend %s cannot extend a volume that is in use.", s.Backend))
		case s.ToGiB <= v.data.SizeGiB:
			return refuse(messages.CodeInvalid, "New size for extend must be greater than current size. (current: %d, extended: %d).",
				v.data.SizeGiB, s.ToGiB)
		}
		err = reserve(snap, tx, v.data.Backend, s.ToGiB-v.data.ReservedGiB)
		if errors.Is(err, errPoolFull) { // the volume is where it is
			return refuse(messages.CodeNoBackend, "No valid backend was found. The volume cannot be extended: %v", err)
		}
		if err != nil {
			return err
		}
		v.data.ReservedGiB = s.ToGiB
		v.put(tx)
		return nil
	})
	return nil
}

func (e *Env) extendVolume(ctx context.Context, run saga.Run, s *volumeExtend) error {
	v, err := volume(e.look(ctx), s.Volume) // its size is the old one until the operation ends
	if err != nil {
		return perhaps(run, err)
	}
	from, to := onBackend(&v.data), s.ToGiB.Bytes()
	d, c, err := e.writer(ctx, run, s.Backend, from.ID.Ref())
	if err != nil {
		return perhaps(run, err)
	}
	err = driverError(d.ExtendVolume(ctx, c, from, to))
	if err == nil || !run.Again || saga.IsUnknown(err) {
		return err
	}
	// No earlier try lives: the size says whether one took effect.
	o, looking := d.Look(ctx, from.ID.Ref())
	if errors.Is(looking, driver.ErrAway) {
		return looking
	}
	if looking == nil && o.Bytes < to || errors.Is(looking, driver.ErrNotFound) || errors.Is(looking, driver.ErrUnsupported) {
		return err
	}
	return perhaps(run, err)
}

// resizeExports makes new connections of hosts see the new size.
func (e *Env) resizeExports(ctx context.Context, run saga.Run, s *volumeExtend) error {
	d, err := e.backend(s.Backend)
	if err != nil {
		return err
	}
	if e.Exporter == nil || !d.Info().Capabilities.KeepsData {
		return nil
	}
	return again(e.exporter(run).Resize(ctx, string(s.Volume), s.ToGiB.Bytes()))
}

func (e *Env) volumeExtended(run saga.Run, s volumeExtend) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		more := s.ChargeGiB - (s.ToGiB - v.data.SizeGiB) // another extend came first
		v.data.SizeGiB, v.data.UpdatedAt = s.ToGiB, now()
		if err := e.uncharge(snap, tx, &v.data, more); err != nil {
			return err
		}
		v.put(tx)
		return nil
	})
	return nil
}

// volumeNotExtended leaves the volume as it was, and gives back what the larger one would have taken.
func (e *Env) volumeNotExtended(run saga.Run, s volumeExtend, _ error) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		v, err := load[block.Volume](snap, records.VolumeKey(s.Volume))
		if errors.Is(err, errMissing) || err == nil && !v.data.CreatedThen(s.Created) {
			return nil
		}
		if err != nil {
			return err
		}
		if more := v.data.ReservedGiB - v.data.SizeGiB; more > 0 {
			if err := giveBack(snap, tx, v.data.Backend, more); err != nil {
				return err
			}
			v.data.ReservedGiB = v.data.SizeGiB
		}
		if err := e.uncharge(snap, tx, &v.data, s.ChargeGiB); err != nil {
			return err
		}
		v.data.UpdatedAt = now()
		v.put(tx)
		return nil
	})
	return nil
}

// uncharge gives back what the volume is charged beyond its size, more at most.
func (e *Env) uncharge(snap kvtx.Snapshot, tx *kvtx.Tx, v *block.Volume, more block.GiB) error {
	if more = min(more, v.ChargedGiB-v.SizeGiB); more <= 0 {
		return nil
	}
	v.ChargedGiB -= more
	return e.credit(snap, tx, v.Project, records.Usage{GiB: more})
}
