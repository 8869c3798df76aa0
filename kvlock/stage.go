package kvlock

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// StageAcquire stages a new operation that holds its claims: all or none. Read Keys(owner, claims...) for it. The
// record's phase is Granted: a worker takes it over with Adopt.
// Errors: *ConflictError if another operation holds or waits for a key; *ExistsError if the owner has a record;
// ErrTooLarge, ErrInvalid, ErrBroken, ErrNewer.
func (l *Locker) StageAcquire(s kvtx.Snapshot, tx *kvtx.Tx, owner string, payload []byte, claims ...Claim) (Record, error) {
	return l.stageAcquire(s, tx, Granted, owner, payload, claims)
}

// newRecord returns the record of a new operation that is granted, not staged yet.
func (l *Locker) newRecord(s kvtx.Snapshot, owner string, payload []byte, claims []Claim) (Record, error) {
	if err := checkOwner(owner); err != nil {
		return Record{}, err
	}
	claims, err := Normalize(claims)
	if err != nil {
		return Record{}, err
	}
	if i := slices.IndexFunc(claims, Claim.isNamed); i >= 0 {
		return Record{}, fmt.Errorf("%w: key %s is that of a named lock, which an operation takes while it runs", ErrInvalid, claims[i].Key)
	}
	entry, err := s.Get(OwnerKey(owner))
	if err != nil {
		return Record{}, err
	}
	if entry.Exists {
		rec, err := DecodeRecord(entry)
		if err != nil {
			return Record{}, err
		}
		return rec, &ExistsError{Record: rec}
	}
	rec := Record{
		Owner: owner, Claims: claims, Phase: Granted, Dispatch: 1, Era: l.era, Since: l.now(), Revision: entry.Revision,
	}
	if err := rec.setPayload(payload); err != nil {
		return Record{}, err
	}
	return rec, nil
}

func (l *Locker) stageAcquire(s kvtx.Snapshot, tx *kvtx.Tx, phase Phase, owner string, payload []byte, claims []Claim) (Record, error) {
	rec, err := l.newRecord(s, owner, payload, claims)
	if err != nil {
		return rec, err
	}
	rec.Phase = phase
	locks, err := admit(s, rec)
	if err != nil {
		return Record{}, err
	}
	if err := rec.stage(tx); err != nil { // first: consumers may see a prefix of the commit
		return Record{}, err
	}
	for i := range locks {
		if err := locks[i].stage(tx); err != nil {
			return Record{}, err
		}
	}
	return rec, nil
}

// admit returns the locks of a new operation's claims with the operation let in, or why not.
func admit(s kvtx.Snapshot, rec Record) ([]Lock, error) {
	locks := make([]Lock, len(rec.Claims))
	var conflicts []Conflict
	for i, c := range rec.Claims {
		lock, err := readLock(s, c.Key)
		if err != nil {
			return nil, err
		}
		if lock.Holds(rec.Owner) {
			return nil, kvtx.Sure(fmt.Errorf("%w: %s names operation %s, which has no record", ErrBroken, LockKey(c.Key), rec.Owner))
		}
		if conflict, ok := lock.conflict(c); ok {
			conflicts = append(conflicts, conflict)
			continue
		}
		lock.add(rec.Owner, c.Mode, rec.Since)
		locks[i] = lock
	}
	if len(conflicts) > 0 {
		return nil, &ConflictError{Owner: rec.Owner, Conflicts: conflicts}
	}
	return locks, nil
}

func readLock(s kvtx.Snapshot, key string) (Lock, error) {
	entry, err := s.Get(LockKey(key))
	if err != nil {
		return Lock{}, err
	}
	return DecodeLock(entry)
}

// stage writes the record at the revision that it was read at.
func (r *Record) stage(tx *kvtx.Tx) error {
	value, err := r.encode()
	if err != nil {
		return err
	}
	tx.Put(OwnerKey(r.Owner), value, r.Revision)
	wrote := *r
	tx.Prove(func(e kvtx.Entry) bool {
		now, err := DecodeRecord(e)
		// The revision of a later write is not the fence that a take-over has: the verb runs again and finds it by its token.
		return err == nil && wrote.FenceRev != 0 && now.follows(wrote)
	})
	return nil
}

// follows says whether the record is the one that was written, or a later one of those that leave the worker's progress
// alone: a first cancel, a dispatch. It decides commits of one message whose answer was lost. One that was written by
// several verbs of this process at the same moment is the last one's, with everything in it.
func (r Record) follows(wrote Record) bool {
	return r.Epoch == wrote.Epoch && r.Token == wrote.Token && r.Era == wrote.Era &&
		r.FenceRev == wrote.FenceRev &&
		r.Position == wrote.Position && r.Phase == wrote.Phase && r.Dispatch >= wrote.Dispatch &&
		r.Ended.Equal(wrote.Ended) &&
		(wrote.Cancel == nil || r.Cancel != nil && *r.Cancel == *wrote.Cancel) &&
		bytes.Equal(r.Payload, wrote.Payload)
}

// read returns the owner's record as it stands in the snapshot.
func read(s kvtx.Snapshot, owner string) (Record, error) {
	if err := checkOwner(owner); err != nil {
		return Record{}, err
	}
	entry, err := s.Get(OwnerKey(owner))
	if err != nil {
		return Record{}, err
	}
	return DecodeRecord(entry)
}

// StageSave stages the progress of the grant's worker: phase Running, Undoing or Stuck, and the payload; nil keeps the
// one that is there. A wish to cancel stays. Read Keys(owner) for it; go on with g.Saved after the commit.
// Errors: *AdoptedError, ErrBehind, ErrEnded, ErrNotFound, ErrEra, ErrTooLarge, ErrInvalid; ErrApplied if this very save
// stands there: the caller stages nothing more and goes on as after the commit.
func (l *Locker) StageSave(s kvtx.Snapshot, tx *kvtx.Tx, g Grant, phase Phase, payload []byte) error {
	_, err := l.stageSave(s, tx, g, phase, payload)
	return err
}

func (l *Locker) stageSave(s kvtx.Snapshot, tx *kvtx.Tx, g Grant, phase Phase, payload []byte) (Record, error) {
	if phase != Running && phase != Undoing && phase != Stuck {
		return Record{}, fmt.Errorf("%w: a save in phase %s", ErrInvalid, phase)
	}
	rec, err := l.progress(s, g, phase, payload)
	if err != nil {
		return rec, err
	}
	h := l.handover(s)
	if phase == Stuck && !h.giveBack(&rec) { // nobody is at work, perhaps for days
		return rec, h.err
	}
	return rec, h.stageWith(tx, &rec)
}

// StageEnd stages the end of an operation: phase Done or Undone, the final payload (nil keeps the one that is there),
// and its entries taken out of all its locks. The record stays for the retention. Read Keys(g.Owner(), g.Claims()...).
// Errors: as StageSave's.
func (l *Locker) StageEnd(s kvtx.Snapshot, tx *kvtx.Tx, g Grant, phase Phase, payload []byte) error {
	_, err := l.stageEnd(s, tx, g, phase, payload)
	return err
}

func (l *Locker) stageEnd(s kvtx.Snapshot, tx *kvtx.Tx, g Grant, phase Phase, payload []byte) (Record, error) {
	if phase != Done && phase != Undone {
		return Record{}, fmt.Errorf("%w: an end in phase %s", ErrInvalid, phase)
	}
	rec, err := l.progress(s, g, phase, payload)
	if err != nil {
		return rec, err
	}
	return l.stageLast(s, tx, rec)
}

// progress returns the record as the grant's worker wants it next, one position on, or why it may not.
func (l *Locker) progress(s kvtx.Snapshot, g Grant, phase Phase, payload []byte) (Record, error) {
	rec, err := l.current(s, g)
	if err != nil {
		return rec, err
	}
	if rec.Position == g.position+1 && rec.Phase == phase && (payload == nil || bytes.Equal(rec.Payload, payload)) {
		return rec, fmt.Errorf("%w: operation %s is %s at position %d", ErrApplied, rec.Owner, rec.Phase, rec.Position)
	}
	if !rec.Live() {
		return rec, fmt.Errorf("%w: %s, %s", ErrEnded, rec.Owner, rec.Phase)
	}
	if rec.Position != g.position {
		return rec, fmt.Errorf("%w: operation %s is at position %d, the grant at %d", ErrBehind, rec.Owner, rec.Position, g.position)
	}
	if err := rec.move(phase); err != nil {
		return rec, err
	}
	rec.Phase = phase
	rec.Position++
	return rec, rec.setPayload(payload)
}

// current returns the record of the grant's operation if the grant is the one of its epoch.
func (l *Locker) current(s kvtx.Snapshot, g Grant) (Record, error) {
	if g.fence.Era != l.era {
		return Record{}, fmt.Errorf("%w: operation %s was granted in era %d, the stream is in era %d", ErrEra, g.owner, g.fence.Era, l.era)
	}
	rec, err := read(s, g.owner)
	if err != nil {
		return rec, err
	}
	if g.intent != nil {
		return l.intended(rec, g)
	}
	if rec.Epoch < g.epoch && !g.fence.Less(rec.Fence()) {
		return rec, fmt.Errorf("%w: operation %s is in epoch %d, its grant is of epoch %d: the stream has lost writes",
			ErrBroken, rec.Owner, rec.Epoch, g.epoch)
	}
	// The fence tells apart the records of two operations with one ID, of which the first expired.
	if rec.Epoch != g.epoch || rec.Fence() != g.fence {
		return rec, &AdoptedError{Epoch: g.epoch, Record: rec}
	}
	return rec, nil
}

// stageLast stages the end of a record: the only write that gives it a time to live, and the one that takes its entries
// out of all its locks.
func (l *Locker) stageLast(s kvtx.Snapshot, tx *kvtx.Tx, rec Record) (Record, error) {
	rec.Ended = l.now()
	value, err := rec.encode()
	if err != nil {
		return rec, err
	}
	tx.PutTTL(OwnerKey(rec.Owner), value, rec.Revision, l.retention)
	h := l.handover(s)
	for _, c := range rec.Claims {
		if !h.takeOut(rec.Owner, c.Key) {
			return rec, h.err
		}
	}
	h.run()
	return rec, h.stage(tx, false)
}

// StageCancel stages the wish that a live operation ends early. Its worker sees it at its next write.
// Errors: ErrNotFound, ErrEnded, ErrVoid, ErrQueued; ErrApplied, with the record, if somebody wished it before.
func (l *Locker) StageCancel(s kvtx.Snapshot, tx *kvtx.Tx, owner, who string) (Record, error) {
	if err := checkText("who cancels, and why,", who, maxText); err != nil {
		return Record{}, err
	}
	rec, err := read(s, owner)
	if err != nil {
		return rec, err
	}
	if err := rec.active(); err != nil {
		return rec, err
	}
	if rec.Cancel != nil {
		return rec, fmt.Errorf("%w: cancel of operation %s", ErrApplied, owner)
	}
	rec.Cancel = &Cancel{By: who, At: l.now()}
	return rec, rec.stage(tx)
}

// StageResume stages that a stuck operation goes on, as Running or Undoing, with the next dispatch number: the caller
// publishes a dispatch with Record.Dispatch in the same commit. A payload of nil keeps the one that is there. The grant
// of the worker that got stuck is behind from then on.
// Errors: ErrNotFound, ErrEnded, ErrVoid, ErrQueued, ErrInvalid if it is not stuck.
func (l *Locker) StageResume(s kvtx.Snapshot, tx *kvtx.Tx, owner string, phase Phase, reason string, payload []byte) (Record, error) {
	if err := checkText("the reason of a resume", reason, maxText); err != nil {
		return Record{}, err
	}
	rec, err := read(s, owner)
	if err != nil {
		return rec, err
	}
	if err := rec.active(); err != nil {
		return rec, err
	}
	if rec.Phase != Stuck || phase != Running && phase != Undoing {
		return rec, fmt.Errorf("%w: resume of operation %s, which is %s, as %s", ErrInvalid, owner, rec.Phase, phase)
	}
	if err := rec.move(phase); err != nil {
		return rec, err
	}
	rec.audit("resume", reason, l.now())
	rec.Phase = phase
	rec.Position++
	rec.Dispatch++
	if err := rec.setPayload(payload); err != nil {
		return rec, err
	}
	return rec, rec.stage(tx)
}

// StageRedispatch stages the next dispatch number of an operation that workers should be told of again: the caller
// publishes a dispatch with Record.Dispatch in the same commit. It changes nothing else: a worker that drives the
// operation goes on undisturbed.
// Errors: ErrNotFound, ErrEnded, ErrVoid, ErrQueued, ErrStuck.
func (l *Locker) StageRedispatch(s kvtx.Snapshot, tx *kvtx.Tx, owner string) (Record, error) {
	rec, err := read(s, owner)
	if err != nil {
		return rec, err
	}
	if err := rec.drivable(); err != nil {
		return rec, err
	}
	rec.Dispatch++
	return rec, rec.stage(tx)
}

// active returns an error unless the operation holds its locks and was not broken.
func (r Record) active() error {
	switch {
	case !r.Live():
		return fmt.Errorf("%w: %s, %s", ErrEnded, r.Owner, r.Phase)
	case r.Phase == Void:
		return fmt.Errorf("%w: %s", ErrVoid, r.Owner)
	case r.Phase == Queued:
		return fmt.Errorf("%w: %s", ErrQueued, r.Owner)
	}
	return nil
}

// drivable returns an error unless a worker may drive the operation.
func (r Record) drivable() error {
	if err := r.active(); err != nil {
		return err
	}
	if r.Phase == Stuck {
		return fmt.Errorf("%w: %s", ErrStuck, r.Owner)
	}
	return nil
}
