package operations

import (
	"context"
	"fmt"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/export"
)

// RaiseFence sees to it that nothing of a void operation lands any more on what it writes: the second part of a break. The fence is the
// revision of the void write, which is in the record. A host that an attach or a detach was about is cut off. It may be repeated.
// Errors: *messages.Error if the operation is not void, or not known here; those of drivers and exporters.
func (e *Env) RaiseFence(ctx context.Context, rec kvlock.Record) error {
	if rec.Phase != kvlock.Void || !rec.Live() {
		return messages.Errorf(messages.CodeConflict, "operation %s is %s: only of one that is being broken the fence is raised", rec.Owner, rec.Phase)
	}
	op, err := accepted(rec)
	if err != nil {
		return err
	}
	req, err := messages.DecodeRequest(op.Kind, op.Version, op.Request)
	if err != nil {
		return err
	}
	switch req := req.(type) {
	case *messages.CreateVolume, *messages.DeleteVolume, *messages.ExtendVolume, *messages.RevertVolume:
		return e.fence(ctx, rec, op, driver.VolumeID(op.Resource).Ref())
	case *messages.CreateSnapshot, *messages.DeleteSnapshot:
		return e.fence(ctx, rec, op, driver.SnapshotID(op.Resource).Ref())
	case *messages.AttachVolume:
		return e.cutOff(ctx, rec, req.Attachment, req.Volume)
	case *messages.DetachVolume:
		return e.cutOff(ctx, rec, req.Attachment, req.Volume)
	}
	return messages.Errorf(messages.CodeUnsupported, "it is not known here what %s writes", op.Kind)
}

func (e *Env) fence(ctx context.Context, rec kvlock.Record, op records.Operation, ref driver.Ref) error {
	d, err := e.backend(op.Backend)
	if err != nil {
		return err
	}
	f := rec.Fence()
	return d.RaiseFence(ctx, driver.Call{
		Operation: rec.Owner, Fence: driver.Fence{Era: f.Era, Rev: f.Rev},
		Waiting: func(why string) {
			e.Log.InfoContext(ctx, "break waits for the backend", "operation", rec.Owner, "reason", why)
		},
	}, ref)
}

func (e *Env) cutOff(ctx context.Context, rec kvlock.Record, attachment block.AttachmentID, volume block.VolumeID) error {
	if e.Exporter == nil {
		return fmt.Errorf("node %s has no export server", e.NodeName)
	}
	f := rec.Fence()
	return e.Exporter.Unexport(ctx, export.Removal{
		Attachment: string(attachment), Volume: string(volume), Operation: rec.Owner, Fence: export.Fence{Era: f.Era, Rev: f.Rev},
	})
}
