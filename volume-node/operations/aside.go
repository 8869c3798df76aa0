package operations

import (
	"cmp"
	"context"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// aside returns a volume as an operation that has it alone is to see it: without the snapshots and attachments of requests that wait in
// line behind it, which the volume lists since their admission. Nobody is made to fail by a request that came later.
//
// The commit depends on the line. Volume and line are read one after the other: who refuses for what is left says so with kvtx.Sure.
func aside(s kvtx.Snapshot, tx *kvtx.Tx, v block.Volume) (block.Volume, error) {
	if len(v.Snapshots) == 0 && len(v.Attachments) == 0 {
		return v, nil
	}
	entry, err := s.Get(kvlock.LockKey(records.VolumeKey(v.ID)))
	if err != nil {
		return v, err
	}
	tx.Check(entry.Key, entry.Revision)
	lock, err := kvlock.DecodeLock(entry)
	if err != nil {
		return v, err
	}
	var failed error
	for _, w := range lock.Line {
		entry, err := s.Get(kvlock.OwnerKey(w.Owner))
		if err != nil { // a snapshot learns of all that it has to read, and reads them at once
			failed = cmp.Or(failed, err)
			continue
		}
		req, err := requested(entry)
		if err != nil {
			continue // nobody can tell what it brought
		}
		switch req := req.(type) {
		case *messages.CreateSnapshot:
			v.RemoveSnapshot(req.Snapshot)
		case *messages.AttachVolume:
			if req.New {
				v.RemoveAttachment(req.Attachment)
			}
		}
	}
	return v, failed
}

// alone reads a volume that the operation has alone, as aside has it.
func (e *Env) alone(ctx context.Context, id block.VolumeID) (seen block.Volume, err error) {
	look := e.look(ctx)
	for {
		v, err := volume(look, id)
		if err != nil {
			return seen, err
		}
		if seen, err = aside(look, new(kvtx.Tx), v.data); err != nil {
			return seen, err
		}
		now, err := volume(look, id) // who comes into the line or leaves it with such a thing writes it
		if err != nil || now.rev == v.rev {
			return seen, err
		}
	}
}

// requested reads the request of an operation from its record.
func requested(e kvtx.Entry) (messages.Request, error) {
	rec, err := kvlock.DecodeRecord(e)
	if err != nil {
		return nil, err
	}
	op, err := accepted(rec)
	if err != nil {
		return nil, err
	}
	return messages.DecodeRequest(op.Kind, op.Version, op.Request)
}

// accepted is what was accepted, from an operation's record.
func accepted(rec kvlock.Record) (records.Operation, error) {
	payload, err := sagakv.DecodePayload(rec.Payload)
	if err != nil {
		return records.Operation{}, err
	}
	return records.Decode[records.Operation](payload.Request)
}
