package model

// Kind is what is done in a step.
type Kind uint8

// The kinds. The operation of a step is Step.Op, its worker Step.Slot, its key Step.Key.
const (
	Ask            Kind = iota // its client submits it, and is answered
	AskLost                    // it is submitted, and the answer is lost
	AskAgain                   // the client in doubt submits it again, and finds it
	ClientDies                 //
	CopyApplies                // a copy of its submit that was in flight applies
	CopyDies                   // no copy is in flight any more
	Leave                      // it gives up waiting
	DeadlineOver               // the deadline of its wait passes
	LeaveLate                  // whoever looks at deadlines ends it
	Release                    // its client, which is its worker, ends it
	TakeOver                   // a worker gets its dispatch and takes it over
	TakeOverLost               // the answer to that is lost; it was made
	TakeOverUnmade             // the answer to that is lost; it was not made
	TakeOverAgain              // the worker in doubt finds out
	Drop                       // a worker gets a dispatch that is out of date and acknowledges it
	RaiseFence                 // its worker shows its fence to the resource, and looks at it
	End                        // its worker ends it
	EndLost                    // the answer to that is lost; it was made
	EndAgain                   // the worker in doubt sends the end again, and finds it
	GetStuck                   // a step fails for good
	Downgrade                  // it holds its first exclusive key shared from now on
	Acknowledge                // its worker acknowledges the delivery
	Stop                       // its worker was overtaken and stops
	WorkerDies                 //
	MakeVoid                   // an operator breaks it: it is void
	RaiseVoid                  // the fence of the break is raised
	EndVoid                    // the break ends
	Resume                     // an operator resumes it
	DispatchAgain              // workers are told of it again
	ServeWake                  // a wake of the key is served
	ServeTwice                 // the same, and not acknowledged
	Expire                     // its record, ended long ago, goes
	AskReused                  // its ID is used again
	kinds
)

// fair says whether the step comes by itself, sooner or later.
var fair = [kinds]bool{
	Ask: true, AskAgain: true, CopyDies: true, LeaveLate: true, Release: true, TakeOver: true, TakeOverAgain: true, Drop: true,
	RaiseFence: true, End: true, EndAgain: true, Acknowledge: true, Stop: true, RaiseVoid: true, EndVoid: true, Resume: true, ServeWake: true,
}

// Step is one.
type Step struct {
	Kind  Kind
	Op    uint8
	Key   uint8
	Slot  uint8
	Stale uint8 // keys that the commit merely read, as they stood earlier
	Ghost uint8 // operations whose record it read as it stood in their first life
	Fair  bool
}

// stepper makes the steps that are possible in a state.
type stepper struct {
	m    *Model
	s    *State
	emit func(Step, *State, Property)
	fair bool // only fair ones
}

// Steps calls emit for each step that is possible in the state, with the state that it leads to, and with what the step itself violates.
// It may overwrite the state that it was given to emit.
func (m *Model) Steps(s *State, onlyFair bool, emit func(Step, *State, Property)) {
	st := stepper{m: m, s: s, emit: emit, fair: onlyFair}
	for i := range uint8(len(m.Ops)) {
		st.client(i)
		st.operator(i)
		st.time(i)
		for w := range uint8(slots) {
			st.deliver(i, w)
		}
	}
	for w := range uint8(slots) {
		st.worker(w)
	}
	for k := range uint8(m.Keys) {
		if s.Wakes&bit(k) != 0 {
			st.wake(k)
		}
	}
}

// take says whether a fault may happen, and uses it up in the state.
func (st *stepper) take(s *State, f Fault) bool {
	if st.fair || s.Used[f] >= st.m.Budget[f] {
		return false
	}
	s.Used[f]++
	return true
}

func (st *stepper) step(kind Kind, op, slot uint8, s *State, broke Property) {
	st.emit(Step{Kind: kind, Op: op, Slot: slot, Fair: fair[kind]}, s, broke)
}

// every is all keys: those that a commit writes or checks in any case.
const every = 1<<MaxKeys - 1

// commits calls stage with a commit for each combination of old reads, and emits those that can be made. The keys in sure are written or
// checked in any case, so they are read as they stand. stage returns false if the commit is refused.
func (st *stepper) commits(step Step, base *State, sure uint8, stage func(*commit) bool, after func(*State)) {
	var old, ghosts uint8
	if st.m.Stale && !st.fair {
		old, ghosts = st.old(sure)
	}
	for stale := uint8(0); ; stale = (stale - old) & old { // all subsets
		for ghost := uint8(0); ; ghost = (ghost - ghosts) & ghosts {
			c := st.m.commit(base, stale, ghost)
			if stage(&c) {
				step.Stale, step.Ghost = stale, ghost
				st.make(step, &c, after)
			}
			if ghost == ghosts {
				break
			}
		}
		if stale == old {
			return
		}
	}
}

// old returns the keys, without those in sure, and the operations that somebody may believe to stand as they stood earlier.
func (st *stepper) old(sure uint8) (keys, ops uint8) {
	for k := range st.m.Keys {
		if sure&bit(k) == 0 && st.s.Old[k].exists() {
			keys |= bit(k)
		}
	}
	for i := range st.m.Ops {
		if o := &st.s.Ops[i]; sure != every && o.Again && o.Phase == Queued {
			ops |= bit(i)
		}
	}
	return keys, ops
}

// make emits the states that a commit leads to.
func (st *stepper) make(step Step, c *commit, after func(*State)) {
	step.Fair = fair[step.Kind]
	keeps := uint8(0)
	if st.m.Deep && !st.fair {
		for k := range st.m.Keys {
			if c.wrote&bit(k) != 0 && st.s.Old[k].exists() {
				keeps |= bit(k)
			}
		}
	}
	for keep := uint8(0); ; keep = (keep - keeps) & keeps { // all subsets
		s, ok := c.made(keep)
		if !ok {
			return
		}
		after(&s)
		st.emit(step, &s, c.broke)
		if keep == keeps {
			return
		}
	}
}

// client makes the steps of an operation's client.
func (st *stepper) client(i uint8) {
	o, sp := &st.s.Ops[i], &st.m.Ops[i]
	if o.Client == NotAsked && o.Phase == Absent {
		st.ask(i)
	}
	if o.Client == InDoubt {
		s := *st.s
		s.Ops[i].Client = Accepted
		if st.m.is(DoubtIsRefused) {
			s.Ops[i].Client = Refused
		}
		st.step(AskAgain, i, 0, &s, "")
	}
	if o.Client == InDoubt || sp.Own && o.Client == Accepted && (o.Phase == Queued || o.Phase.holds()) {
		if s := *st.s; st.take(&s, Crash) {
			s.Ops[i].Client = Gone
			st.step(ClientDies, i, 0, &s, "")
		}
	}
	if o.Copy {
		st.copies(i)
	}
	if sp.Leave && o.Phase == Queued && !st.fair {
		st.leave(Leave, i)
	}
	if o.Phase == Queued && o.Late {
		st.leave(LeaveLate, i)
	}
	if sp.Own && o.Phase == Running && o.Client == Accepted && o.Epoch == 0 {
		st.commits(Step{Kind: Release, Op: i}, st.s, sp.claims(), func(c *commit) bool { c.release(i, !st.m.is(EndGrantsNobody)); return true }, none)
	}
}

func none(*State) {}

// leave is kvlock's StageLeave.
func (st *stepper) leave(kind Kind, i uint8) {
	st.commits(Step{Kind: kind, Op: i}, st.s, st.m.Ops[i].claims(), func(c *commit) bool {
		c.leave(i, true)
		if !st.m.is(LeaveGrantsNobody) {
			c.run(0)
			c.unsure(false)
		}
		return true
	}, none)
}

// ask submits an operation: kvlock's StageQueue, or StageAcquire.
func (st *stepper) ask(i uint8) {
	if c := st.m.commit(st.s, 0, 0); !st.submit(&c, i) {
		s := *st.s
		s.Ops[i].Client = Refused // decided on what the leader said after the call began
		st.step(Ask, i, 0, &s, "")
		return
	}
	if st.m.is(QueueWritesNoLock) {
		st.queueBlindly(i)
	}
	submit := func(c *commit) bool { return st.submit(c, i) }
	if st.m.Expiry {
		st.commits(Step{Kind: Ask, Op: i}, st.s, every, submit, func(s *State) { s.Ops[i].Client, s.Ops[i].Copy = Accepted, !s.Ops[i].Again })
	} else {
		st.commits(Step{Kind: Ask, Op: i}, st.s, every, submit, func(s *State) { s.Ops[i].Client = Accepted })
	}
	if s := *st.s; st.take(&s, Lost) {
		st.commits(Step{Kind: AskLost, Op: i}, &s, every, submit, func(s *State) { s.Ops[i].Client = InDoubt })
	}
}

// submit stages a new operation, and says whether it is accepted. All its locks are written, or the refusal is decided on fresh reads.
func (st *stepper) submit(c *commit, i uint8) bool {
	sp := &st.m.Ops[i]
	claims, waits := sp.claims(), false
	for k := range st.m.Keys {
		if claims&bit(k) == 0 {
			continue
		}
		c.wrote |= bit(k)
		waits = waits || c.conflict(k, i)
	}
	switch {
	case waits && !sp.Queue:
		return false
	case waits:
		c.enqueue(i)
	default:
		c.admit(i)
	}
	return true
}

// conflict says whether a holder or a waiter refuses a new claim: every waiter is older.
func (c *commit) conflict(k int, op uint8) bool {
	lk := &c.view[k]
	mode := c.m.mode(&c.s, op, k)
	if mode.conflicts(lk.Mode) {
		return true
	}
	for _, w := range lk.line() {
		if mode.conflicts(c.m.mode(&c.s, w, k)) && !c.m.is(SubmitPassesOlder) {
			return true
		}
	}
	return false
}

// admit lets a new operation in.
func (c *commit) admit(op uint8) {
	claims := c.m.Ops[op].claims()
	for k := range c.m.Keys {
		if claims&bit(k) != 0 {
			c.fair(k, op)
			c.view[k].add(op, c.m.mode(&c.s, op, k))
		}
	}
	c.letIn(op)
}

// enqueue puts a new operation at the end of all its lines.
func (c *commit) enqueue(op uint8) {
	claims := c.m.Ops[op].claims()
	for k := range c.m.Keys {
		if claims&bit(k) == 0 {
			continue
		}
		c.view[k].queue(op)
		if lk := &c.view[k]; c.m.is(LinesInOtherOrder) && k > 0 { // the newest first
			copy(lk.Line[1:], lk.Line[:lk.N-1])
			lk.Line[0] = op
		}
		if c.m.is(QueueInOneLine) {
			break
		}
	}
	c.s.Ops[op].Phase = Queued
	c.sure |= bit(op)
}

// queueBlindly is the broken variant: the operation decides to wait on what it read, and does not depend on it.
func (st *stepper) queueBlindly(i uint8) {
	st.commits(Step{Kind: Ask, Op: i}, st.s, 0, func(c *commit) bool {
		claims, waits := st.m.Ops[i].claims(), false
		for k := range st.m.Keys {
			waits = waits || claims&bit(k) != 0 && c.conflict(k, i)
		}
		if !waits || c.stale&claims == 0 {
			return false
		}
		c.stale, c.view, c.wrote = 0, c.s.Locks, claims
		c.enqueue(i)
		return true
	}, func(s *State) { s.Ops[i].Client = Accepted })
}

// copies makes the steps of a copy of a submit that is in flight: it applies if nothing that it expects has changed.
func (st *stepper) copies(i uint8) {
	s := *st.s
	s.Ops[i].Copy = false
	st.step(CopyDies, i, 0, &s, "")
	o := &st.s.Ops[i]
	if o.Phase != Absent || o.Client == NotAsked || st.fair {
		return
	}
	claims := st.m.Ops[i].claims()
	for k := range st.m.Keys {
		if claims&bit(k) != 0 && st.s.Locks[k].exists() {
			return // it expects what was absent
		}
	}
	s.Ops[i] = Op{Client: o.Client, Again: true}
	c := st.m.commit(&s, 0, 0)
	c.wrote = claims
	c.admit(i)
	if t, ok := c.made(0); ok {
		st.step(CopyApplies, i, 0, &t, Once)
	}
}

// time makes the steps that time makes.
func (st *stepper) time(i uint8) {
	o, sp := &st.s.Ops[i], &st.m.Ops[i]
	if st.fair {
		return
	}
	if sp.Deadline && o.Phase == Queued && !o.Late {
		s := *st.s
		s.Ops[i].Late = true
		st.step(DeadlineOver, i, 0, &s, "")
	}
	// A record stays for longer than any copy of a message is in flight, and than anybody works.
	if st.m.Expiry && o.Phase == Ended && o.Client > InDoubt && o.Messages == 0 && !st.has(i) && (!o.Copy || st.m.is(EarlyExpiry)) {
		s := *st.s
		s.Ops[i] = Op{Client: o.Client, Copy: o.Copy, Again: o.Again}
		st.step(Expire, i, 0, &s, "")
	}
	if s := *st.s; o.Phase == Absent && o.Client == Accepted && !o.Copy && !o.Again && st.take(&s, Reuse) {
		s.Ops[i] = Op{Again: true}
		st.step(AskReused, i, 0, &s, "")
	}
}

// operator makes the steps of an operator.
func (st *stepper) operator(i uint8) {
	o, sp := &st.s.Ops[i], &st.m.Ops[i]
	if live := o.Phase >= Granted && o.Phase <= IsStuck; live {
		s := *st.s
		if orphan := sp.Own && o.Client == Gone; orphan || st.take(&s, Broken) { // what nobody drives is broken, sooner or later
			st.makeVoid(i, &s, orphan)
		}
	}
	if o.Phase == Void || o.Raised {
		if s := *st.s; st.m.raiseVoid(&s, i) && s != *st.s {
			st.step(RaiseVoid, i, 0, &s, "")
		}
	}
	if o.Phase == Void && (o.Raised || st.m.is(BreakWithoutFence)) {
		st.commits(Step{Kind: EndVoid, Op: i}, st.s, sp.claims(), func(c *commit) bool { c.release(i, !st.m.is(BreakGrantsNobody)); return true }, none)
	}
	if o.Phase == IsStuck {
		s := *st.s
		s.Ops[i].Phase = Running
		again(&s, i)
		st.step(Resume, i, 0, &s, "")
	}
	if drivable(o, sp) && o.Dispatch < 3 {
		if s := *st.s; st.take(&s, Redispatch) {
			again(&s, i)
			st.step(DispatchAgain, i, 0, &s, "")
		}
	}
}

func (st *stepper) makeVoid(i uint8, s *State, orphan bool) {
	n := &s.Ops[i]
	n.Phase, n.Taker = Void, 0
	n.Epoch++
	if st.m.is(BreakReleasesFirst) { // the entries go at once, and the fence is raised after that
		c := st.m.commit(s, 0, 0)
		c.release(i, true)
		if t, ok := c.made(0); ok {
			st.emit(Step{Kind: MakeVoid, Op: i, Fair: orphan}, &t, c.broke)
		}
		return
	}
	st.emit(Step{Kind: MakeVoid, Op: i, Fair: orphan}, s, "")
}

// again tells workers of an operation once more.
func again(s *State, i uint8) {
	s.Ops[i].Dispatch++
	s.Ops[i].Messages |= bit(s.Ops[i].Dispatch - 1)
}

func drivable(o *Op, sp *Spec) bool { return !sp.Own && (o.Phase == Granted || o.Phase == Running) }

// raiseVoid raises the fence of a broken operation to the revision of the write that made it void.
func (m *Model) raiseVoid(s *State, i uint8) bool {
	s.Ops[i].Raised = true
	for w := range s.Slots {
		t := &s.Slots[w]
		switch {
		case t.Stage == Idle:
		case t.Op == i:
			t.Low = true
		case s.Ops[i].Phase == Void || m.is(BreakOwnNumber):
			m.lower(s, w, i)
		}
	}
	return true
}

// lower notes that a resource of the operation has seen a higher fence than the slot's: whose operation had it before, if it did.
func (m *Model) lower(s *State, slot int, op uint8) {
	t := &s.Slots[slot]
	if m.Ops[t.Op].Exclusive&m.Ops[op].Exclusive != 0 {
		t.Low = true
	}
}

// wake serves a wake: kvlock's Grant, which checks what it merely read.
func (st *stepper) wake(k uint8) {
	serve := func(kind Kind, wakes uint8) {
		s := *st.s
		s.Wakes = wakes
		sure := bit(k)
		if st.m.is(WakeBelievesReads) {
			sure = 0
		}
		st.commits(Step{Kind: kind, Key: k}, &s, sure, func(c *commit) bool {
			c.run(bit(k))
			c.unsure(true)
			return true
		}, none)
	}
	serve(ServeWake, st.s.Wakes&^bit(k))
	if !st.fair {
		serve(ServeTwice, st.s.Wakes)
		if s := *st.s; st.m.is(WakeAckedFirst) && st.take(&s, Crash) {
			s.Wakes &^= bit(k)
			st.emit(Step{Kind: ServeWake, Key: k}, &s, "")
		}
	}
}
