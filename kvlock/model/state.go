package model

import "fmt"

// Phase is where an operation stands; those of kvlock that differ for the locks.
type Phase uint8

// The phases.
const (
	Absent Phase = iota
	Queued
	Granted
	Running
	IsStuck
	Void
	Ended
)

var phaseNames = [...]string{"absent", "queued", "granted", "running", "stuck", "void", "ended"}

// holds says whether an operation in the phase holds its claims.
func (p Phase) holds() bool { return p >= Granted && p <= Void }

// Client is what the user of an operation knows.
type Client uint8

// What it knows.
const (
	NotAsked Client = iota
	InDoubt         // it asked, and no answer came
	Accepted        // the operation is accepted
	Refused         // it is refused
	Gone            // nobody waits for the answer any more
)

// Op is the record of an operation, its dispatches, and its client.
type Op struct {
	Phase    Phase
	Epoch    uint8
	Dispatch uint8 // number of the last one
	Messages uint8 // dispatches that are not acknowledged, by number, as bits
	Taker    uint8 // 1 + the slot whose token the record has; 0: of one that is gone
	Client   Client
	Shared   bool // it was downgraded
	Late     bool // the deadline of its wait has passed
	Raised   bool // the fence of its break was raised
	Copy     bool // a copy of its submit is in flight
	Again    bool // its ID is used for the second time
}

// Mode is how a key is held or wanted.
type Mode uint8

// The modes.
const (
	Free Mode = iota
	Shared
	Exclusive
)

func (a Mode) conflicts(b Mode) bool {
	return a != Free && b != Free && (a == Exclusive || b == Exclusive)
}

// Lock is the record of a key.
type Lock struct {
	Holders uint8 // as bits
	Mode    Mode
	N       uint8 // how many wait
	Line    [MaxOps]uint8
}

func (l *Lock) exists() bool { return l.Holders != 0 || l.N != 0 }

func (l *Lock) line() []uint8 { return l.Line[:l.N] }

// leaveLine takes the operation out of the line.
func (l *Lock) leaveLine(op uint8) {
	for i, w := range l.line() {
		if w == op {
			copy(l.Line[i:], l.Line[i+1:])
			l.Line[MaxOps-1] = 0
			l.N--
			return
		}
	}
}

// queue puts the operation at the end of the line.
func (l *Lock) queue(op uint8) {
	l.Line[l.N] = op
	l.N++
}

func (l *Lock) add(op uint8, mode Mode) {
	l.Holders |= bit(op)
	l.Mode = max(l.Mode, mode)
}

// Stage is what a worker does.
type Stage uint8

// The stages.
const (
	Idle      Stage = iota
	TakeDoubt       // it sent its take-over, and no answer came
	Adopted         // it has taken over; its fence is not at the resource yet
	Working         // effects of it may land from now on, until the resource has seen a higher fence
	EndDoubt        // it sent the end, and no answer came
	Done            // the delivery is to be acknowledged
)

var stageNames = [...]string{"idle", "in doubt of its take-over", "taken over", "working", "in doubt of its end", "to acknowledge"}

// Slot is a worker: a process that drives one operation at a time.
type Slot struct {
	Stage Stage
	Op    uint8
	N     uint8 // number of the dispatch that it got
	Epoch uint8 // that it believes to have
	Low   bool  // the resource has seen a higher fence than its own
}

// State is everything of a world at one moment.
type State struct {
	Ops   [MaxOps]Op
	Locks [MaxKeys]Lock
	Old   [MaxKeys]Lock // an earlier state of the record, which somebody may still believe; absent: none
	Wakes uint8         // keys with a wake that is not acknowledged, as bits
	Slots [slots]Slot
	Used  [faults]uint8
}

// Packed is a state in as few words as all worlds need.
type Packed [4]uint64

type packer struct {
	p Packed
	n uint
}

func (p *packer) put(v uint8, bits uint) {
	if v>>bits != 0 { // it would look like another state
		panic(fmt.Sprintf("model: %d does not fit into %d bits of a state", v, bits))
	}
	w, at := p.n/64, p.n%64
	p.p[w] |= uint64(v) << at
	if at+bits > 64 {
		p.p[w+1] |= uint64(v) >> (64 - at)
	}
	p.n += bits
}

func (p *packer) flag(b bool) {
	if b {
		p.put(1, 1)
		return
	}
	p.n++
}

func (p *packer) get(bits uint) uint8 {
	w, at := p.n/64, p.n%64
	v := p.p[w] >> at
	if at+bits > 64 {
		v |= p.p[w+1] << (64 - at)
	}
	p.n += bits
	return uint8(v & (1<<bits - 1))
}

// fields walks over all that is kept of a state, in one order for packing and unpacking.
func (m *Model) fields(s *State, num func(v *uint8, bits uint), flag func(*bool)) {
	for i := range m.Ops {
		o := &s.Ops[i]
		num((*uint8)(&o.Phase), 3)
		num(&o.Epoch, 3)
		num(&o.Dispatch, 2)
		num(&o.Messages, 3)
		num(&o.Taker, 2)
		num((*uint8)(&o.Client), 3)
		for _, f := range [...]*bool{&o.Shared, &o.Late, &o.Raised, &o.Copy, &o.Again} {
			flag(f)
		}
	}
	for k := range m.Keys {
		for _, l := range [...]*Lock{&s.Locks[k], &s.Old[k]} {
			num(&l.Holders, MaxOps)
			num((*uint8)(&l.Mode), 2)
			num(&l.N, 3)
			for i := range l.Line {
				num(&l.Line[i], 2)
			}
		}
	}
	num(&s.Wakes, MaxKeys)
	for i := range s.Slots {
		w := &s.Slots[i]
		num((*uint8)(&w.Stage), 3)
		num(&w.Op, 2)
		num(&w.N, 2)
		num(&w.Epoch, 3)
		flag(&w.Low)
	}
	for f := range s.Used {
		num(&s.Used[f], faultBits[f])
	}
}

// Pack returns the state in its normal form, packed.
func (m *Model) Pack(s *State) Packed {
	m.normalize(s)
	var p packer
	m.fields(s, func(v *uint8, bits uint) { p.put(*v, bits) }, func(b *bool) { p.flag(*b) })
	return p.p
}

// Unpack returns the state.
func (m *Model) Unpack(p Packed) State {
	var s State
	pk := packer{p: p}
	m.fields(&s, func(v *uint8, bits uint) { *v = pk.get(bits) }, func(b *bool) { *b = pk.get(1) == 1 })
	return s
}

// normalize makes states equal that differ in nothing that anybody can see: workers have no order, of what has ended little counts, and
// old states of records are forgotten when nobody will decide on them any more.
func (m *Model) normalize(s *State) {
	for i := range m.Ops {
		if o := &s.Ops[i]; o.Phase == Ended {
			o.Epoch, o.Dispatch, o.Taker, o.Shared = 0, 0, 0, false
		}
	}
	for w := range s.Slots {
		if t := &s.Slots[w]; t.Stage == Done || t.Stage == EndDoubt {
			t.Epoch, t.Low = 0, false
		}
	}
	for k := range m.Keys {
		if s.Old[k] != (Lock{}) && (s.Old[k] == s.Locks[k] || !m.mayRead(s, k)) {
			s.Old[k] = Lock{}
		}
	}
	if a, b := &s.Slots[0], &s.Slots[1]; slotLess(a, b) { // who works comes first
		*a, *b = *b, *a
		for i := range m.Ops {
			if t := &s.Ops[i].Taker; *t != 0 {
				*t = 3 - *t
			}
		}
	}
}

func slotLess(a, b *Slot) bool {
	key := func(s *Slot) uint {
		n := uint(s.Stage)<<8 | uint(s.Op)<<6 | uint(s.N)<<4 | uint(s.Epoch)<<1
		if s.Low {
			n |= 1
		}
		return n
	}
	return key(a) < key(b)
}

// mayRead says whether a commit may still decide on a lock without writing it: for a waiter that claims another key, too.
func (m *Model) mayRead(s *State, k int) bool {
	if m.is(QueueWritesNoLock) {
		return true
	}
	for i, sp := range m.Ops {
		if c := sp.claims(); c&bit(k) == 0 || c == bit(k) || !sp.Queue {
			continue
		}
		o := &s.Ops[i]
		if o.Phase == Queued || o.Phase == Absent && o.Client < Refused || m.Budget[Reuse] > s.Used[Reuse] {
			return true
		}
	}
	return false
}

// mode is how the operation claims the key.
func (m *Model) mode(s *State, op uint8, k int) Mode {
	sp := &m.Ops[op]
	switch {
	case sp.Exclusive&bit(k) != 0 && (!s.Ops[op].Shared || k != first(sp.Exclusive)):
		return Exclusive
	case sp.claims()&bit(k) != 0:
		return Shared
	}
	return Free
}

// first is the lowest key of a set.
func first(set uint8) int {
	for k := range MaxKeys {
		if set&bit(k) != 0 {
			return k
		}
	}
	return -1
}
