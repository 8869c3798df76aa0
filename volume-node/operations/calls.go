package operations

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/export"
)

// backend returns the driver of a backend that this node serves. That it serves it not is no fault of the operation.
func (e *Env) backend(name string) (driver.Driver, error) {
	d, ok := e.Drivers[name]
	if !ok {
		return nil, fmt.Errorf("node %s does not serve backend %s", e.NodeName, name)
	}
	return d, nil
}

func driverFence(f saga.Fence) driver.Fence { return driver.Fence{Era: f.Era, Rev: f.Rev} }

func exportFence(f saga.Fence) export.Fence { return export.Fence{Era: f.Era, Rev: f.Rev} }

// onBackend is a volume as its record says that it is on its backend. Its size changes only while its operation has the
// volume alone.
func onBackend(v *block.Volume) driver.Volume {
	return driver.Volume{ID: driver.VolumeID(v.ID), Bytes: v.SizeGiB.Bytes()}
}

// call says on whose behalf a driver is called.
func call(ctx context.Context, run saga.Run) driver.Call {
	return driver.Call{
		Operation: string(run.ID),
		Fence:     driverFence(run.Fence),
		Progress:  func(done, total int64) { run.Progress(done, total, "bytes") },
		Waiting: func(why string) {
			run.Log.InfoContext(ctx, "backend call waits", "reason", why)
			run.Waiting(why)
		},
	}
}

// writer opens the way to write one thing on a backend. A worker that is not the operation's first raises the fence
// before it looks at anything: a late write of its predecessor would land after the look.
func (e *Env) writer(ctx context.Context, run saga.Run, backend string, ref driver.Ref) (driver.Driver, driver.Call, error) {
	d, err := e.backend(backend)
	if err != nil {
		return nil, driver.Call{}, err
	}
	c := call(ctx, run)
	if run.Epoch > 1 {
		if err := d.RaiseFence(ctx, c, ref); err != nil {
			return nil, c, driverError(err)
		}
	}
	return d, c, nil
}

// final are the errors of drivers and exporters that trying again does not change, with the code that they end with.
var final = []struct {
	err  error
	code messages.Code
}{
	{driver.ErrNoSpace, messages.CodeNoBackend},
	{driver.ErrExists, messages.CodeFailed},
	{driver.ErrNotFound, messages.CodeFailed},
	{driver.ErrShrink, messages.CodeFailed},
	{driver.ErrSize, messages.CodeFailed},
	{driver.ErrUnsupported, messages.CodeUnsupported},
	{driver.ErrBusyOpen, messages.CodeInvalidVolume},
	{driver.ErrInvalid, messages.CodeFailed},
	{export.ErrConflict, messages.CodeFailed},
	{export.ErrInvalid, messages.CodeFailed},
	{export.ErrNotFound, messages.CodeFailed},
}

// driverError says to the saga what an error of a driver or an exporter means. What is unknown is asked again: a call
// repeated under the same ID finds what the first one made, and makes it durable if it was not, which a look does not.
func driverError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, driver.ErrFenced), errors.Is(err, export.ErrFenced):
		return fmt.Errorf("%w: %w", saga.ErrFenced, err)
	case errors.Is(err, driver.ErrUnknown):
		return saga.Unknown(err)
	}
	for _, f := range final {
		if errors.Is(err, f.err) {
			return saga.Permanent(saga.Coded(string(f.code), err))
		}
	}
	return err // a hold that was lost, an export server that is away, an error of the disk: tried again
}

// perhaps says what an error means in a step that cannot be undone: if an earlier try may have begun, whose worker died or could not
// tell, then that this one was refused does not say that nothing took effect. Such a run is never undone: it gets stuck.
func perhaps(run saga.Run, err error) error {
	if err == nil || !run.Again || errors.Is(err, saga.ErrFenced) {
		return err
	}
	return saga.Unknown(err)
}

// again says what an error means in a step that must succeed in the end: nothing is final there.
func again(err error) error {
	if errors.Is(err, driver.ErrFenced) || errors.Is(err, export.ErrFenced) {
		return driverError(err)
	}
	return err
}

// hold makes c take its copy of the volume while no host writes. Where hosts cannot write anyway it changes nothing.
//
// A backend that copies in a moment always copies under the hold: an attach may come in between. One that copies
// slowly copies only what no host can write: an attach that comes later waits for this operation (see before).
func (e *Env) hold(ctx context.Context, run saga.Run, d driver.Driver, backend string, vol *block.Volume, c *driver.Call) error {
	can := d.Info().Capabilities
	switch {
	case !can.KeepsData, !can.CloneWhileOpen && len(vol.Attachments) == 0:
		return nil
	case !can.CloneWhileOpen:
		return e.closedToHosts(ctx, run, backend, vol)
	case e.Exporter == nil && len(vol.Attachments) > 0:
		return fmt.Errorf("volume %s is attached, and node %s has no export server that could hold its hosts' writes", vol.ID, e.NodeName)
	case e.Exporter == nil:
		return nil
	}
	c.Hold = func(ctx context.Context) (func() error, error) {
		h, err := e.exporter(run).Hold(ctx, string(vol.ID))
		if err != nil {
			return nil, err
		}
		return h.Release, nil
	}
	return nil
}

// closedToHosts refuses a slow copy of a volume that a host can write or is about to. The order of the reads matters: an
// attach that has left the lock has its outcome in the attachment.
func (e *Env) closedToHosts(ctx context.Context, run saga.Run, backend string, vol *block.Volume) error {
	who, err := e.before(ctx, vol.ID, run, block.VolumeAttach)
	if err != nil {
		return err
	}
	if who != "" {
		return invalidVolume(vol.ID, "is being attached by operation %s, and backend %s cannot copy a volume that is in use: its file "+
			"system has no reflink.", who, backend)
	}
	for _, ref := range vol.Attachments {
		a, err := load[block.Attachment](e.look(ctx), records.AttachmentKey(ref.ID))
		if errors.Is(err, errMissing) {
			continue
		}
		if err != nil {
			return err
		}
		if a.data.Connection != nil {
			return invalidVolume(vol.ID, "is attached, and backend %s cannot copy a volume that is in use: its file system has no "+
				"reflink. Detach the volume first.", backend)
		}
	}
	return nil
}

// before returns an operation of one of the kinds that shares the volume and was accepted before this one, or "". A
// slow copy and an attach of one volume exclude each other by it, though both are readers: holders stand in the order
// of their commits, so each sees the other if it came first; a copy that came second is refused, an attach waits.
func (e *Env) before(ctx context.Context, id block.VolumeID, run saga.Run, kinds ...block.Kind) (string, error) {
	lock, err := e.Locks.Holders(ctx, records.VolumeKey(id))
	if err != nil {
		return "", err
	}
	self := string(run.ID)
	i := slices.IndexFunc(lock.Holders, func(h kvlock.Holder) bool { return h.Owner == self })
	if i < 0 {
		return "", fmt.Errorf("operation %s is not among the holders of volume %s: the read was old", self, id)
	}
	for _, h := range lock.Holders[:i] {
		rec, err := e.Locks.Record(ctx, h.Owner)
		if errors.Is(err, kvlock.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", err
		}
		op, err := accepted(rec)
		if err != nil {
			return "", err
		}
		if rec.Live() && slices.Contains(kinds, op.Kind) {
			return h.Owner, nil
		}
	}
	return "", nil
}

// closeExports proves that no host reaches the volume, which has no attachment any more: what is still exported was
// left by an operation that was broken, and is closed.
func (e *Env) closeExports(ctx context.Context, run saga.Run, d driver.Driver, id block.VolumeID) error {
	if e.Exporter == nil || !d.Info().Capabilities.KeepsData {
		return nil
	}
	exports := e.exporter(run)
	all, err := exports.List(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.Volume != string(id) {
			continue
		}
		run.Log.WarnContext(ctx, "export without an attachment is closed", "volume", id, "attachment", x.Attachment)
		err := exports.Unexport(ctx, export.Removal{
			Attachment: x.Attachment, Volume: x.Volume, Operation: string(run.ID), Fence: exportFence(run.Fence),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
