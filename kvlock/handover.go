package kvlock

import (
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// What one commit hands over at most: what is left is owed a wake.
const (
	// MaxGrants is how many waiters one commit grants, or ends because their deadline has passed.
	MaxGrants = 64

	handMessages = 360     // of a commit, without what its caller stages
	handBytes    = 2 << 20 // of them
)

// handover decides who in the lines gets what a commit leaves, and stages it. One commit has one handover.
//
// An operation is granted when on each of its keys no holder and no older waiter conflicts with it. Granting one makes no other one
// grantable, so the order does not matter; ending an expired one may, so all the lines that it leaves are gone through again.
//
// The locks that the commit writes are certain once it is made; those that it merely read may be out of date. So a waiter that only
// the latter keep from its grant is not forgotten: its key is owed a wake, or, in the answer to a wake, the commit checks them.
type handover struct {
	l *Locker
	s kvtx.Snapshot

	locks   map[string]*handLock
	records map[string]*Record       // of waiters that were looked at
	look    []string                 // keys whose lines are to be gone through
	rests   map[string]kvtx.Revision // by the key in the bucket: what is not written, and what the commit depends on
	granted []*Record
	expired []*Record
	blocked map[string][]string // by the waiter that was looked at last: the keys that keep it
	wakes   []string            // keys with more waiters than were looked at
	bytes   int
	err     error // the first read that failed
}

// handLock is a lock as the commit leaves it.
type handLock struct {
	Lock
	written bool
	was     []Waiter // the line as it was read
}

func (l *Locker) handover(s kvtx.Snapshot) *handover {
	return &handover{l: l, s: s, locks: map[string]*handLock{}, records: map[string]*Record{}, rests: map[string]kvtx.Revision{}, blocked: map[string][]string{}}
}

// lock returns the lock of a key as the commit leaves it so far; nil if it cannot be read now.
func (h *handover) lock(key string) *handLock {
	if lk := h.locks[key]; lk != nil {
		return lk
	}
	lock, err := readLock(h.s, key)
	if err != nil {
		h.failed(err)
		return nil
	}
	lk := &handLock{Lock: lock, was: lock.Line}
	h.locks[key] = lk
	return lk
}

func (h *handover) failed(err error) {
	if h.err == nil {
		h.err = err
	}
}

// waiter returns the record of an operation that waits; nil if it cannot be read now or does not wait.
func (h *handover) waiter(owner string) *Record {
	if r := h.records[owner]; r != nil {
		return r
	}
	rec, err := read(h.s, owner)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrBroken), errors.Is(err, ErrNewer):
		// Nobody can tell what it waits for. It is left where it is, for verification to name it: others' ends do not depend on it.
		h.l.log.Warn("lock names a waiter whose record cannot be read", "operation", owner, "error", err)
		if !errors.Is(err, ErrNotFound) { // what is absent is checked anyway
			h.rests[OwnerKey(owner)] = rec.Revision
		}
		return nil
	case err != nil:
		h.failed(err)
		return nil
	case rec.Phase != Queued:
		// What was read may be of an earlier operation with this ID, whose record has gone since.
		h.l.log.Warn("lock names a waiter that does not wait", "operation", owner, "phase", rec.Phase.String())
		h.rests[OwnerKey(owner)] = rec.Revision
		return nil
	}
	h.records[owner] = &rec
	return &rec
}

// takeOut takes an operation's entry out of a lock, whose line is gone through then. It says whether the lock could be read.
func (h *handover) takeOut(owner, key string) bool {
	lk := h.lock(key)
	if lk == nil {
		return false
	}
	if !lk.remove(owner) {
		// What was read may be old: the commit depends on it. If the entry is missing indeed, which is a corruption, the operation goes
		// on, or is over, all the same.
		h.rests[LockKey(key)] = lk.Revision
		h.l.log.Debug("lock entry is missing", "operation", owner, "key", key)
		return true
	}
	h.write(lk)
	h.look = append(h.look, key)
	return true
}

// run goes through the lines of the keys, and of those that an expired waiter leaves.
func (h *handover) run(keys ...string) {
	h.look = append(h.look, keys...)
	for len(h.look) > 0 {
		key := h.look[0]
		h.look = h.look[1:]
		for h.line(key) {
		}
	}
}

// line goes through the line of a key. It says whether the line must be gone through again.
func (h *handover) line(key string) (again bool) {
	lk := h.lock(key)
	if lk == nil {
		return false
	}
	ahead := ModeNone
	for _, w := range slices.Clone(lk.Line) {
		if lk.Mode == ModeExclusive || ahead == ModeExclusive {
			return false // nobody behind is free here
		}
		expired := !w.Deadline.IsZero() && w.Deadline.Before(h.l.now())
		free := !w.Mode.conflicts(lk.Mode) && !w.Mode.conflicts(ahead)
		if (expired || free) && h.full() {
			h.owe(key)
			return false
		}
		if expired && h.expire(w.Owner) {
			return true
		}
		if !free || !h.grant(w.Owner) {
			ahead = max(ahead, w.Mode)
		}
	}
	return false
}

// grant lets a waiter in that is free on all its keys, and says whether it did.
func (h *handover) grant(owner string) bool {
	rec := h.waiter(owner)
	if rec == nil {
		return false
	}
	var blocked []string
	locks := make([]*handLock, len(rec.Claims))
	known := true
	for i, c := range rec.Claims {
		if locks[i] = h.lock(c.Key); locks[i] == nil {
			known = false
		} else if locks[i].keeps(owner, c.Mode) {
			blocked = append(blocked, c.Key)
		}
	}
	if !known {
		return false
	}
	if h.blocked[owner] = blocked; len(blocked) > 0 {
		return false
	}
	delete(h.blocked, owner)
	now := h.l.now()
	for i, c := range rec.Claims {
		locks[i].leaveLine(owner)
		locks[i].letIn(owner, c.Mode, now)
		h.write(locks[i])
	}
	h.letIn(rec, now)
	h.granted = append(h.granted, rec)
	h.bytes += len(rec.Payload)
	return true
}

// letIn makes a waiter a holder. Those that one commit lets in stand in the order of the line.
func (lk *handLock) letIn(owner string, mode Mode, since time.Time) {
	place := func(o string) int { return slices.IndexFunc(lk.was, func(w Waiter) bool { return w.Owner == o }) }
	at := len(lk.Holders)
	for at > 0 && place(lk.Holders[at-1].Owner) > place(owner) {
		at--
	}
	lk.Mode = max(lk.Mode, mode)
	lk.Holders = slices.Insert(slices.Clone(lk.Holders), at, Holder{Owner: owner, Since: since})
}

// letIn makes the record of a waiter that of an operation that holds its claims. Its fence is this write: above that of whoever held them.
func (h *handover) letIn(r *Record, now time.Time) {
	r.Phase, r.Granted = r.letInAs(), now
	r.FenceRev, r.Era = 0, h.l.era
	r.Dispatch++
}

// letInAs is the phase of an operation that gets its claims: nobody drives one that is dispatched yet.
func (r *Record) letInAs() Phase {
	if r.DispatchTo == "" {
		return Running
	}
	return Granted
}

// keeps says whether the lock keeps an operation that waits for it from its grant.
func (lk *handLock) keeps(owner string, mode Mode) bool {
	if mode.conflicts(lk.Mode) {
		return true
	}
	for _, w := range lk.Line {
		if w.Owner == owner {
			return false
		}
		if mode.conflicts(w.Mode) {
			return true
		}
	}
	return true // it is not in the line: what was read is old
}

// expire ends a waiter whose deadline has passed, and says whether it did.
func (h *handover) expire(owner string) bool {
	rec := h.waiter(owner)
	if rec == nil || !h.leave(rec) {
		return false
	}
	rec.audit("leave", DeadlinePassed, h.l.now())
	rec.Phase = Void
	delete(h.blocked, owner)
	h.expired = append(h.expired, rec)
	h.bytes += len(rec.Payload)
	return true
}

// leave takes a waiter out of all its lines, which are gone through again. It says whether all of them could be read.
func (h *handover) leave(rec *Record) bool {
	for _, c := range rec.Claims {
		if h.lock(c.Key) == nil {
			return false
		}
	}
	for _, c := range rec.Claims {
		lk := h.lock(c.Key)
		lk.leaveLine(rec.Owner)
		h.write(lk)
		if !slices.Contains(h.look, c.Key) {
			h.look = append(h.look, c.Key)
		}
	}
	return true
}

// leaveLine takes the owner's own ID out of the line.
func (l *Lock) leaveLine(owner string) {
	l.Line = slices.DeleteFunc(slices.Clone(l.Line), func(w Waiter) bool { return w.Owner == owner })
}

// write says that the commit writes the lock.
func (h *handover) write(lk *handLock) {
	if !lk.written {
		lk.written = true
		h.bytes += perEntry * (1 + len(lk.Holders) + len(lk.Line))
	}
}

// perEntry is about the size of a holder or waiter in a record.
const perEntry = 64

// full says that this commit hands over no more. The first one always fits: see MaxClaims.
func (h *handover) full() bool {
	n := len(h.granted) + len(h.expired)
	if n == 0 {
		return false
	}
	messages := 2*len(h.granted) + 8*len(h.expired)
	for _, lk := range h.locks {
		if lk.written {
			messages++
		}
	}
	return n >= MaxGrants || messages+MaxClaims > handMessages || h.bytes > handBytes
}

// owe notes that a key is owed a wake.
func (h *handover) owe(key string) {
	if !slices.Contains(h.wakes, key) {
		h.wakes = append(h.wakes, key)
	}
}

// unsure are the keys that keep a waiter although the commit only read them: for each such waiter all of them.
func (h *handover) unsure() [][]string {
	var all [][]string
	for _, owner := range slices.Sorted(maps.Keys(h.blocked)) {
		keys := h.blocked[owner]
		if !slices.ContainsFunc(keys, func(k string) bool { return h.locks[k].written }) {
			all = append(all, keys)
		}
	}
	return all
}

// stage stages what was decided. check: what was only read and keeps a waiter is checked; else its key is owed a wake.
func (h *handover) stage(tx *kvtx.Tx, check bool) error {
	if h.err != nil {
		return h.err
	}
	for _, rec := range h.granted {
		if err := rec.stage(tx); err != nil {
			return err
		}
	}
	for _, rec := range h.expired {
		if err := h.l.stageLeft(h.s, tx, rec); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(h.rests)) {
		tx.Check(key, h.rests[key])
	}
	for _, keys := range h.unsure() {
		if check {
			for _, key := range keys {
				tx.Check(LockKey(key), h.locks[key].Revision)
			}
		} else {
			h.owe(keys[0])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(h.locks)) {
		if lk := h.locks[key]; lk.written {
			if err := lk.stage(tx); err != nil {
				return err
			}
		}
	}
	for _, rec := range h.granted {
		h.l.publish(tx, *rec)
	}
	for _, key := range h.wakes {
		tx.Publish(h.l.store.DispatchSubject(wakeToken, key, rand.Text()), nil, nil)
	}
	h.observe(tx)
	return nil
}

// publish stages the message that tells workers of an operation that has its claims, if it wants one.
func (l *Locker) publish(tx *kvtx.Tx, r Record) {
	if r.DispatchTo != "" {
		tx.Publish(l.store.DispatchSubject(r.DispatchTo, strconv.FormatUint(r.Dispatch, 10)), nil, nil)
	}
}
