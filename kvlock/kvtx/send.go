package kvtx

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"
)

// maxPlain: up to so many commits of one message each are sent as plain writes side by side; more are a batch. Measured with
// BenchmarkBare: on one server with files and sync always a write costs 0.2 ms (its own fsync) and a batch 3 ms, up to 16 messages (a temporary
// store with several fsyncs), so they cross at 14 to 20; on three servers at about 24.
const maxPlain = 16

// maxTrip: what took longer was no round trip but a server that did not answer, and says nothing of how long it takes when it does.
const maxTrip = 100 * time.Millisecond

// send makes the group's commit and answers its members.
func (c *committer) send(g *group) {
	if g.len() == 0 {
		return
	}
	begin := time.Now()
	plain := c.plain(g)
	var ok bool
	if plain {
		ok = c.sendPlain(g)
	} else {
		ok = c.sendBatch(g)
	}
	took := min(time.Since(begin), maxTrip)
	c.trip = (3*c.trip + took) / 4
	c.answered, c.took = len(g.members), 0
	if !plain {
		c.took = took
	}
	if g.key != "" && ok {
		c.wonApart(g.key)
	}
	// The refusals rest on what the group wrote.
	for _, r := range g.refusals {
		if ok {
			r.m.answer(Result{}, r.err)
		} else {
			c.back([]*member{r.m})
		}
	}
}

// plain says whether the group goes as writes of one message each.
func (c *committer) plain(g *group) bool {
	if g.bound || len(g.slots) > maxPlain || len(g.checks)+len(g.publishes) > 0 {
		return false
	}
	return !slices.ContainsFunc(g.members, func(m *member) bool { return !m.tx.single() })
}

// sendPlain sends each write for itself and reports whether all were made.
func (c *committer) sendPlain(g *group) bool {
	errs := make([]error, len(g.slots))
	one := func(i int) {
		sl := g.slots[i]
		last := sl.writers[len(sl.writers)-1]
		asked := c.sending()
		rev, err := c.store.writeOne(c.life, &sl.op, last.tx.applied)
		if errs[i] = err; err == nil {
			c.written(g.slots[i:i+1], asked, rev)
		}
	}
	var wg sync.WaitGroup
	for i := 1; i < len(g.slots); i++ {
		wg.Go(func() { one(i) })
	}
	one(0)
	wg.Wait()
	all := true
	for i, sl := range g.slots {
		part := &group{store: g.store, key: g.key, members: sl.writers, slots: []*slot{sl}}
		all = c.settled(part, errs[i]) && all
	}
	return all
}

// sendBatch sends the group as one batch and reports whether it was made.
func (c *committer) sendBatch(g *group) bool {
	s := c.store
	b := &batch{messages: make([]message, 0, g.len()+1), keys: g.keys}
	for i := range g.checks {
		b.messages = append(b.messages, message{
			subject: s.prefix + "chk." + c.name + "." + strconv.Itoa(i), ttl: s.markerTTL,
			expects: true, expect: g.checks[i].expect, other: s.prefix + g.checks[i].key,
		})
	}
	for _, sl := range g.slots {
		b.messages = append(b.messages, s.message(&sl.op))
	}
	b.receipt = len(b.messages)
	b.messages = append(b.messages, message{})
	for i := range g.publishes {
		b.messages = append(b.messages, s.message(&g.publishes[i]))
	}
	land := c.flying.begin(g.slots)
	asked := c.sending()
	first, err := s.writeBatch(c.life, b, &c.receipt)
	if err == nil {
		c.written(g.slots, asked, first+Revision(len(g.checks)))
	}
	land()
	return c.settled(g, err)
}

// keys are what the group writes and checks.
func (g *group) keys() []string {
	keys := make([]string, 0, len(g.slots)+len(g.checks))
	for _, sl := range g.slots {
		keys = append(keys, sl.key)
	}
	for i := range g.checks {
		keys = append(keys, g.checks[i].key)
	}
	return keys
}

// sending is the moment before something is sent.
func (c *committer) sending() known {
	return known{asked: c.store.clock.Add(1), at: time.Now(), breaks: c.store.server.Breaks()}
}

// written takes note of what the slots' keys now are; first is the revision of the first one.
func (c *committer) written(slots []*slot, asked known, first Revision) {
	now, seen := time.Now(), c.store.clock.Add(1)
	for i, sl := range slots {
		e := Entry{Key: sl.key, Value: sl.value, Exists: !sl.del, Revision: first + Revision(i), Time: now, TTL: sl.ttl}
		if sl.del {
			e.Value, e.TTL = nil, 0
		}
		sl.entry = e
		c.store.cache.put(known{e, asked.asked, seen, asked.at, asked.breaks})
	}
}

// settled answers the members of a group that was decided, and reports whether it was made.
func (c *committer) settled(g *group, err error) bool {
	switch {
	case err == nil:
		index := g.index
		if index == nil {
			index = map[string]*slot{g.slots[0].key: g.slots[0]}
		}
		for _, m := range g.members {
			r := Result{written: make([]write, 0, len(m.tx.writes))}
			for i := range m.tx.writes {
				key := m.tx.writes[i].key
				r.add(key, index[key].entry.Revision)
			}
			m.answer(r, nil)
		}
		return true
	case errors.Is(err, errLost):
		c.lost(g)
	case errors.Is(err, ErrInDoubt) || c.store.failed() != nil:
		g.answer(err)
	default:
		// The stream may be at fault, or one of the members: then each goes alone.
		if _, serr := c.store.sameStream(c.life); c.store.failed() != nil {
			err = serr
		} else if len(g.members) > 1 {
			for _, m := range g.members {
				m.alone++
			}
			c.back(g.members)
			return false
		}
		g.answer(err)
	}
	return false
}

// answer gives all members of the group the same error.
func (g *group) answer(err error) {
	if errors.Is(err, context.Canceled) && !errors.Is(err, ErrInDoubt) {
		err = ErrClosed // The committer's own context: it was not sent.
	}
	for _, m := range g.members {
		m.answer(Result{}, err)
	}
}

// lost looks at the keys of a group that was refused. Its members run again on what is there now; those that touch what has moved go apart.
func (c *committer) lost(g *group) {
	s := c.store
	refused := s.clock.Add(1)
	entries, err := s.readMany(c.life, c.life, append(g.keys(), c.receipt.key)...)
	if err == nil {
		err = s.look(c.life)
	}
	if err != nil {
		g.answer(err)
		return
	}
	now := make(map[string]known, len(entries))
	for _, k := range entries {
		now[k.Key] = k
	}
	moved := g.moved(now)
	s.opts.log.DebugContext(c.life, "commits refused", "members", len(g.members), "keys", moved)
	nothing := len(moved) == 0
	if rev := now[c.receipt.key].Revision; rev != c.receipt.rev {
		c.receipt.rev, nothing = rev, false // It had expired.
	}
	for _, key := range moved {
		c.lostApart(key)
	}

	var again []*member
	for _, m := range g.members {
		m.leaveGroup()
		m.refused = refused
		apart := ""
		for key := range m.touched() {
			if k, ok := now[key]; ok {
				m.learn(k)
			}
			if apart == "" && slices.Contains(moved, key) {
				apart = key
			}
		}
		switch {
		case nothing && m.fn == nil && (m.alone > 0 || len(g.members) == 1):
			m.answer(Result{}, &ConflictError{})
		case apart != "" && m.fn == nil && m.conflict(now) != nil:
			m.answer(Result{}, m.conflict(now))
		case apart != "":
			c.setApart(apart, m)
		default:
			if nothing {
				m.alone++
			}
			again = append(again, m)
		}
	}
	c.back(again)
}

// moved are the keys of the group that are not as it expected.
func (g *group) moved(now map[string]known) []string {
	var moved []string
	for _, sl := range g.slots {
		if now[sl.key].Revision != sl.expect {
			moved = append(moved, sl.key)
		}
	}
	for i := range g.checks {
		if now[g.checks[i].key].Revision != g.checks[i].expect {
			moved = append(moved, g.checks[i].key)
		}
	}
	return moved
}

// conflict is the error of a member with fixed values, nil if what it expects is there.
func (m *member) conflict(now map[string]known) error {
	var moved []string
	for _, list := range [...][]op{m.tx.writes, m.tx.checks} {
		for i := range list {
			k := now[list[i].key]
			if k.Revision != list[i].expect && (list[i].expect != 0 || k.Exists) {
				moved = append(moved, list[i].key)
			}
		}
	}
	if moved == nil {
		return nil
	}
	return &ConflictError{Keys: moved}
}
