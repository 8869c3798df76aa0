package kvtx

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// group is what is sent together.
type group struct {
	store *Store
	key   string // For which its members are apart, or "".

	members   []*member
	refusals  []refusal // Rest on what members of this group staged: answered after it.
	slots     []*slot
	index     map[string]*slot
	checks    []op
	publishes []op
	bytes     int
	rest      []*member // Not placed yet.
	bound     bool      // A member rests on another one's write of another key: only a batch keeps them together.
}

// slot is the one message that writes a key. Its op has the last value and the first expectation.
type slot struct {
	op
	entry   Entry // What the group's members see: the revision is a placeholder.
	writers []*member
}

// refusal is a member's answer that waits for the group.
type refusal struct {
	m   *member
	err error
}

var (
	errLeave  = errors.New("not in this group")
	errFull   = errors.New("group is full")
	errGoexit = errors.New("kvtx: the function ended its goroutine")
)

func (g *group) slot(key string) *slot { return g.index[key] }

func (g *group) len() int { return len(g.slots) + len(g.checks) + len(g.publishes) }

// build runs the members' functions one after another and puts together what they stage. Those that do not fit wait for the next group.
func (c *committer) build(members []*member, key string) *group {
	g := &group{store: c.store, key: key, index: map[string]*slot{}}
	c.building = g
	if key != "" {
		c.refresh(key, members)
	}
	for round := 0; ; round++ {
		var later []*member
		for i, m := range members {
			g.rest = members[i:]
			err := c.add(g, m)
			if errors.Is(err, errFull) {
				later = append(later, members[i:]...)
				break
			}
			if errors.Is(err, errLeave) {
				later = append(later, m)
			}
		}
		g.rest = nil
		if len(later) > 0 && key != "" {
			q := c.apart[key]
			q.members = append(later, q.members...)
			return g
		}
		if len(later) > 0 {
			c.back(later)
			return g
		}
		// Some came while the functions ran.
		if members = nil; key == "" && round < 2 {
			members = c.take()
		}
		if len(members) == 0 {
			return g
		}
	}
}

// refresh reads a key that others change from the leader, just before it is decided on.
func (c *committer) refresh(key string, members []*member) {
	if !ValidKey(key) {
		return // Apart for no key.
	}
	// Without an answer the functions run on what is known.
	if ks, err := c.store.readMany(c.life, c.life, key); err == nil {
		for _, m := range members {
			m.learn(ks[0])
		}
	}
}

// add runs the member and puts what it staged into the group. errLeave and errFull say that it must be added to a later one. In every
// other case its outcome is settled here or comes with the group.
func (c *committer) add(g *group, m *member) error {
	m.mu.Lock()
	if err := m.ctx.Err(); err != nil {
		m.mu.Unlock()
		m.answer(Result{}, err)
		return nil
	}
	var snap *snapshot
	var o outcome
	if m.fn != nil {
		snap = &snapshot{group: g, m: m, tx: &Tx{}, oldest: math.MaxUint64, proven: math.MaxUint64}
		c.running = m
		o = snap.run()
		m.tx, m.reads = snap.tx, snap.reads
	}
	err := c.place(g, m, snap, &o)
	m.staged = err == nil && o.fetch == nil && o.err == nil && o.panicked == nil
	m.mu.Unlock()
	switch {
	case errors.Is(err, errDone):
		m.outcome <- o
	case err != nil && !errors.Is(err, errHeld):
		return err
	}
	return nil
}

var (
	errDone = errors.New("outcome is known")
	errHeld = errors.New("outcome comes later")
)

// run calls the function.
func (s *snapshot) run() (o outcome) {
	ended := false
	defer func() {
		if !ended {
			o.panicked = recover() // nil if the goroutine is being ended: see committer.run.
		}
		s.closed = true
	}()
	o.err = s.m.fn(s, s.tx)
	ended = true
	return o
}

// place decides what happens with a member after its function ran: nil if it is in the group.
func (c *committer) place(g *group, m *member, snap *snapshot, o *outcome) error {
	if snap != nil {
		switch {
		case o.panicked != nil:
			return errDone
		case len(snap.missing) > 0:
			*o = outcome{fetch: snap.missing}
			return errDone
		}
		if o.err == nil && !m.tx.empty() {
			snap.checkAbsent()
			o.err = m.tx.validate(c.store) // What it staged may rest on old entries, too.
		}
		if o.err != nil || m.tx.empty() {
			return c.refuse(g, m, snap, o)
		}
	}
	if hot := c.touchesHot(m); hot != "" && hot != g.key {
		c.setApart(hot, m)
		return errHeld
	}
	if m.alone > 0 && g.len() > 0 {
		return errFull
	}
	if len(g.members) > 0 && g.members[0].alone > 0 {
		return errFull
	}
	if err := g.stage(m, snap, o); err != nil {
		return err
	}
	g.members = append(g.members, m)
	return nil
}

// refuse answers a member that writes nothing, unless that rests on entries that may be out of date, or forgotten, or that are not committed.
func (c *committer) refuse(g *group, m *member, snap *snapshot, o *outcome) error {
	switch {
	case len(snap.stale) > 0:
		*o = outcome{fetch: snap.stale}
		return errDone
	case o.err != nil && snap.doubtful(o.err):
		*o = outcome{fetch: keysOf(snap.reads)}
		return errDone
	case (o.err == nil || isSure(o.err)) && snap.unproven() > 0:
		*o = outcome{prove: snap.unproven(), fetch: keysOf(snap.reads)}
		return errDone
	case len(snap.pending) > 0:
		g.refusals = append(g.refusals, refusal{m, o.err})
		return errHeld
	}
	return errDone
}

func keysOf(entries []Entry) []string {
	keys := make([]string, len(entries))
	for i := range entries {
		keys[i] = entries[i].Key
	}
	return keys
}

// touchesHot returns a key that the member touches and that is kept apart, or "".
func (c *committer) touchesHot(m *member) string {
	if len(c.hot) == 0 {
		return ""
	}
	for key := range m.touched() {
		if c.isHot(key) {
			return key
		}
	}
	return ""
}

// touched are the keys that the member read, writes or checks.
func (m *member) touched() func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range m.reads {
			if !yield(m.reads[i].Key) {
				return
			}
		}
		for _, list := range [...][]op{m.tx.writes, m.tx.checks} {
			for i := range list {
				if !yield(list[i].key) {
					return
				}
			}
		}
	}
}

// stage puts the member's writes into the group, all or none.
func (g *group) stage(m *member, snap *snapshot, o *outcome) error {
	tx := m.tx
	if err := g.expectations(m, o); err != nil {
		return err
	}
	messages, bytes := len(tx.publishes), tx.Size()
	for i := range tx.writes {
		if g.slot(tx.writes[i].key) == nil {
			messages++
		}
	}
	messages += len(tx.checks)
	if g.len() > 0 && (g.len()+messages > MaxMessages || g.bytes+bytes > MaxBytes) {
		return errFull
	}
	g.bytes += bytes
	for i := range tx.checks {
		if ch := &tx.checks[i]; g.slot(ch.key) == nil && g.check(ch.key) == nil {
			g.checks = append(g.checks, *ch)
		}
	}
	for i := range tx.writes {
		g.write(m, &tx.writes[i])
	}
	g.publishes = append(g.publishes, tx.publishes...)
	if snap != nil && slices.ContainsFunc(snap.pending, func(key string) bool { return tx.written(key) == nil }) {
		g.bound = true
	}
	return nil
}

// expectations compares what the member expects with what the group and the store know, and corrects "absent" to the revision of a delete
// marker. It returns errLeave if an earlier member has changed a key, and errDone if the outcome is known: a conflict, or keys to read.
func (g *group) expectations(m *member, o *outcome) error {
	var moved, unsure []string
	for _, list := range [...][]op{m.tx.writes, m.tx.checks} {
		for i := range list {
			w := &list[i]
			if slot := g.slot(w.key); slot != nil {
				if m.fn == nil || w.expect != slot.entry.Revision && (w.expect != 0 || slot.entry.Exists) {
					return errLeave
				}
				continue
			}
			if w.expect.Pending() {
				// A placeholder of an earlier run that the function kept.
				*o = outcome{err: fmt.Errorf("%w: %s is expected at a revision that was never written", ErrInvalid, w.key)}
				return errDone
			}
			if ch := g.check(w.key); ch != nil && ch.expect != w.expect {
				return errLeave
			}
			k, ok := g.store.lookup(m, w.key)
			switch {
			case !ok || k.Revision == w.expect:
			case w.expect == 0 && !k.Exists:
				w.expect = k.Revision
			case k.Revision > w.expect && (k.asked < m.start || m.given(w)):
				// Or it moved while the function ran, which staged what it was given.
				unsure = append(unsure, w.key)
			case k.Revision > w.expect || m.refused > 0 && k.asked > m.refused:
				moved = append(moved, w.key)
				// Else the caller knows something newer than the store: the server decides.
			}
		}
	}
	switch {
	case len(unsure) > 0:
		*o = outcome{fetch: append(unsure, moved...)}
		return errDone
	case len(moved) > 0:
		*o = outcome{err: &ConflictError{Keys: moved}}
		return errDone
	}
	return nil
}

// given says whether the member's function was given the revision that it expects. Times do not tell: what another caller read before the
// function ran may be remembered only afterwards.
func (m *member) given(w *op) bool {
	i := slices.IndexFunc(m.reads, func(e Entry) bool { return e.Key == w.key })
	return m.fn != nil && i >= 0 && m.reads[i].Revision == w.expect
}

func (g *group) check(key string) *op {
	for i := range g.checks {
		if g.checks[i].key == key {
			return &g.checks[i]
		}
	}
	return nil
}

// write stages one write; a later write of the same key takes its place with the first one's expectation.
func (g *group) write(m *member, w *op) {
	sl := g.slot(w.key)
	if sl == nil {
		sl = &slot{op: *w}
		g.slots = append(g.slots, sl)
		g.index[w.key] = sl
		// A check of the key is now this write's expectation.
		g.checks = slices.DeleteFunc(g.checks, func(ch op) bool { return ch.key == w.key })
	} else {
		first := sl.expect
		sl.op = *w
		sl.expect = first
	}
	sl.writers = append(sl.writers, m)
	g.store.placeholder++
	sl.entry = Entry{
		Key: w.key, Value: w.value, Exists: !w.del, TTL: w.ttl, Time: time.Now(),
		Revision: pendingBit | g.store.placeholder,
	}
}
