package linearizability

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/internal/history"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// perPart is about how many events one part has, so that its history is decided soon.
const perPart = 80

// storeSet is a set in the store, read when the lock was taken and written later, whatever stands there then: only the lock's fence, which
// is part of that commit, keeps workers apart that take over from each other.
func storeSet() *load {
	l := &load{name: "store-set", clients: 4, rec: history.NewRecorder(), model: history.Sets}
	var next, overtaken atomic.Int64
	l.act = func(c *client) {
		s := &setWork{client: c, owner: c.id(), key: fmt.Sprintf("set.%d", next.Add(1)/perPart)}
		seen, ok := s.acquire()
		if !ok {
			return
		}
		g, _, err := s.p.locks.Adopt(c.ctx, s.owner, "worker", "first")
		if err != nil {
			c.t.Errorf("Adopt(%s): %v", s.owner, err)
			return
		}
		var heirs sync.WaitGroup
		if c.rng.IntN(3) == 0 { // the heir comes while the first one writes
			token, add := c.id(), c.id()
			heirs.Go(func() { s.inherit(g, token, add) })
			overtaken.Add(1)
		}
		g = s.write(s.p, g, seen, s.owner)
		heirs.Wait()
		if s.over.IsZero() {
			s.over = g
		}
		c.release(s.over)
	}
	l.check = func(t *testing.T) {
		if overtaken.Load() == 0 {
			t.Errorf("%s: no worker was overtaken: the test is blind", l.name)
		}
	}
	return l
}

// setWork is one operation on the set.
type setWork struct {
	*client
	owner, key string
	over       kvlock.Grant // of the heir
}

const setLock = "store-set"

// acquire takes the lock and reads the set, in one commit.
func (s *setWork) acquire() (seen []string, ok bool) {
	call := s.rec.Begin()
	defer call.End()
	claim := kvlock.Exclusive(setLock)
	err := s.settled(func(ctx context.Context) error {
		_, err := s.p.store.Update(ctx, append(s.p.locks.Keys(s.owner, claim), s.key), func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
			if _, err := s.p.locks.StageAcquire(snap, tx, s.owner, nil, claim); err != nil {
				return err
			}
			var err error
			seen, err = readSet(snap, tx, s.key)
			return err
		})
		if errors.Is(err, kvlock.ErrExists) { // the one in doubt was made
			return nil
		}
		return err
	})
	if errors.Is(err, kvlock.ErrConflict) {
		return nil, false
	}
	if err != nil {
		s.t.Errorf("acquire(%s): %v", s.owner, err)
		return nil, false
	}
	call.Saw(s.key, history.Set{Saw: seen})
	return seen, true
}

// readSet reads the set, and proves it.
func readSet(snap kvtx.Snapshot, tx *kvtx.Tx, key string) ([]string, error) {
	e, err := snap.Get(key)
	if err != nil {
		return nil, err
	}
	tx.Check(key, e.Revision)
	if !e.Exists {
		return nil, nil
	}
	return strings.Split(string(e.Value), ","), nil
}

// write adds an element to what was seen, under the fence of the grant. It returns the grant to go on with.
func (s *setWork) write(p *process, g kvlock.Grant, seen []string, add string) kvlock.Grant {
	call := s.rec.Begin()
	defer call.End()
	value := strings.Join(append(slices.Clip(seen), add), ",")
	doubt := false
	res, err := s.stage(p, g, add, &doubt, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := snap.Get(s.key)
		if err != nil {
			return err
		}
		tx.Put(s.key, []byte(value), e.Revision)
		return nil
	})
	switch {
	case err == nil:
		call.Saw(s.key, history.Set{Add: add})
		return g.Saved(res)
	case errors.Is(err, kvlock.ErrApplied):
		call.Saw(s.key, history.Set{Add: add})
		rec, err := p.locks.Check(s.ctx, g)
		if err != nil && !errors.Is(err, kvlock.ErrAdopted) {
			s.t.Errorf("Check(%s): %v", s.owner, err)
		}
		return p.locks.GrantOf(rec)
	case errors.Is(err, kvlock.ErrAdopted) && doubt:
		call.MayHave(s.key, history.Set{Add: add})
	case !errors.Is(err, kvlock.ErrAdopted):
		s.t.Errorf("write(%s): %v", s.owner, err)
	}
	return g
}

// stage commits a save with more in it. doubt says whether a try before the last one was in doubt.
func (s *setWork) stage(p *process, g kvlock.Grant, payload string, doubt *bool, more func(kvtx.Snapshot, *kvtx.Tx) error) (kvtx.Result, error) {
	for {
		res, err := p.store.Update(s.ctx, append(p.locks.Keys(s.owner), s.key), func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
			if err := p.locks.StageSave(snap, tx, g, kvlock.Running, []byte(payload)); err != nil {
				return err
			}
			return more(snap, tx)
		})
		if !unknown(err) || s.ctx.Err() != nil {
			return res, err
		}
		*doubt = true
	}
}

// inherit takes the operation over, reads the set anew and adds an element of its own.
func (s *setWork) inherit(g kvlock.Grant, token, add string) {
	next, _, err := s.heir.locks.Adopt(s.ctx, s.owner, "heir", token)
	if err != nil {
		s.t.Errorf("Adopt(%s): %v", s.owner, err)
		return
	}
	if !g.Fence().Less(next.Fence()) {
		s.t.Errorf("Adopt(%s): fence %v after %v", s.owner, next.Fence(), g.Fence())
	}
	var seen []string
	call := s.rec.Begin()
	doubt := false
	res, err := s.stage(s.heir, next, "look", &doubt, func(snap kvtx.Snapshot, tx *kvtx.Tx) (err error) {
		seen, err = readSet(snap, tx, s.key)
		return err
	})
	if err != nil {
		s.t.Errorf("look(%s): %v", s.owner, err)
	} else {
		call.Saw(s.key, history.Set{Saw: seen})
	}
	call.End()
	if err == nil {
		s.over = s.write(s.heir, next.Saved(res), seen, add)
	}
}

// registers is a few registers that are read, written and exchanged together, without a lock. A part of them is left for the next one after a
// while.
func registers(plainReads bool) *load {
	l := &load{name: "registers", clients: 5, rec: history.NewRecorder(), model: history.Transactions}
	var next atomic.Int64
	l.act = func(c *client) {
		r := &registerWork{client: c, part: fmt.Sprintf("reg.%d", next.Add(1)/perPart)}
		if plainReads && c.rng.IntN(6) == 0 {
			r.get()
			return
		}
		r.commit(c.rng.IntN(3))
	}
	l.check = func(t *testing.T) {
		if l.rec.Count(func(e any, _ bool) bool { r := e.(history.Registers); return len(r.Saw) > 0 && len(r.Wrote) > 0 }) == 0 {
			t.Errorf("%s: nothing was exchanged: the test is blind", l.name)
		}
	}
	return l
}

// registerWork is one operation on registers.
type registerWork struct {
	*client
	part string
}

func (r *registerWork) key(i int) string { return fmt.Sprintf("%s.%d", r.part, i) }

// get is a plain read of one register.
func (r *registerWork) get() {
	call := r.rec.Begin()
	defer call.End()
	i := r.rng.IntN(history.MaxRegisters)
	ctx, cancel := r.moment()
	defer cancel()
	e, err := r.p.store.Get(ctx, r.key(i))
	if err == nil {
		call.Saw(r.part, history.Registers{Saw: map[int]string{i: string(e.Value)}})
	} else if !ended(err) || r.ctx.Err() != nil {
		r.t.Errorf("Get(%s): %v", r.key(i), err)
	}
}

// commit reads, writes, or exchanges some registers, in one commit.
func (r *registerWork) commit(kind int) {
	const read, write = 0, 1 // else both
	some := r.rng.Perm(history.MaxRegisters)[:1+r.rng.IntN(history.MaxRegisters)]
	fresh := map[int]string{}
	for _, i := range some {
		if kind != read && r.rng.IntN(5) > 0 {
			fresh[i] = r.id() // else it is deleted
		}
	}
	keys := make([]string, len(some))
	for n, i := range some {
		keys[n] = r.key(i)
	}
	call := r.rec.Begin()
	defer call.End()
	ctx, cancel := r.moment()
	defer cancel()
	var did history.Registers
	_, err := r.p.store.Update(ctx, keys, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		did = history.Registers{Saw: map[int]string{}, Wrote: map[int]string{}}
		for n, i := range some {
			e, err := snap.Get(keys[n])
			if err != nil {
				return err
			}
			if kind != write {
				did.Saw[i] = string(e.Value)
				tx.Check(keys[n], e.Revision)
			}
			if kind == read {
				continue
			}
			did.Wrote[i] = fresh[i]
			if fresh[i] != "" {
				tx.Put(keys[n], []byte(fresh[i]), e.Revision)
			} else if e.Exists {
				tx.Delete(keys[n], e.Revision)
			} else {
				tx.Check(keys[n], e.Revision)
			}
		}
		return nil
	})
	switch {
	case err == nil:
		call.Saw(r.part, did)
	case unknown(err):
		call.MayHave(r.part, did)
	case !ended(err) || r.ctx.Err() != nil:
		r.t.Errorf("commit on %s: %v", r.part, err)
	}
}
