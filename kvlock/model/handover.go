package model

// commit is one commit that is being staged: what it read, and what it leaves. Its functions are those of kvlock's handover.
type commit struct {
	m      *Model
	s      State         // as the commit leaves it; locks are in view until it is made
	view   [MaxKeys]Lock // as it read them, with its own changes
	stale  uint8         // keys that it read as they stood earlier
	ghosts uint8         // operations whose record it read as it stood in their first life
	wrote  uint8         // keys
	check  uint8         // keys
	sure   uint8         // operations whose record it writes or checks
	look   uint8         // keys whose lines are to be gone through

	blocked [MaxOps]uint8 // by waiter that was looked at: the keys that keep it
	looked  uint8
	owed    uint8
	handed  int
	broke   Property // what the commit itself violates
}

func (m *Model) commit(s *State, stale, ghosts uint8) commit {
	c := commit{m: m, s: *s, view: s.Locks, stale: stale, ghosts: ghosts}
	for k := range m.Keys {
		if stale&bit(k) != 0 {
			c.view[k] = s.Old[k]
		}
	}
	return c
}

func (c *commit) fails(p Property) {
	if c.broke == "" {
		c.broke = p
	}
}

// run goes through the lines of the keys, and of those that an expired waiter leaves.
func (c *commit) run(keys uint8) {
	c.look |= keys
	for c.look != 0 {
		k := first(c.look)
		c.look &^= bit(k)
		for c.line(k) {
		}
	}
}

// line goes through the line of a key. It says whether the line must be gone through again.
func (c *commit) line(k int) (again bool) {
	lk := &c.view[k]
	waiting := lk.Line
	ahead := Free
	for _, w := range waiting[:lk.N] {
		if lk.Mode == Exclusive || ahead == Exclusive && !c.m.is(GrantPassesOlder) {
			return false
		}
		mode := c.m.mode(&c.s, w, k)
		expired := c.s.Ops[w].Late
		free := !mode.conflicts(lk.Mode) && (!mode.conflicts(ahead) || c.m.is(GrantPassesOlder))
		if (expired || free) && c.full() {
			if !c.m.is(LimitOwesNothing) {
				c.owed |= bit(k)
			}
			return false
		}
		if expired && c.expire(w) {
			return true
		}
		if !free || !c.grant(w) {
			ahead = max(ahead, mode)
		}
	}
	return false
}

// waits says whether the operation's record, as it was read, is that of one that waits.
func (c *commit) waits(op uint8) bool {
	if c.ghosts&bit(op) != 0 {
		if !c.m.is(WaiterIsBelieved) {
			c.sure |= bit(op)
		}
		return false
	}
	return c.s.Ops[op].Phase == Queued
}

// grant lets a waiter in that is free on all its keys, and says whether it did.
func (c *commit) grant(op uint8) bool {
	if !c.waits(op) {
		return false
	}
	var blocked uint8
	claims := c.m.Ops[op].claims()
	for k := range c.m.Keys {
		if claims&bit(k) != 0 && c.keeps(k, op) {
			blocked |= bit(k)
		}
	}
	c.looked |= bit(op)
	c.blocked[op] = blocked
	if blocked != 0 {
		return false
	}
	c.looked &^= bit(op)
	for k := range c.m.Keys {
		if claims&bit(k) == 0 {
			continue
		}
		c.fair(k, op)
		c.view[k].leaveLine(op)
		c.view[k].add(op, c.m.mode(&c.s, op, k))
		c.wrote |= bit(k)
	}
	c.letIn(op)
	c.handed++
	return true
}

// fair holds that the operation passes nobody in the line of the key.
func (c *commit) fair(k int, op uint8) {
	mode := c.m.mode(&c.s, op, k)
	for _, w := range c.view[k].line() {
		if w == op {
			return
		}
		if c.s.Ops[w].Phase == Queued && mode.conflicts(c.m.mode(&c.s, w, k)) {
			c.fails(FairLine)
		}
	}
}

// letIn makes the record of an operation that of one that holds its claims, and tells its workers.
func (c *commit) letIn(op uint8) {
	o := &c.s.Ops[op]
	c.sure |= bit(op)
	o.Dispatch++
	o.Late = false
	if c.m.Ops[op].Own {
		o.Phase = Running
		return
	}
	o.Phase = Granted
	if !c.m.is(GrantWithoutDispatch) {
		o.Messages |= bit(o.Dispatch - 1)
	}
}

// keeps says whether the lock keeps an operation that waits for it from its grant.
func (c *commit) keeps(k int, op uint8) bool {
	lk := &c.view[k]
	mode := c.m.mode(&c.s, op, k)
	if mode.conflicts(lk.Mode) {
		return true
	}
	for _, w := range lk.line() {
		if w == op {
			return false
		}
		if mode.conflicts(c.m.mode(&c.s, w, k)) && !c.m.is(GrantPassesOlder) {
			return true
		}
	}
	return !c.m.is(QueueInOneLine) // not in the line: what was read is old
}

// expire ends a waiter whose deadline has passed, and says whether it did.
func (c *commit) expire(op uint8) bool {
	if !c.waits(op) {
		return false
	}
	c.leave(op, !c.m.is(ExpiredNotRelooked))
	c.looked &^= bit(op)
	c.handed++
	return true
}

// leave takes a waiter out of all its lines, which are gone through again, and ends it.
func (c *commit) leave(op uint8, look bool) {
	claims := c.m.Ops[op].claims()
	for k := range c.m.Keys {
		if claims&bit(k) == 0 {
			continue
		}
		c.view[k].leaveLine(op)
		c.wrote |= bit(k)
		if look {
			c.look |= bit(k)
		}
		if c.m.is(LeaveOneLine) {
			break
		}
	}
	c.end(op)
}

func (c *commit) end(op uint8) {
	o := &c.s.Ops[op]
	o.Phase, o.Late = Ended, false
	c.sure |= bit(op)
}

// full says that this commit hands over no more. The first one always fits.
func (c *commit) full() bool { return c.handed > 0 && c.handed >= c.m.Limit }

// unsure settles what keeps a waiter although the commit only read it: it is checked, or its key is owed a wake.
func (c *commit) unsure(check bool) {
	if c.m.is(ReadIsBelieved) && !check || c.m.is(WakeBelievesReads) && check {
		return
	}
	for op := range uint8(len(c.m.Ops)) {
		keys := c.blocked[op]
		if c.looked&bit(op) == 0 || keys == 0 || keys&c.wrote != 0 {
			continue
		}
		if check {
			c.check |= keys
		} else {
			c.owed |= bit(first(keys))
		}
	}
}

// made says whether the commit can be made, and makes it. An entry that it writes or checks must be the one that it read. keep are
// the keys whose earlier state stays the one that somebody may still believe.
func (c *commit) made(keep uint8) (State, bool) {
	if c.stale&(c.wrote|c.check) != 0 || c.ghosts&c.sure != 0 {
		return State{}, false
	}
	s := c.s
	for k := range c.m.Keys {
		if c.wrote&bit(k) == 0 {
			continue
		}
		if c.m.Stale && keep&bit(k) == 0 && s.Locks[k].exists() {
			s.Old[k] = s.Locks[k]
		}
		s.Locks[k] = c.view[k]
		if !s.Locks[k].exists() {
			s.Locks[k].Mode = Free
		}
	}
	s.Wakes |= c.owed
	return s, true
}

// release takes the operation's own entry out of its locks and ends it, and goes through their lines. It is kvlock's stageLast.
func (c *commit) release(op uint8, grants bool) {
	claims := c.m.Ops[op].claims()
	var look uint8
	for k := range c.m.Keys {
		lk := &c.view[k]
		entry := bit(op)
		if c.m.is(CountHolders) {
			entry = lk.Holders & -lk.Holders // of whom, a counter does not know
		}
		if claims&bit(k) == 0 {
			continue
		}
		if lk.Holders&entry == 0 {
			c.check |= bit(k)
			continue
		}
		lk.Holders &^= entry
		if lk.Holders == 0 {
			lk.Mode = Free
		}
		c.wrote |= bit(k)
		look |= bit(k)
	}
	c.end(op)
	if grants {
		c.run(look)
		c.unsure(false)
	}
}
