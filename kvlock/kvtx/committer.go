package kvtx

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// committer makes the commits of one store, one after another.
type committer struct {
	store   *Store
	name    string
	receipt receipt

	queue chan *member
	life  context.Context // Ends when the store is closed and what is in flight has had its time.
	end   context.CancelFunc
	done  sync.WaitGroup
}

// member is one commit that waits.
type member struct {
	ctx     context.Context
	tx      *Tx
	applied func(Entry) bool
	outcome chan outcome
}

type outcome struct {
	result Result
	err    error
}

func newCommitter(s *Store, name string) *committer {
	c := &committer{store: s, name: name, queue: make(chan *member)}
	c.receipt = receipt{committer: name, key: "rcpt." + name}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

func (c *committer) start() { c.done.Go(c.run) }

func (c *committer) stop() {
	c.end()
	c.done.Wait()
}

func (c *committer) run() {
	for {
		select {
		case m := <-c.queue:
			r, err := c.commit(m)
			m.outcome <- outcome{r, err}
		case <-c.life.Done():
			return
		}
	}
}

func (c *committer) commit(m *member) (Result, error) {
	var r Result
	if m.ctx.Err() != nil {
		return r, m.ctx.Err()
	}
	tx, s := m.tx, c.store
	if tx.single() {
		rev, err := s.writeOne(c.life, &tx.writes[0], tx.applied)
		if err != nil {
			return r, err
		}
		r.add(tx.writes[0].key, rev)
		return r, nil
	}
	b := &batch{keys: func() []string { return nil }}
	for i := range tx.checks {
		ch := &tx.checks[i]
		b.messages = append(b.messages, message{
			subject: fmt.Sprintf("%schk.%s.%d", s.prefix, c.name, i), ttl: s.markerTTL(),
			expects: true, expect: ch.expect, other: s.prefix + ch.key,
		})
	}
	for i := range tx.writes {
		b.messages = append(b.messages, s.message(&tx.writes[i]))
	}
	b.receipt = len(b.messages)
	b.messages = append(b.messages, message{})
	for i := range tx.publishes {
		b.messages = append(b.messages, s.message(&tx.publishes[i]))
	}
	first, err := s.writeBatch(c.life, b, &c.receipt)
	if err != nil {
		return r, err
	}
	for i := range tx.writes {
		r.add(tx.writes[i].key, first+Revision(len(tx.checks)+i))
	}
	return r, nil
}

// Commit makes a commit of fixed values: all or nothing. A [*ConflictError] says which keys were not at the revisions that
// were expected. [ErrInDoubt] says that ctx ended after the commit was sent and before it was decided.
func (s *Store) Commit(ctx context.Context, tx *Tx) (Result, error) {
	if err := tx.validate(s.dispatch, s.maxPayload); err != nil {
		return Result{}, err
	}
	if tx.empty() {
		return Result{}, nil
	}
	for {
		r, err := s.submit(ctx, tx)
		if !errors.Is(err, errLost) {
			return r, err
		}
		moved, err := s.moved(ctx, tx)
		if err != nil {
			return Result{}, err
		}
		if moved != nil {
			return Result{}, &ConflictError{Keys: moved}
		}
	}
}

// moved reads the keys that the transaction expects something of, and corrects the expectation "absent" to the revision of a
// delete marker.
func (s *Store) moved(ctx context.Context, tx *Tx) ([]string, error) {
	var keys []string
	var ops []*op
	for _, list := range [...][]op{tx.writes, tx.checks} {
		for i := range list {
			keys, ops = append(keys, list[i].key), append(ops, &list[i])
		}
	}
	entries, err := s.GetMany(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var moved []string
	for i, e := range entries {
		switch {
		case e.Revision == ops[i].expect:
		case !e.Exists && ops[i].expect == 0:
			ops[i].expect = e.Revision
		default:
			moved = append(moved, e.Key)
		}
	}
	return moved, nil
}

func (s *Store) submit(ctx context.Context, tx *Tx) (Result, error) {
	if err := s.usable(); err != nil {
		return Result{}, err
	}
	m := &member{ctx: ctx, tx: tx, outcome: make(chan outcome, 1)}
	select {
	case s.committer.queue <- m:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-s.closing:
		return Result{}, ErrClosed
	}
	select {
	case o := <-m.outcome:
		return o.result, o.err
	case <-ctx.Done():
		return Result{}, inDoubt(ctx.Err())
	}
}

// UpdateOption sets what most calls of [Store.Update] leave alone.
type UpdateOption func(*updateOptions)

type updateOptions struct{ absent []string }

// AssumeAbsent names keys that cannot be there yet because their IDs were just made up. They are not read: the first run of the function is
// told that they are absent. It is only a saving: a commit that writes or checks such a key finds out if it is wrong, and a refusal
// is decided on what is read.
func AssumeAbsent(keys ...string) UpdateOption {
	return func(o *updateOptions) { o.absent = append(o.absent, keys...) }
}

// Update reads, decides and commits: fn reads the snapshot and stages into the Tx. It is run again, with a new Tx, when what it read has
// changed, so it must not have effects of its own. The keys are read in advance, in parallel; fn may read others.
//
// An error of fn refuses: nothing is written, and Update returns that error as it is. A function that stages nothing writes nothing.
func (s *Store) Update(ctx context.Context, keys []string, fn func(Snapshot, *Tx) error, opts ...UpdateOption) (Result, error) {
	var o updateOptions
	for _, opt := range opts {
		opt(&o)
	}
	for try := 0; ; try++ {
		if try > 0 {
			if err := pause(ctx, s.closing, backoff(try-1)); err != nil {
				return Result{}, err
			}
		}
		snap := &snapshot{ctx: ctx, store: s, entries: map[string]Entry{}, tx: &Tx{}}
		entries, err := s.GetMany(ctx, keys...)
		if err != nil {
			return Result{}, err
		}
		for _, e := range entries {
			snap.entries[e.Key] = e
		}
		if err := fn(snap, snap.tx); err != nil {
			return Result{}, err
		}
		r, err := s.Commit(ctx, snap.tx)
		if !errors.Is(err, ErrConflict) {
			return r, err
		}
	}
}

type snapshot struct {
	ctx     context.Context
	store   *Store
	entries map[string]Entry
	tx      *Tx
}

func (s *snapshot) Get(key string) (Entry, error) {
	e, ok := s.entries[key]
	if !ok {
		var err error
		if e, err = s.store.Get(s.ctx, key); err != nil {
			return Entry{}, err
		}
		s.entries[key] = e
	}
	if w := s.tx.written(key); w != nil {
		e.Value, e.Exists, e.TTL = w.value, !w.del, w.ttl
	}
	return e, nil
}
