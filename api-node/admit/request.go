package admit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// bare returns a copy of the request without what only admission may say.
func bare(req messages.Request) (messages.Request, error) {
	switch r := req.(type) {
	case *messages.CreateVolume:
		c := *r
		c.SnapshotVolume, c.SourceGiB, c.Backend = "", 0, ""
		return &c, nil
	case *messages.DeleteVolume:
		c := *r
		return &c, nil
	case *messages.ExtendVolume:
		c := *r
		c.FromGiB, c.ChargeGiB, c.Created = 0, 0, time.Time{}
		return &c, nil
	case *messages.RevertVolume:
		c := *r
		return &c, nil
	case *messages.AttachVolume:
		c := *r
		c.New = false
		return &c, nil
	case *messages.DetachVolume:
		c := *r
		c.Volume = ""
		return &c, nil
	case *messages.CreateSnapshot:
		c := *r
		c.SizeGiB, c.Backend = 0, ""
		return &c, nil
	case *messages.DeleteSnapshot:
		c := *r
		c.Volume = ""
		return &c, nil
	}
	return nil, messages.Errorf(messages.CodeUnsupported, "there is no operation of kind %q", req.Kind())
}

// plan says what is read and who decides. A resource's ID that the caller left open is made up here, once.
func (a *Admitter) plan(ctx context.Context, p *prepared, req messages.Request) {
	switch r := req.(type) {
	case *messages.CreateVolume:
		if r.Volume == "" {
			r.Volume = block.VolumeID(newID())
			p.fresh = append(p.fresh, records.VolumeKey(r.Volume), kvlock.LockKey(records.VolumeKey(r.Volume)))
		}
		p.reads(records.QuotaKey(p.caller.Project))
		switch {
		case r.FromSnapshot != "":
			p.reads(records.SnapshotKey(r.FromSnapshot))
		case r.FromVolume != "":
			p.reads(records.VolumeKey(r.FromVolume))
		default:
			p.empty = a.settleEmpty(ctx, p, *r)
		}
		p.decide = (*draft).createVolume
	case *messages.DeleteVolume:
		p.reads(records.VolumeKey(r.Volume))
		p.decide = (*draft).deleteVolume
	case *messages.ExtendVolume:
		p.reads(records.VolumeKey(r.Volume))
		p.decide = (*draft).extendVolume
	case *messages.RevertVolume:
		p.reads(records.VolumeKey(r.Volume), records.SnapshotKey(r.Snapshot))
		p.decide = (*draft).revertVolume
	case *messages.AttachVolume:
		if r.Attachment == "" {
			r.Attachment = block.AttachmentID(newID())
			p.fresh = append(p.fresh, records.AttachmentKey(r.Attachment))
		}
		p.reads(records.VolumeKey(r.Volume))
		p.decide = (*draft).attachVolume
	case *messages.DetachVolume:
		p.reads(records.AttachmentKey(r.Attachment))
		p.decide = (*draft).detachVolume
	case *messages.CreateSnapshot:
		if r.Snapshot == "" {
			r.Snapshot = block.SnapshotID(newID())
			p.fresh = append(p.fresh, records.SnapshotKey(r.Snapshot), kvlock.LockKey(records.SnapshotKey(r.Snapshot)))
		}
		p.reads(records.VolumeKey(r.Volume), records.QuotaKey(p.caller.Project))
		p.decide = (*draft).createSnapshot
	case *messages.DeleteSnapshot:
		p.reads(records.SnapshotKey(r.Snapshot))
		p.decide = (*draft).deleteSnapshot
	}
	p.req = req
	if p.kind != block.VolumeDetach { // whose claims follow from a record
		for _, c := range req.Claims() {
			p.reads(kvlock.LockKey(c.Key))
		}
	}
}

// reads adds keys that are read in advance, those that cannot be there left out.
func (p *prepared) reads(keys ...string) {
	for _, k := range keys {
		if !slices.Contains(p.fresh, k) {
			p.keys = append(p.keys, k)
		}
	}
}

// digest tells one request from another under the same operation ID. It is made before IDs are made up.
func digest(project string, req messages.Request) []byte {
	sum := sha256.Sum256(messages.Encode(&struct {
		Project string           `msgpack:"project"`
		Kind    block.Kind       `msgpack:"kind"`
		Version int              `msgpack:"version"`
		Request messages.Request `msgpack:"request"`
	}{project, req.Kind(), req.Version(), req}))
	return sum[:]
}

// repeated answers a submission whose operation ID has a record.
func (a *Admitter) repeated(ctx context.Context, p *prepared, rec kvlock.Record) (Accepted, error) {
	op, err := operationOf(rec)
	if err != nil {
		return Accepted{}, messages.Errorf(messages.CodeInternal, "operation %s exists and its record cannot be read: %v", p.id, err)
	}
	if !bytes.Equal(op.Digest, p.digest) {
		return Accepted{}, &messages.Error{Code: messages.CodeReused, Field: "operation",
			Message: "the operation ID or idempotency key " + string(p.id) + " was used for another request"}
	}
	acc := Accepted{Operation: op.ID, Resource: op.Resource, Repeated: true}
	if acc.Revision, err = a.standing(ctx, kvlock.OwnerKey(string(p.id)), resourceKey(op)); err != nil {
		return Accepted{}, a.refusal(err, p.id)
	}
	return acc, nil
}

// standing returns the highest revision of the keys as they stand. What a function of an update found may be of a commit that was
// being made at that moment, and then has no revision yet.
func (a *Admitter) standing(ctx context.Context, keys ...string) (kvtx.Revision, error) {
	entries, err := a.store.GetMany(ctx, keys...)
	var rev kvtx.Revision
	for _, e := range entries {
		rev = max(rev, e.Revision)
	}
	return rev, err
}

// resourceKey is the key of the record of what an operation makes or changes.
func resourceKey(op records.Operation) string {
	switch op.Kind {
	case block.SnapshotCreate, block.SnapshotDelete:
		return records.SnapshotKey(block.SnapshotID(op.Resource))
	case block.VolumeAttach, block.VolumeDetach:
		return records.AttachmentKey(block.AttachmentID(op.Resource))
	case block.VolumeCreate, block.VolumeDelete, block.VolumeExtend, block.VolumeRevert:
	}
	return records.VolumeKey(block.VolumeID(op.Resource))
}

// operationOf returns what admission wrote into an operation's record.
func operationOf(rec kvlock.Record) (records.Operation, error) {
	payload, err := sagakv.DecodePayload(rec.Payload)
	if err != nil {
		return records.Operation{}, err
	}
	return records.Decode[records.Operation](payload.Request)
}
