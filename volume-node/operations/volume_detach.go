package operations

import (
	"context"
	"fmt"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/export"
)

// volumeDetach cuts a host off a volume and removes the attachment.
type volumeDetach struct {
	Backend    string             `msgpack:"backend"`
	Volume     block.VolumeID     `msgpack:"volume"`
	Attachment block.AttachmentID `msgpack:"attachment"`
	// Node has the export; empty: the volume was never exported for this attachment.
	Node string `msgpack:"node,omitempty"`
}

func (e *Env) volumeDetach() saga.Definition[volumeDetach] {
	return saga.Definition[volumeDetach]{
		Name: string(block.VolumeDetach), Version: 1,
		Steps: []saga.Step[volumeDetach]{
			// The pivot comes first: a host that was cut off is not to find itself attached again.
			{Name: "check", Do: e.checkVolumeDetach, Undo: saga.Nothing[volumeDetach], Pivot: true, Records: true},
			{Name: "unexport", Do: e.unexportAttachment, Retry: untilDone},
		},
		Done: e.volumeDetached,
	}
}

func (e *Env) checkVolumeDetach(ctx context.Context, run saga.Run, s *volumeDetach) error {
	look := e.look(ctx)
	a, err := attachment(look, s.Attachment)
	if err != nil {
		return err
	}
	if a.data.Volume != s.Volume {
		return refuse(messages.CodeInvalidAttachment, "Attachment %s is of volume %s, not of volume %s.", s.Attachment, a.data.Volume, s.Volume)
	}
	v, err := volume(look, s.Volume)
	if err != nil {
		return err
	}
	if err := e.follow(ctx, run, s.Backend, v.data.Backend, nil); err != nil {
		return err
	}
	if a.data.Connection != nil {
		s.Node = a.data.Connection.Node
	}
	return nil
}

// unexportAttachment returns when no byte of the host reaches the volume any more.
func (e *Env) unexportAttachment(ctx context.Context, run saga.Run, s *volumeDetach) error {
	if s.Node != "" && s.Node != e.NodeName {
		return saga.Permanent(fmt.Errorf("the export is on node %s, this is node %s", s.Node, e.NodeName))
	}
	if e.Exporter == nil {
		if s.Node != "" {
			return fmt.Errorf("node %s has an export of this attachment and no export server that could close it", e.NodeName)
		}
		return nil
	}
	return again(e.exporter(run).Unexport(ctx, export.Removal{
		Attachment: string(s.Attachment), Volume: string(s.Volume), Operation: string(run.ID), Fence: exportFence(run.Fence),
	}))
}

func (e *Env) volumeDetached(run saga.Run, s volumeDetach) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		a, err := attachment(snap, s.Attachment)
		if err != nil {
			return err
		}
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		a.remove(tx)
		v.data.RemoveAttachment(s.Attachment)
		v.data.UpdatedAt = now()
		v.put(tx)
		return nil
	})
	return nil
}
