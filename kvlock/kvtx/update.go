package kvtx

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Commit makes a commit of fixed values: all or nothing. A [*ConflictError] says which keys were not at the revisions that
// were expected. [ErrInDoubt] says that ctx ended after the commit was sent and before it was decided.
func (s *Store) Commit(ctx context.Context, tx *Tx) (Result, error) {
	if err := tx.validate(s); err != nil {
		return Result{}, err
	}
	if tx.empty() {
		return Result{}, nil
	}
	return s.do(&member{ctx: ctx, tx: tx, holds: perCall + tx.Size()})
}

// UpdateOption sets what most calls of [Store.Update] leave alone.
type UpdateOption func(*updateOptions)

type updateOptions struct {
	absent []string
	holds  int
	yields bool
}

// Holds says about how many bytes the call keeps in memory until it returns, such as a payload: they count for [WithLimit].
func Holds(bytes int) UpdateOption { return func(o *updateOptions) { o.holds += bytes } }

// Yields makes the call one that is refused with [ErrBusy] at half of the limit: for what begins something new. What ends something, and so
// lets the rest go on, has the other half.
func Yields() UpdateOption { return func(o *updateOptions) { o.yields = true } }

// AssumeAbsent names keys that cannot be there yet because their IDs were just made up. They are not read: the first run of the function is
// told that they are absent. It is only a saving: a commit that writes or checks such a key finds out if it is wrong, and a refusal
// is decided on what is read.
func AssumeAbsent(keys ...string) UpdateOption {
	return func(o *updateOptions) { o.absent = append(o.absent, keys...) }
}

// Update reads, decides and commits: fn reads the snapshot and stages into the Tx. fn may run several times, each time with a new Tx: when
// what it read has changed, and together with other commits of this process, on what those stage. So it must have no effect but
// staging and setting variables of its caller anew in each run; it must not wait for anything, and not call the Store. It never runs once
// Update has returned. The keys are read in advance, in parallel; another key that fn reads costs a run and a read.
//
// Within a run a key reads the same every time. What fn reads may be out of date; what it writes or checks with [Tx.Check] is sure when
// the commit is made, and so is what it found absent, which is checked without being asked for. An entry that is there and that fn neither
// writes nor checks is a hint.
//
// An error of fn refuses: nothing is written, and Update returns that error as it is. A function that stages nothing writes nothing, and what
// it read is on the server's disk when Update returns; so is what an error that is marked with [Sure] rests on.
// Update tries again on conflicts until ctx ends; a [*ConflictError] is returned only if fn itself stages a revision that is not the
// snapshot's. [ErrInDoubt] says that ctx ended after the commit was sent and before it was decided, or before it was known whether what was
// read is on the disk.
func (s *Store) Update(ctx context.Context, keys []string, fn func(Snapshot, *Tx) error, opts ...UpdateOption) (Result, error) {
	var o updateOptions
	for _, opt := range opts {
		opt(&o)
	}
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return Result{}, err
		}
	}
	return s.do(&member{ctx: ctx, fn: fn, absent: o.absent, holds: perCall + o.holds, yields: o.yields}, keys...)
}

// do makes the member's commit. It reads what the committer asks it to read, so that the committer never waits for reads of one member.
func (s *Store) do(m *member, keys ...string) (Result, error) {
	if err := s.enter(); err != nil {
		return Result{}, err
	}
	defer s.calls.Done()
	if err := s.limit.enter(m.holds, m.yields); err != nil {
		return Result{}, err
	}
	defer s.limit.leave(m.holds)
	m.start = s.clock.Add(1)
	m.outcome = make(chan outcome, 1)
	missing := keys[:0:0]
	for _, key := range keys {
		if slices.Contains(m.absent, key) {
			continue
		}
		if _, ok := s.cache.get(key); ok {
			continue
		}
		if _, ok := s.Cached(m.ctx, key); !ok { // it may be what is just being written
			missing = append(missing, key)
		}
	}
	for {
		if len(missing) > 0 {
			if err := s.fetch(m, missing); err != nil {
				return Result{}, err
			}
		}
		s.opts.turn(m.ctx)
		o, err := s.committer.do(m)
		switch {
		case err != nil:
			return Result{}, err
		case o.panicked != nil:
			panic(o.panicked) // Of the caller's function, where the caller can see it.
		case o.fetch == nil:
			if o.err == nil {
				m.tx.made()
			}
			return o.result, o.err
		}
		if o.prove > 0 {
			if err := s.proveFor(m.ctx, o.prove); err != nil {
				return Result{}, inDoubt(err)
			}
		}
		missing = o.fetch
	}
}

// fetch reads keys from the leader for the member.
func (s *Store) fetch(m *member, keys []string) error {
	ks, err := s.readMany(m.ctx, s.life, keys...)
	if err != nil {
		return err
	}
	for _, k := range ks {
		m.learn(k)
	}
	return nil
}

// snapshot is what a member's function reads: its own staged writes, then what earlier members of the group staged, then what is known.
type snapshot struct {
	group *group
	m     *member
	tx    *Tx

	closed  bool
	missing []string // Keys that it read and that are not known.
	stale   []string // Keys whose entry may have been out of date when the call began, or forgotten since.
	pending []string // Keys whose entry another member has staged.
	reads   []Entry  // What the function was given: it reads the same again.
	oldest  uint64   // Before which moment of the store's clock nothing of it was asked for.
	proven  uint64   // Up to which revision it is sure to be on the server's disk.
}

func (s *snapshot) Get(key string) (Entry, error) {
	if s.closed {
		return Entry{}, fmt.Errorf("%w: snapshot was read after its function had returned", ErrInvalid)
	}
	if err := checkKey(key); err != nil {
		return Entry{}, err
	}
	if w := s.tx.written(key); w != nil {
		return Entry{Key: key, Value: w.value, Exists: !w.del, TTL: w.ttl, Revision: w.expect}, nil
	}
	if i := slices.IndexFunc(s.reads, func(e Entry) bool { return e.Key == key }); i >= 0 {
		return s.reads[i], nil
	}
	if slot := s.group.slot(key); slot != nil {
		s.pending = append(s.pending, key)
		s.reads = append(s.reads, slot.entry)
		return slot.entry, nil
	}
	k, ok := s.group.store.lookup(s.m, key)
	switch {
	case ok:
	case slices.Contains(s.m.absent, key):
		k.Key = key
	default:
		if !slices.Contains(s.missing, key) {
			s.missing = append(s.missing, key)
		}
		return Entry{}, fmt.Errorf("kvtx: %s is not read yet", key)
	}
	proven := s.group.store.highest.Load() // Before the breaks: after one the sequences may be given again.
	if k.asked < s.m.start || k.breaks != s.group.store.server.Breaks() {
		s.stale = append(s.stale, key)
	}
	s.oldest, s.proven = min(s.oldest, k.asked), min(s.proven, proven)
	s.reads = append(s.reads, k.Entry)
	return k.Entry, nil
}

// checkAbsent makes the commit depend on what the function found absent and does not write.
func (s *snapshot) checkAbsent() {
	for i := range s.reads {
		if e := &s.reads[i]; !e.Exists && s.tx.written(e.Key) == nil {
			s.tx.Check(e.Key, e.Revision)
		}
	}
}

// lookup is the newest that is known of a key, unless that is too old to decide on.
func (s *Store) lookup(m *member, key string) (known, bool) {
	k, ok := m.known[key]
	if cached, hit := s.cache.get(key); hit && (!ok || cached.newer(&k)) {
		k, ok = cached, true
	}
	return k, ok && time.Since(k.at) < s.fresh
}
