package admit

import (
	"context"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// reserved is a new attachment. It belongs to the project that has the volume.
func reserved(c Caller, id block.AttachmentID, v block.Volume, instance string, readOnly bool, at time.Time) block.Attachment {
	return block.Attachment{
		ID: id, Volume: v.ID, Project: v.Project, User: c.User, Instance: instance, Status: block.AttachReserved,
		ReadOnly: readOnly, CreatedAt: at,
	}
}

// Reserve keeps a volume for a host that has not said yet who it is: an attachment without a connector. It needs no
// operation: it is one commit, and what an operation would claim exclusively makes it conflict, because such a submission
// rewrites the volume's record, and because the commit checks the locks that it looked at. Repeated with its ID it returns the attachment as it is.
func (a *Admitter) Reserve(ctx context.Context, c Caller, volume block.VolumeID, id block.AttachmentID, instance string, readOnly bool) (block.Attachment, kvtx.Revision, error) {
	req := &messages.AttachVolume{Volume: volume, Attachment: id, Instance: instance, ReadOnly: readOnly}
	if err := req.Validate(); err != nil {
		return block.Attachment{}, 0, err
	}
	var fresh []string
	if id == "" {
		id = block.AttachmentID(newID())
		fresh = append(fresh, records.AttachmentKey(id))
	}
	volumeKey, key := records.VolumeKey(volume), records.AttachmentKey(id)
	locks := []string{records.VolumeKey(volume), records.AttachKey(volume)}
	keys := []string{volumeKey, kvlock.LockKey(locks[0]), kvlock.LockKey(locks[1])}
	needs := needsRoom
	if len(fresh) == 0 {
		keys, needs = append(keys, key), a.needOf(ctx, key)
	}
	now := a.now().UTC().Truncate(time.Microsecond)
	var att block.Attachment
	res, err := a.update(ctx, needs, keys, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		d := &draft{a: a, p: &prepared{caller: c, at: now}, s: s, tx: tx}
		v, err := d.volume(volume)
		if err != nil {
			return err
		}
		old, err := read[block.Attachment](s, key)
		if err != nil {
			return err
		}
		if old.exists && old.T.Volume == volume && old.T.Instance == instance {
			att = old.T
			return nil
		}
		if err := d.checkAttachable(v.T, nil); err != nil {
			return err
		}
		switch {
		case old.exists:
			return messages.Errorf(messages.CodeConflict, "Attachment %s exists already", id)
		case old.rev != 0:
			return messages.AttachmentNotFound(id)
		}
		if err := d.reservable(v.T, instance); err != nil {
			return err
		}
		if err := d.checkLine(locks[0]); err != nil {
			return err
		}
		att = reserved(c, id, v.T, instance, readOnly, now)
		v.T.SetAttachment(id, att.Status)
		tx.Put(key, records.Encode(att), old.rev)
		tx.Put(volumeKey, records.Encode(v.T), v.rev)
		return d.checkFree(locks...)
	}, kvtx.AssumeAbsent(fresh...))
	if err != nil {
		return block.Attachment{}, 0, a.refusal(err, "")
	}
	rev, err := a.reached(ctx, res, key, volumeKey)
	return att, rev, err
}

// reached is the highest revision that a change wrote; where it found done what it was to do, that of its keys as they stand.
func (a *Admitter) reached(ctx context.Context, res kvtx.Result, keys ...string) (kvtx.Revision, error) {
	if rev := res.Last(); rev != 0 {
		return rev, nil
	}
	rev, err := a.standing(ctx, keys...)
	if err != nil {
		return 0, a.refusal(err, "")
	}
	return rev, nil
}

// checkFree refuses if an operation has one of the keys exclusively, and makes the commit depend on their locks.
func (d *draft) checkFree(keys ...string) error {
	for _, key := range keys {
		h, err := readHeld(d.s, key)
		if err != nil {
			return err
		}
		if h.exclusive().Kind != "" {
			return busy(resource(key), h, d.p.at)
		}
		d.tx.Check(kvlock.LockKey(key), h.lock.Revision)
	}
	return nil
}

// checkLine refuses what stands in no line, if an operation waits for the key exclusively: what came later would keep it from what it
// was accepted for.
func (d *draft) checkLine(key string) error {
	h, err := readHeld(d.s, key)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(h.lock.Line, func(w kvlock.Waiter) bool { return w.Mode == kvlock.ModeExclusive })
	if i < 0 {
		return nil
	}
	if h.holder, _, err = holderOf(d.s, h.lock.Line[i].Owner, kvlock.ModeExclusive); err != nil {
		return err
	}
	return naming(messages.Errorf(messages.CodeUnavailable, "%s is waited for by %s; nothing was changed, try again when that has ended",
		resource(key), describe(h.holder, d.p.at)), h)
}

// CompleteAttachment says that the host uses the volume. Repeated, it is no error.
func (a *Admitter) CompleteAttachment(ctx context.Context, c Caller, id block.AttachmentID) (kvtx.Revision, error) {
	if !block.IsUUID(string(id)) {
		return 0, messages.AttachmentNotFound(id)
	}
	key := records.AttachmentKey(id)
	now := a.now().UTC().Truncate(time.Microsecond)
	var volumeKey string
	res, err := a.update(ctx, needsLittle, []string{key}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		d := &draft{a: a, p: &prepared{caller: c, at: now}, s: s, tx: tx}
		att, err := read[block.Attachment](s, key)
		if err != nil {
			return err
		}
		if !att.exists || !c.sees(att.T.Project) {
			return messages.AttachmentNotFound(id)
		}
		volumeKey = records.VolumeKey(att.T.Volume)
		v, err := read[block.Volume](s, volumeKey)
		if err != nil {
			return err
		}
		switch {
		case !v.exists:
			return messages.VolumeNotFound(att.T.Volume)
		case att.T.Status == block.AttachAttached:
			return nil
		}
		if err := d.checkFree(records.AttachKey(att.T.Volume)); err != nil {
			return err
		}
		if att.T.Status != block.AttachAttaching {
			return messages.Errorf(messages.CodeInvalidAttachment, "Invalid attachment: Attachment %s is %s: only one that was given a connector can be completed.",
				id, att.T.Status)
		}
		att.T.Status, att.T.AttachedAt, att.T.UpdatedAt = block.AttachAttached, now, now
		v.T.SetAttachment(id, att.T.Status)
		tx.Put(key, records.Encode(att.T), att.rev)
		tx.Put(volumeKey, records.Encode(v.T), v.rev)
		return nil
	})
	if err != nil {
		return 0, a.refusal(err, "")
	}
	return a.reached(ctx, res, key, volumeKey)
}
