package model

// Violated returns the property that the state violates; "" if none.
func (m *Model) Violated(s *State) Property {
	for _, check := range [...]func(*State) Property{m.locks, m.entries, m.lines, m.workers, m.told} {
		if p := check(s); p != "" {
			return p
		}
	}
	return ""
}

// locks: who believes to hold a key is an operation that lives and does not wait; what the lock records say does not count.
func (m *Model) locks(s *State) Property {
	for i := range uint8(len(m.Ops)) {
		if !s.Ops[i].Phase.holds() {
			continue
		}
		for j := range i {
			if !s.Ops[j].Phase.holds() {
				continue
			}
			for k := range m.Keys {
				if m.mode(s, i, k).conflicts(m.mode(s, j, k)) {
					return OneWriter
				}
			}
		}
	}
	return ""
}

func (m *Model) entries(s *State) Property {
	if m.is(CountHolders) {
		return "" // a counter names nobody
	}
	for k := range m.Keys {
		for i := range uint8(len(m.Ops)) {
			if s.Locks[k].Holders&bit(i) != 0 && (!s.Ops[i].Phase.holds() || m.mode(s, i, k) == Free) {
				return NoOrphan
			}
		}
		for _, w := range s.Locks[k].line() {
			if s.Ops[w].Phase != Queued {
				return NoOrphan
			}
		}
	}
	return ""
}

// lines: whoever is free on all keys is granted by the commit that made it so, or is owed a wake.
func (m *Model) lines(s *State) Property {
	for i := range uint8(len(m.Ops)) {
		if s.Ops[i].Phase == Queued && s.Wakes&m.Ops[i].claims() == 0 && m.free(s, i) {
			return NoLost
		}
	}
	return ""
}

// free says whether nobody who holds or stands before it keeps a waiter from its grant.
func (m *Model) free(s *State, i uint8) bool {
	for k := range m.Keys {
		mode := m.mode(s, i, k)
		if mode.conflicts(s.Locks[k].Mode) {
			return false
		}
		for _, w := range s.Locks[k].line() {
			if w == i {
				break
			}
			if mode.conflicts(m.mode(s, w, k)) {
				return false
			}
		}
	}
	return true
}

// workers: what the effects of workers may meet.
func (m *Model) workers(s *State) Property {
	for w := range s.Slots {
		t := &s.Slots[w]
		o := &s.Ops[t.Op]
		if (t.Stage == Adopted || t.Stage == Working) && t.Low && o.Phase == Running && o.Epoch == t.Epoch {
			return FenceHolder
		}
		if t.Stage != Working || t.Low {
			continue
		}
		if p := m.effect(s, w); p != "" {
			return p
		}
	}
	return ""
}

// effect: an effect of this worker may land now.
func (m *Model) effect(s *State, w int) Property {
	t := &s.Slots[w]
	for j := range s.Slots {
		u := &s.Slots[j]
		if j == w || u.Op != t.Op || u.Stage != Working || u.Low {
			continue
		}
		if u.Epoch == t.Epoch {
			return OneWorker
		}
		return NoLate
	}
	for k := range m.Keys {
		mode := m.mode(s, t.Op, k)
		if mode != Exclusive {
			continue
		}
		for i := range uint8(len(m.Ops)) {
			if i != t.Op && s.Ops[i].Phase.holds() && m.mode(s, i, k) != Free {
				return NoLate
			}
		}
	}
	return ""
}

// told: what clients and workers are told.
func (m *Model) told(s *State) Property {
	for i := range m.Ops {
		o := &s.Ops[i]
		if drivable(o, &m.Ops[i]) && o.Messages&bit(o.Dispatch-1) == 0 {
			return NoForgotten
		}
		if o.Client == Refused && o.Phase != Absent {
			return TrueAnswer
		}
	}
	return ""
}

// Over says whether all has ended, and nothing is left of it.
func (m *Model) Over(s *State) bool {
	for i := range m.Ops {
		o := &s.Ops[i]
		if o.Phase != Ended && o.Phase != Absent || o.Client == NotAsked || o.Client == InDoubt || o.Messages != 0 || o.Copy {
			return false
		}
	}
	for k := range m.Keys {
		if s.Locks[k].exists() {
			return false
		}
	}
	for w := range s.Slots {
		if s.Slots[w].Stage != Idle {
			return false
		}
	}
	return s.Wakes == 0
}
