package volumenode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
		away, err := n.restore(ctx)
		if err == nil && !away {
			return
		}
		if err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "exports not restored, it is tried again", "error", err)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// restore looks once at what should be exported and is not. away: the storage of some of it is, which its backend says.
//
// It takes no lock, and still never works against an operation: its fence is the stream's end before anything is read. Every
// operation that it does not see at work is over, or is taken over later, with a higher fence, which the export server
// compares.
func (n *Node) restore(ctx context.Context) (away bool, err error) {
	info, err := n.deps.Store.Stream().Info(ctx)
	if err != nil {
		return false, err
	}
	fence := export.Fence{Era: n.deps.Locks.Era(), Rev: info.State.LastSeq}
	missing, err := n.missingExports(ctx)
	var errs []error
	for volume, attachments := range missing {
		switch err := n.restoreVolume(ctx, volume, attachments, fence); {
		case errors.Is(err, driver.ErrAway):
			away = true
		case err != nil:
			errs = append(errs, fmt.Errorf("volume %s: %w", volume, err))
		}
	}
	return away, errors.Join(err, errors.Join(errs...))
}

// missingExports returns the attachments that hosts may use through this node and that are not exported, by volume.
// An error does not mean that there are none.
func (n *Node) missingExports(ctx context.Context) (map[block.VolumeID][]block.AttachmentID, error) {
	missing := make(map[block.VolumeID][]block.AttachmentID)
	var errs []error
	err := n.deps.Store.Scan(ctx, records.AttachmentKey("*"), func(e kvtx.Entry) error {
		a, err := records.Decode[block.Attachment](e.Value)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", e.Key, err))
		case mayUse(a, n.cfg.Name):
			missing[a.Volume] = append(missing[a.Volume], a.ID)
		}
		return nil
	})
	if err != nil || len(missing) == 0 {
		return nil, errors.Join(append(errs, err)...)
	}
	there, err := n.export.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range there {
		v := block.VolumeID(x.Volume)
		missing[v] = slices.DeleteFunc(missing[v], func(a block.AttachmentID) bool { return string(a) == x.Attachment })
	}
	maps.DeleteFunc(missing, func(_ block.VolumeID, all []block.AttachmentID) bool { return len(all) == 0 })
	return missing, errors.Join(errs...)
}

// mayUse reports whether a host may use the attachment through this node. One whose detach was given up may not: its host was
// cut off, or was to be.
func mayUse(a block.Attachment, node string) bool {
	return a.Connection != nil && a.Connection.Node == node && (a.Status == block.AttachAttaching || a.Status == block.AttachAttached)
}

// restoreVolume exports a volume for attachments. The order of the reads matters: who changes attachments first, then the
// attachments, so that an operation that is not seen at work has left what it did in them.
func (n *Node) restoreVolume(ctx context.Context, id block.VolumeID, attachments []block.AttachmentID, fence export.Fence) error {
	stuck, err := n.stuckAttachOperation(ctx, id)
	if err != nil {
		return err
	}
	src, err := n.source(ctx, id)
	if err != nil {
		return err
	}
	for _, attachment := range attachments {
		e, err := n.deps.Store.Get(ctx, records.AttachmentKey(attachment))
		if err != nil {
			return err
		}
		if !e.Exists {
			continue
		}
		a, err := records.Decode[block.Attachment](e.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", e.Key, err)
		}
		if !mayUse(a, n.cfg.Name) || stuck != "" && a.LastOperation == stuck {
			continue // the stuck operation exports or cuts off itself, once it is resumed
		}
		_, err = n.export.Export(ctx, export.Request{
			Attachment: string(a.ID), Volume: string(a.Volume), Operation: string(a.LastOperation), Fence: fence,
			Path: src.Path, Bytes: src.Bytes, ReadOnly: a.ReadOnly,
		})
		if err != nil { // also if an operation came in between: then all is looked at afresh
			return fmt.Errorf("attachment %s: %w", a.ID, err)
		}
		n.log.WarnContext(ctx, "export restored from its attachment", "attachment", a.ID, "volume", a.Volume, "fence", fence.String())
	}
	return nil
}

// stuckAttachOperation returns the stuck operation that holds the volume's attachments, or "". One that may be at work
// is an error: what it does is not known yet.
func (n *Node) stuckAttachOperation(ctx context.Context, id block.VolumeID) (block.OperationID, error) {
	lock, err := n.deps.Locks.Holders(ctx, records.AttachKey(id))
	if err != nil || len(lock.Holders) == 0 { // the key is held exclusively or not at all
		return "", err
	}
	owner := lock.Holders[0].Owner
	rec, err := n.deps.Locks.Record(ctx, owner)
	if err != nil {
		return "", err
	}
	if rec.Phase != kvlock.Stuck {
		return "", fmt.Errorf("operation %s changes its attachments at this moment", owner)
	}
	return block.OperationID(owner), nil
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
		if b.spec.Name != v.Backend {
			continue
		}
		src, err := b.Source(ctx, driver.Volume{ID: driver.VolumeID(id), Bytes: v.SizeGiB.Bytes()})
		if errors.Is(err, driver.ErrSize) && v.ReservedGiB > v.SizeGiB { // an extend is under way or was given up, and may have done it
			src, err = b.Source(ctx, driver.Volume{ID: driver.VolumeID(id), Bytes: v.ReservedGiB.Bytes()})
		}
		return src, err
	}
	return driver.Source{}, fmt.Errorf("this process does not serve backend %s", v.Backend)
}
