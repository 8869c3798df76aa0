package admit

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// Patch changes what is not nil.
type Patch struct {
	Name, Description *string
}

func (p Patch) check() error {
	for field, s := range map[string]*string{"name": p.Name, "description": p.Description} {
		if s == nil {
			continue
		}
		if n := utf8.RuneCountInString(*s); n > messages.MaxText || !utf8.ValidString(*s) {
			return &messages.Error{Code: messages.CodeInvalid, Field: field,
				Message: fmt.Sprintf("Invalid input for field/attribute %s: it must be valid UTF-8 of at most %d characters, it has %d", field, messages.MaxText, n)}
		}
	}
	return nil
}

func (p Patch) apply(name, description *string) {
	if p.Name != nil {
		*name = *p.Name
	}
	if p.Description != nil {
		*description = *p.Description
	}
}

// UpdateVolume changes a volume's name and description, in any state, as in Cinder.
func (a *Admitter) UpdateVolume(ctx context.Context, c Caller, id block.VolumeID, p Patch) (block.Volume, kvtx.Revision, error) {
	if !block.IsUUID(string(id)) {
		return block.Volume{}, 0, messages.VolumeNotFound(id)
	}
	return edit(ctx, a, p, records.VolumeKey(id), func(d *draft) (found[block.Volume], error) {
		d.p.caller = c
		v, err := d.volume(id)
		p.apply(&v.T.Name, &v.T.Description)
		v.T.UpdatedAt = d.p.at
		return v, err
	})
}

// UpdateSnapshot changes a snapshot's name and description, in any state, as in Cinder.
func (a *Admitter) UpdateSnapshot(ctx context.Context, c Caller, id block.SnapshotID, p Patch) (block.Snapshot, kvtx.Revision, error) {
	if !block.IsUUID(string(id)) {
		return block.Snapshot{}, 0, messages.SnapshotNotFound(id)
	}
	return edit(ctx, a, p, records.SnapshotKey(id), func(d *draft) (found[block.Snapshot], error) {
		d.p.caller = c
		s, err := d.snapshot(id)
		p.apply(&s.T.Name, &s.T.Description)
		s.T.UpdatedAt = d.p.at
		return s, err
	})
}

// edit rewrites one record.
func edit[T records.Record](ctx context.Context, a *Admitter, p Patch, key string, change func(*draft) (found[T], error)) (T, kvtx.Revision, error) {
	var now found[T]
	if err := p.check(); err != nil {
		return now.T, 0, err
	}
	at := a.now().UTC().Truncate(time.Microsecond)
	res, err := a.update(ctx, needsRoom, []string{key}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		var err error
		if now, err = change(&draft{a: a, p: &prepared{at: at}, s: s, tx: tx}); err != nil {
			return err
		}
		tx.Put(key, records.Encode(now.T), now.rev)
		return nil
	})
	if err != nil {
		var none T
		return none, 0, a.refusal(err, "")
	}
	return now.T, res.Revision(key), nil
}
