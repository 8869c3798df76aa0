package model

import (
	"errors"
	"slices"

	"github.com/scoria-storage/scoria/kvlock"
)

// phases are kvlock's, by the model's.
var phases = map[Phase]kvlock.Phase{
	Queued: kvlock.Queued, Granted: kvlock.Granted, Running: kvlock.Running, IsStuck: kvlock.Stuck, Void: kvlock.Void,
}

// compare fails the test unless the records and messages of the walk are what the model says.
func (r *replay) compare() {
	r.subjects = r.look()
	var want []string
	var wakes uint8
	for _, subject := range r.subjects {
		for k := range r.m.Keys {
			if r.wakeOf(subject, k) {
				wakes |= bit(k)
				want = append(want, subject)
			}
		}
	}
	for i := range uint8(len(r.m.Ops)) {
		r.compareRecord(i)
		for n := uint8(1); n <= 3; n++ {
			if r.s.Ops[i].Messages&bit(n-1) != 0 {
				want = append(want, r.subject(i, uint64(n)))
			}
		}
	}
	slices.Sort(want)
	if wakes != r.s.Wakes || !slices.Equal(r.subjects, want) {
		r.fatalf("messages %q, the model has %q, and wakes of the keys %b", r.subjects, want, r.s.Wakes)
	}
	for k := range r.m.Keys {
		r.compareLock(k)
	}
}

func (r *replay) compareRecord(i uint8) {
	o := &r.s.Ops[i]
	rec, err := r.locks.Record(r.t.Context(), r.owner(i))
	switch {
	case o.Phase == Absent && errors.Is(err, kvlock.ErrNotFound):
		return
	case err != nil || o.Phase == Absent:
		r.fatalf("record of %s: %s, %v; the model says %s", opName(i), rec.Phase, err, phaseNames[o.Phase])
	case o.Phase == Ended && rec.Live() || o.Phase != Ended && (!rec.Live() || rec.Phase != phases[o.Phase]):
		r.fatalf("%s is %s, ended %v; the model says %s", opName(i), rec.Phase, !rec.Live(), phaseNames[o.Phase])
	case rec.Epoch != uint64(o.Epoch) || rec.Dispatch != uint64(o.Dispatch):
		r.fatalf("%s is in epoch %d, dispatch %d; the model says %d, %d", opName(i), rec.Epoch, rec.Dispatch, o.Epoch, o.Dispatch)
	case !slices.Equal(rec.Claims, r.claims(i)):
		r.fatalf("%s claims %v; the model says %v", opName(i), rec.Claims, r.claims(i))
	}
}

// modelLock is a lock as the model has it.
func (r *replay) modelLock(lock kvlock.Lock) Lock {
	l := Lock{Mode: Mode(lock.Mode)}
	number := func(owner string) uint8 {
		for i := range uint8(len(r.m.Ops)) {
			if r.owner(i) == owner {
				return i
			}
		}
		r.fatalf("lock %s names %s", lock.Key, owner)
		return 0
	}
	for _, h := range lock.Holders {
		l.Holders |= bit(number(h.Owner))
	}
	for _, w := range lock.Line {
		l.queue(number(w.Owner))
	}
	return l
}

func (r *replay) compareLock(k int) {
	entry, err := r.store.Get(r.t.Context(), kvlock.LockKey(r.key(k)))
	if err != nil {
		r.fatalf("lock %s: %v", keyName(k), err)
	}
	lock, err := kvlock.DecodeLock(entry)
	if err != nil {
		r.fatalf("lock %s: %v", keyName(k), err)
	}
	if got := r.modelLock(lock); got != r.s.Locks[k] {
		r.fatalf("lock %s is %+v, the model says %+v", keyName(k), got, r.s.Locks[k])
	}
	if seen := r.seen[k]; entry.Exists && (len(seen) == 0 || seen[len(seen)-1].Revision != entry.Revision) {
		r.seen[k] = append(seen, entry)
	}
}
