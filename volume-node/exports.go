package volumenode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/export"
)

// ended says whether an operation has ended, so that what it left may be removed. One without a record ended longer ago
// than records are kept.
func (n *Node) ended(ctx context.Context, operation string) bool {
	rec, err := n.deps.Locks.Record(ctx, operation)
	if errors.Is(err, kvlock.ErrNotFound) {
		return true
	}
	return err == nil && !rec.Live()
}

// restoreExports exports again what attachments say is exported on this node and is not, because the export server's
// own table was lost. It is tried until it is complete.
func (n *Node) restoreExports(ctx context.Context) {
	if n.export == nil {
		return
	}
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := n.restore(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			n.log.WarnContext(ctx, "exports not restored, it is tried again", "error", err)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func (n *Node) restore(ctx context.Context) error {
	var attached []kvtx.Entry
	err := n.deps.Store.Scan(ctx, records.AttachmentKey("*"), func(e kvtx.Entry) error {
		attached = append(attached, e)
		return nil
	})
	if err != nil || len(attached) == 0 {
		return err
	}
	there, err := n.export.List(ctx)
	if err != nil {
		return err
	}
	has := make(map[string]bool, len(there))
	for _, x := range there {
		has[x.Attachment] = true
	}
	var errs []error
	for _, e := range attached {
		a, err := records.Decode[block.Attachment](e.Value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Key, err))
			continue
		}
		if !mayUse(a, n.cfg.Name) || has[string(a.ID)] {
			continue
		}
		if err := n.restoreOne(ctx, e, a); err != nil {
			errs = append(errs, fmt.Errorf("attachment %s of volume %s: %w", a.ID, a.Volume, err))
		}
	}
	return errors.Join(errs...)
}

// mayUse reports whether a host may use the attachment through this node. One whose detach was given up may not: its host was
// cut off, or was to be.
func mayUse(a block.Attachment, node string) bool {
	return a.Connection != nil && a.Connection.Node == node && (a.Status == block.AttachAttaching || a.Status == block.AttachAttached)
}

// restoreOne exports for one attachment. Its fence is the revision of the attachment's record: above that of the attach
// that wrote it, below that of every operation on the attachment that was taken over since.
func (n *Node) restoreOne(ctx context.Context, e kvtx.Entry, a block.Attachment) error {
	src, err := n.source(ctx, a.Volume)
	if err != nil {
		return err
	}
	fence := export.Fence{Era: n.deps.Locks.Era(), Rev: uint64(e.Revision)}
	_, err = n.export.Export(ctx, export.Request{
		Attachment: string(a.ID), Volume: string(a.Volume), Operation: string(a.LastOperation), Fence: fence,
		Path: src.Path, Bytes: src.Bytes, ReadOnly: a.ReadOnly,
	})
	if errors.Is(err, export.ErrFenced) {
		return nil // an operation has changed it meanwhile, and knows better
	}
	if err != nil {
		return err
	}
	n.log.WarnContext(ctx, "export restored from its attachment", "attachment", a.ID, "volume", a.Volume)
	now, err := n.deps.Store.Get(ctx, e.Key)
	if err != nil || now.Exists {
		return err
	}
	err = n.export.Unexport(ctx, export.Removal{ // it was detached before the export server knew of it
		Attachment: string(a.ID), Volume: string(a.Volume), Operation: string(a.LastOperation), Fence: fence,
	})
	if errors.Is(err, export.ErrFenced) {
		return nil
	}
	return err
}

// source finds the volume on one of this node's backends.
func (n *Node) source(ctx context.Context, id block.VolumeID) (driver.Source, error) {
	e, err := n.deps.Store.Get(ctx, records.VolumeKey(id))
	if err != nil {
		return driver.Source{}, err
	}
	if !e.Exists {
		return driver.Source{}, errors.New("its volume has no record")
	}
	v, err := records.Decode[block.Volume](e.Value)
	if err != nil {
		return driver.Source{}, err
	}
	for _, b := range n.served {
		if b.spec.Name == v.Backend {
			return b.Source(ctx, driver.VolumeID(id))
		}
	}
	return driver.Source{}, fmt.Errorf("this process does not serve backend %s", v.Backend)
}
