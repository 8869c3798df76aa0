package model

import "slices"

// deliver gives a dispatch of an operation to a worker that is idle, which judges it as package intake does.
func (st *stepper) deliver(i, w uint8) {
	o := &st.s.Ops[i]
	if st.s.Slots[w].Stage != Idle || o.Messages == 0 {
		return
	}
	if w > 0 && st.s.Slots[w-1].Stage == Idle {
		return // idle workers are alike
	}
	for n := uint8(1); n <= 3; n++ {
		if o.Messages&bit(n-1) == 0 {
			continue
		}
		base := *st.s
		if st.held(i, n) && !st.take(&base, Twice) {
			continue
		}
		switch over := o.Phase == Ended || o.Phase == Absent; { // what has no record for long is terminated
		case !over && (o.Phase == Queued || n > o.Dispatch):
			continue // delayed
		case over, o.Phase == Void, o.Phase == IsStuck, n < o.Dispatch:
			base.Ops[i].Messages &^= bit(n - 1)
			st.step(Drop, i, w, &base, "")
		default:
			st.takeOver(i, w, n, &base)
		}
	}
}

// has says whether a worker has the operation.
func (st *stepper) has(i uint8) bool {
	return slices.ContainsFunc(st.s.Slots[:], func(t Slot) bool { return t.Stage != Idle && t.Op == i })
}

// held says whether a worker has the dispatch: it keeps the server from giving it to others, mostly.
func (st *stepper) held(i, n uint8) bool {
	return slices.ContainsFunc(st.s.Slots[:], func(t Slot) bool { return t.Stage != Idle && t.Op == i && t.N == n })
}

// takeOver makes the worker the one of the operation, in one write.
func (st *stepper) takeOver(i, w, n uint8, base *State) {
	s := *base
	o, t := &s.Ops[i], &s.Slots[w]
	*t = Slot{Stage: Adopted, Op: i, N: n}
	if !st.m.is(NoEpoch) {
		o.Epoch++
	}
	o.Phase, o.Taker, t.Epoch = Running, w+1, o.Epoch
	if st.m.is(AckAtTakeOver) {
		o.Messages &^= bit(n - 1)
	}
	st.step(TakeOver, i, w, &s, "")
	lost := s
	if st.take(&lost, Lost) {
		lost.Slots[w].Stage, lost.Slots[w].Epoch = TakeDoubt, 0
		st.step(TakeOverLost, i, w, &lost, "")
	}
	unmade := *base
	if st.take(&unmade, Lost) {
		unmade.Slots[w] = Slot{Stage: TakeDoubt, Op: i, N: n}
		st.step(TakeOverUnmade, i, w, &unmade, "")
	}
}

// worker makes the steps of a worker that has an operation.
func (st *stepper) worker(w uint8) {
	t := &st.s.Slots[w]
	if t.Stage == Idle {
		return
	}
	i := t.Op
	o := &st.s.Ops[i]
	if s := *st.s; st.take(&s, Crash) {
		st.idle(&s, w)
		st.step(WorkerDies, i, w, &s, "")
	}
	mine := o.Epoch == t.Epoch && o.Phase == Running || st.m.is(EndIgnoresEpoch) && o.Phase == Running
	s := *st.s
	switch t.Stage {
	case TakeDoubt:
		st.takeOverAgain(&s, w)
	case Adopted:
		if !mine || t.Low {
			stop := s
			st.stop(&stop, w)
		}
		if t.Low { // the resource refuses it
			return
		}
		s.Slots[w].Stage = Working
		if !st.m.is(NoFenceAtTakeOver) {
			st.m.raise(&s, w)
		}
		st.step(RaiseFence, i, w, &s, "")
	case Working:
		if !mine {
			st.stop(&s, w)
			return
		}
		st.progress(w)
	case EndDoubt:
		st.endAgain(&s, w)
	case Done:
		s.Ops[i].Messages &^= bit(t.N - 1)
		st.idle(&s, w)
		st.step(Acknowledge, i, w, &s, "")
	case Idle:
	}
}

// idle ends what a worker does; nobody knows its token any more.
func (st *stepper) idle(s *State, w uint8) {
	if o := &s.Ops[s.Slots[w].Op]; o.Taker == w+1 {
		o.Taker = 0
	}
	s.Slots[w] = Slot{}
}

// stop ends a worker that was overtaken. It acknowledges nothing.
func (st *stepper) stop(s *State, w uint8) {
	i := s.Slots[w].Op
	if st.m.is(OvertakenAcks) {
		s.Ops[i].Messages &^= bit(s.Slots[w].N - 1)
	}
	st.idle(s, w)
	st.step(Stop, i, w, s, "")
}

// takeOverAgain decides a take-over whose answer was lost: by its token.
func (st *stepper) takeOverAgain(s *State, w uint8) {
	t := &s.Slots[w]
	o := &s.Ops[t.Op]
	mine := o.Taker == w+1
	if st.m.is(TakeOverByName) { // all workers of a node have its name
		mine = o.Phase == Running
	}
	if !mine || o.Phase != Running {
		i := t.Op
		st.idle(s, w) // its delivery comes again
		st.step(TakeOverAgain, i, w, s, "")
		return
	}
	t.Stage, t.Epoch = Adopted, o.Epoch
	st.step(TakeOverAgain, t.Op, w, s, "")
}

// raise shows the worker's fence to the resources that its operation writes: whoever had them before is shut out.
func (m *Model) raise(s *State, w uint8) {
	t := s.Slots[w]
	for j := range s.Slots {
		u := &s.Slots[j]
		switch {
		case j == int(w) || u.Stage == Idle:
		case u.Op == t.Op:
			u.Low = u.Low || u.Epoch < t.Epoch && u.Stage != TakeDoubt
		case s.Ops[t.Op].Phase.holds():
			m.lower(s, j, t.Op)
		}
	}
}

// progress makes the writes of a worker that has the operation.
func (st *stepper) progress(w uint8) {
	t := &st.s.Slots[w]
	i := t.Op
	o, sp := &st.s.Ops[i], &st.m.Ops[i]
	end := func(c *commit) bool { c.release(i, !st.m.is(EndGrantsNobody)); return true }
	if st.m.is(EndInTwo) { // the record first, the entries later
		end = func(c *commit) bool { c.end(i); return true }
	}
	st.commits(Step{Kind: End, Op: i, Slot: w}, st.s, sp.claims(), end, func(s *State) { s.Slots[w].Stage = Done })
	if s := *st.s; st.take(&s, Lost) {
		st.commits(Step{Kind: EndLost, Op: i, Slot: w}, &s, sp.claims(), end, func(s *State) { s.Slots[w].Stage = EndDoubt })
	}
	if s := *st.s; o.Dispatch < 3 && st.take(&s, Stuck) {
		s.Ops[i].Phase = IsStuck
		s.Slots[w].Stage = Done
		st.step(GetStuck, i, w, &s, "")
	}
	if sp.Downgrade && !o.Shared && !st.fair {
		st.commits(Step{Kind: Downgrade, Op: i, Slot: w}, st.s, bit(first(sp.Exclusive)), func(c *commit) bool { return c.downgrade(i) }, none)
	}
}

// downgrade is kvlock's StageDowngrade.
func (c *commit) downgrade(op uint8) bool {
	k := first(c.m.Ops[op].Exclusive)
	c.s.Ops[op].Shared = true
	c.view[k].Mode = Shared
	c.wrote |= bit(k)
	if !c.m.is(DowngradeGrantsNobody) {
		c.run(bit(k))
		c.unsure(false)
	}
	return true
}

// endAgain sends the end again whose answer was lost, and finds by the record's content that it was made.
func (st *stepper) endAgain(s *State, w uint8) {
	i := s.Slots[w].Op
	s.Slots[w].Stage = Done
	if st.m.is(CountHolders) { // a counter can only be decremented once more
		st.commits(Step{Kind: EndAgain, Op: i, Slot: w}, s, every, func(c *commit) bool { c.release(i, true); return true }, none)
		return
	}
	st.step(EndAgain, i, w, s, "")
}
