package admit

import (
	"fmt"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// draft is one run of a decision on one snapshot. What it stages is committed or forgotten as a whole.
type draft struct {
	a  *Admitter
	p  *prepared
	s  kvtx.Snapshot
	tx *kvtx.Tx

	req     messages.Request // filled in by the decision
	backend string           // whose nodes are told
	payload []byte           // of the operation record; made from req if nil
	rec     kvlock.Record    // of the operation
	writes  []write
	checks  []check
}

type write struct {
	key   string
	value []byte
	rev   kvtx.Revision
}

type check struct {
	key string
	rev kvtx.Revision
}

// admit decides and stages. The operation record is looked at first: a repeated request must find its operation, not the
// state that this made.
func (d *draft) admit() error {
	owner := string(d.p.id)
	entry, err := d.s.Get(kvlock.OwnerKey(owner))
	if err != nil {
		return err
	}
	if entry.Exists {
		rec, err := kvlock.DecodeRecord(entry)
		if err != nil {
			return err
		}
		return &kvlock.ExistsError{Record: rec}
	}
	if err := d.p.decide(d); err != nil {
		return err
	}
	if d.payload == nil {
		d.payload = d.p.payload(d.req, d.backend)
	}
	if d.p.wait.Queue {
		d.rec, err = d.a.locks.StageQueue(d.s, d.tx, owner, d.payload, d.p.inLine(d.backend), d.req.Claims()...)
	} else {
		d.rec, err = d.a.locks.StageAcquire(d.s, d.tx, owner, d.payload, d.req.Claims()...)
	}
	if err != nil {
		return d.conflict(err)
	}
	for _, w := range d.writes {
		d.tx.Put(w.key, w.value, w.rev)
	}
	for _, c := range d.checks {
		d.tx.Check(c.key, c.rev)
	}
	if !d.p.wait.Queue { // else it is published with the grant
		d.tx.Publish(d.a.store.DispatchSubject(records.DispatchParts(d.backend, d.p.id, 1)...), nil, nil)
	}
	return nil
}

// inLine says how the operation waits.
func (p *prepared) inLine(backend string) kvlock.Wait {
	w := kvlock.Wait{Dispatch: records.DispatchPrefix(backend, p.id)}
	if p.wait.Wait > 0 {
		w.Deadline = p.at.Add(p.wait.Wait)
	}
	return w
}

// payload is what the operation's record carries: the request with everything that was decided filled in.
func (p *prepared) payload(req messages.Request, backend string) []byte {
	return sagakv.NewPayload(records.Encode(records.Operation{
		ID: p.id, Kind: p.kind, Version: req.Version(), Project: p.caller.Project, User: p.caller.User,
		RequestID: p.caller.RequestID, Resource: req.Resource(), Request: messages.Encode(req), Digest: p.digest,
		Submitted: p.at, Backend: backend, Dispatch: 1, Queue: p.wait.Queue,
	}))
}

// put stages a record.
func put[T records.Record](d *draft, key string, r T, rev kvtx.Revision) {
	d.writes = append(d.writes, write{key, records.Encode(r), rev})
}

// check makes the commit depend on a record that it only read.
func (d *draft) check(key string, rev kvtx.Revision) { d.checks = append(d.checks, check{key, rev}) }

// found is a record as it stands in the snapshot.
type found[T records.Record] struct {
	T      T
	rev    kvtx.Revision // to expect
	exists bool
}

func read[T records.Record](s kvtx.Snapshot, key string) (found[T], error) {
	e, err := s.Get(key)
	if err != nil || !e.Exists {
		return found[T]{rev: e.Revision}, err
	}
	r, err := records.Decode[T](e.Value)
	if err != nil {
		return found[T]{}, fmt.Errorf("%s: %w", key, err)
	}
	return found[T]{T: r, rev: e.Revision, exists: true}, nil
}

// volume reads a volume that the caller may see.
func (d *draft) volume(id block.VolumeID) (found[block.Volume], error) {
	v, err := read[block.Volume](d.s, records.VolumeKey(id))
	if err == nil && (!v.exists || !d.p.caller.sees(v.T.Project)) {
		err = messages.VolumeNotFound(id)
	}
	return v, err
}

// snapshot reads a snapshot that the caller may see.
func (d *draft) snapshot(id block.SnapshotID) (found[block.Snapshot], error) {
	s, err := read[block.Snapshot](d.s, records.SnapshotKey(id))
	if err == nil && (!s.exists || !d.p.caller.sees(s.T.Project)) {
		err = messages.SnapshotNotFound(id)
	}
	return s, err
}

// absent refuses an ID that the caller chose and that is taken, and returns the revision to expect of its key.
func absent[T records.Record](d *draft, key, what, id string) (kvtx.Revision, error) {
	r, err := read[T](d.s, key)
	if err == nil && r.exists {
		err = messages.Errorf(messages.CodeConflict, "%s %s exists already", what, id)
	}
	return r.rev, err
}

func (c Caller) sees(project string) bool { return c.Admin || c.Project == project }

// held is a lock with the one operation of it that is named to people.
type held struct {
	lock   kvlock.Lock
	holder *messages.Holder // the exclusive holder, else the oldest reader
	by     block.Holder     // the same
}

// readHeld reads who has a key.
func readHeld(s kvtx.Snapshot, key string) (held, error) {
	e, err := s.Get(kvlock.LockKey(key))
	if err != nil {
		return held{}, err
	}
	lock, err := kvlock.DecodeLock(e)
	if err != nil || len(lock.Holders) == 0 {
		return held{lock: lock}, err
	}
	h := held{lock: lock}
	h.holder, h.by, err = holderOf(s, lock.Holders[0].Owner, lock.Mode)
	return h, err
}

// held reads who has a key. For a request that may wait nobody stands in the way: what it finds when its turn has come, its first step
// checks again.
func (d *draft) held(key string) (held, error) {
	if d.p.wait.Queue {
		return held{}, nil
	}
	return readHeld(d.s, key)
}

// volumeStatus is what the decision takes for the volume's status, and who makes it so: what users see, but that one that is being made
// will be there when the turn of a request that waits has come. h is who has the volume.
func (d *draft) volumeStatus(v block.Volume, h held) (block.VolumeStatus, held, error) {
	if d.p.wait.Queue && v.Status == block.VolumeCreating {
		v.Status = block.VolumeAvailable
	}
	by := h.onlyExclusive()
	if by.holder != nil || len(v.Attachments) == 0 {
		return v.ShownStatus(h.exclusive(), block.Holder{}), by, nil
	}
	attach, err := d.held(records.AttachKey(v.ID))
	return v.ShownStatus(block.Holder{}, attach.exclusive()), attach.onlyExclusive(), err
}

func (d *draft) snapshotStatus(s block.Snapshot, h held) block.SnapshotStatus {
	if d.p.wait.Queue && s.Status == block.SnapshotCreating {
		s.Status = block.SnapshotAvailable
	}
	return s.ShownStatus(h.exclusive())
}

// heldVolume reads a volume that the caller may see, and who has it.
func (d *draft) heldVolume(id block.VolumeID) (found[block.Volume], held, error) {
	v, err := d.volume(id)
	if err != nil {
		return v, held{}, err
	}
	h, err := d.held(records.VolumeKey(id))
	return v, h, err
}

// heldSnapshot reads a snapshot that the caller may see, and who has it.
func (d *draft) heldSnapshot(id block.SnapshotID) (found[block.Snapshot], held, error) {
	s, err := d.snapshot(id)
	if err != nil {
		return s, held{}, err
	}
	h, err := d.held(records.SnapshotKey(id))
	return s, h, err
}

// holderOf reads the record of an operation that holds or waits for a key.
func holderOf(s kvtx.Snapshot, owner string, mode kvlock.Mode) (*messages.Holder, block.Holder, error) {
	e, err := s.Get(kvlock.OwnerKey(owner))
	if err != nil {
		return nil, block.Holder{}, err
	}
	rec, err := kvlock.DecodeRecord(e)
	if err != nil {
		return nil, block.Holder{}, err
	}
	op, err := operationOf(rec)
	if err != nil {
		return nil, block.Holder{}, err
	}
	h := &messages.Holder{Operation: op.ID, Kind: op.Kind, Mode: mode.String(), Since: op.Submitted}
	if payload, err := sagakv.DecodePayload(rec.Payload); err == nil {
		if run, err := payload.Status(rec); err == nil {
			h.Step = run.Step
		}
	}
	return h, block.Holder{Operation: op.ID, Kind: op.Kind, Resource: op.Resource, Stuck: rec.Phase == kvlock.Stuck}, nil
}

// exclusive is the exclusive holder in the words of package block.
func (h held) exclusive() block.Holder {
	if h.holder == nil || h.lock.Mode != kvlock.ModeExclusive {
		return block.Holder{}
	}
	return h.by
}

// read says that operations share the key.
func (h held) read() bool { return h.lock.Mode == kvlock.ModeShared }
