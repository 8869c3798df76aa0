package operations

import (
	"context"
	"errors"
	"fmt"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
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

// call says on whose behalf a driver is called.
func call(ctx context.Context, run saga.Run) driver.Call {
	return driver.Call{
		Operation: string(run.ID),
		Fence:     driverFence(run.Fence),
		Progress:  func(done, total int64) { run.Progress(done, total, "bytes") },
		Waiting:   func(why string) { run.Log.InfoContext(ctx, "backend call waits", "why", why) },
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
// slowly does so only while the volume has no attachment, which it was read to have not; an attach that comes later
// finds this operation among the volume's holders and waits for it.
func (e *Env) hold(d driver.Driver, backend string, vol *block.Volume, c *driver.Call) error {
	can := d.Info().Capabilities
	switch {
	case !can.KeepsData:
		return nil
	case !can.CloneWhileOpen && len(vol.Attachments) > 0:
		return invalidVolume(vol.ID, "is attached, and backend %s cannot copy a volume that is in use: its file system has no "+
			"reflink. Detach the volume first.", backend)
	case !can.CloneWhileOpen:
		return nil
	case e.Exporter == nil && len(vol.Attachments) > 0:
		return fmt.Errorf("volume %s is attached, and node %s has no export server that could hold its hosts' writes", vol.ID, e.NodeName)
	case e.Exporter == nil:
		return nil
	}
	c.Hold = func(ctx context.Context) (func() error, error) {
		h, err := e.Exporter.Hold(ctx, string(vol.ID))
		if err != nil {
			return nil, err
		}
		return h.Release, nil
	}
	return nil
}

// closeExports proves that no host reaches the volume, which has no attachment any more: what is still exported was
// left by an operation that was broken, and is closed.
func (e *Env) closeExports(ctx context.Context, run saga.Run, d driver.Driver, id block.VolumeID) error {
	if e.Exporter == nil || !d.Info().Capabilities.KeepsData {
		return nil
	}
	all, err := e.Exporter.List(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.Volume != string(id) {
			continue
		}
		run.Log.WarnContext(ctx, "export without an attachment is closed", "volume", id, "attachment", x.Attachment)
		err := e.Exporter.Unexport(ctx, export.Removal{
			Attachment: x.Attachment, Volume: x.Volume, Operation: string(run.ID), Fence: exportFence(run.Fence),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
