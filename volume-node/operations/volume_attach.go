package operations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/export"
)

// volumeAttach exports a volume for a host. The host says later that it uses it.
type volumeAttach struct {
	Backend    string             `msgpack:"backend"`
	Volume     block.VolumeID     `msgpack:"volume"`
	Attachment block.AttachmentID `msgpack:"attachment"`
	ReadOnly   bool               `msgpack:"read_only,omitempty"`
	// Connection is what the export answered.
	Connection *block.Connection `msgpack:"connection,omitempty"`
}

func (e *Env) volumeAttach() saga.Definition[volumeAttach] {
	return saga.Definition[volumeAttach]{
		Name: string(block.VolumeAttach), Version: 1,
		Steps: []saga.Step[volumeAttach]{
			// Waiting for a slow copy has no last try: the copy ends, and a cancel ends the wait.
			{Name: "check", Do: e.checkVolumeAttach, Undo: saga.Nothing[volumeAttach], Records: true,
				Retry: saga.Retry{Max: saga.Forever, Min: 100 * time.Millisecond, Ceiling: 2 * time.Second}},
			{Name: "export", Do: e.exportVolume, Undo: e.unexportVolume, Retry: tryDriver, UndoRetry: tryUndo},
		},
		Done:   e.volumeAttached,
		Undone: e.volumeNotAttached,
	}
}

func (e *Env) checkVolumeAttach(ctx context.Context, run saga.Run, s *volumeAttach) error {
	look := e.look(ctx)
	v, err := volume(look, s.Volume)
	if err != nil {
		return err
	}
	if err := e.follow(ctx, run, s.Backend, v.data.Backend, nil); err != nil {
		return err
	}
	a, err := attachment(look, s.Attachment)
	if err != nil {
		return err
	}
	d, err := e.backend(s.Backend)
	if err != nil {
		return err
	}
	can := d.Info().Capabilities
	switch {
	case v.data.Status != block.VolumeAvailable:
		return invalidVolume(s.Volume, "is %s and cannot be attached.", v.data.Status)
	case a.data.Volume != s.Volume:
		return refuse(messages.CodeInvalidAttachment, "Attachment %s is of volume %s, not of volume %s.", s.Attachment, a.data.Volume, s.Volume)
	case a.data.Status == block.AttachAttached:
		return refuse(messages.CodeInvalidAttachment, "Attachment %s is in use already.", s.Attachment)
	case !can.KeepsData:
		return refuse(messages.CodeUnsupported, "backend %s keeps no data: there is nothing to attach", s.Backend)
	case e.Exporter == nil:
		return refuse(messages.CodeUnsupported, "node %s has no export server", e.NodeName)
	case can.CloneWhileOpen:
		return nil
	}
	who, err := e.before(ctx, s.Volume, run, block.VolumeCreate, block.SnapshotCreate)
	if err == nil && who != "" {
		err = fmt.Errorf("volume %s is being copied by operation %s, and backend %s cannot copy a volume that is in use: "+
			"the attachment waits for the copy to end", s.Volume, who, s.Backend)
	}
	return err
}

func (e *Env) exportVolume(ctx context.Context, run saga.Run, s *volumeAttach) error {
	d, err := e.backend(s.Backend)
	if err != nil {
		return err
	}
	if e.Exporter == nil {
		return fmt.Errorf("node %s has no export server", e.NodeName)
	}
	v, err := volume(e.look(ctx), s.Volume)
	if err != nil {
		return err
	}
	src, err := d.Source(ctx, onBackend(&v.data))
	if err != nil {
		return driverError(err)
	}
	c, err := e.exporter(run).Export(ctx, export.Request{
		Attachment: string(s.Attachment), Volume: string(s.Volume), Operation: string(run.ID), Fence: exportFence(run.Fence),
		Path: src.Path, Bytes: src.Bytes, ReadOnly: s.ReadOnly,
	})
	if err != nil {
		return driverError(err)
	}
	s.Connection = &block.Connection{Driver: c.Protocol, URI: c.URI, Socket: c.Socket, Export: c.Name, Node: e.NodeName}
	return nil
}

func (e *Env) unexportVolume(ctx context.Context, run saga.Run, s volumeAttach) error {
	if e.Exporter == nil {
		return fmt.Errorf("node %s has no export server", e.NodeName)
	}
	return again(e.exporter(run).Unexport(ctx, export.Removal{
		Attachment: string(s.Attachment), Volume: string(s.Volume), Operation: string(run.ID), Fence: exportFence(run.Fence),
	}))
}

func (e *Env) volumeAttached(run saga.Run, s volumeAttach) error {
	return e.attachmentIs(run, s, block.AttachAttaching, s.Connection, "")
}

func (e *Env) volumeNotAttached(run saga.Run, s volumeAttach, cause error) error {
	return e.attachmentIs(run, s, block.AttachErrorAttaching, nil, words(cause))
}

func (e *Env) attachmentIs(run saga.Run, s volumeAttach, status block.AttachmentStatus, c *block.Connection, fault string) error {
	stage(run, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		a, err := load[block.Attachment](snap, records.AttachmentKey(s.Attachment))
		if errors.Is(err, errMissing) && c == nil {
			return nil
		}
		if err != nil {
			return err
		}
		v, err := volume(snap, s.Volume)
		if err != nil {
			return err
		}
		a.data.Status, a.data.Connection, a.data.Fault, a.data.UpdatedAt = status, c, fault, now()
		a.put(tx)
		v.data.SetAttachment(s.Attachment, status)
		v.data.UpdatedAt = now()
		v.put(tx)
		return nil
	})
	return nil
}
