// Package model checks the protocol of package kvlock by looking at every state that a small world can reach.
//
// The nouns:
//
//   - world: a few operations with their claims, keys, workers, and how many faults of each kind may happen. See [World].
//   - state: all records, messages, workers and clients of a world at one moment. See [State].
//   - step: what somebody does to a state: one commit, one message, one crash. See [Step]. A step is fair if it comes sooner or later
//     without anybody wishing for it: a delivery, an end, a wake, an operator who finishes what was begun. Faults and wishes are not.
//   - property: what holds in every state, or over every step. See [Property].
//   - variant: the protocol with one rule broken. See [Variant]. The checker must find each of them.
//
// Invariants:
//
//   - A commit is one step. What it writes or checks it saw as it stands; what it merely read it may have seen as it stood at any
//     earlier moment, unless it was absent then: package kvtx checks that.
//   - The rules are those of kvlock, function by function; a test replays random walks of the model against it and compares the records.
//   - [Explore] looks at all states: its answer is exact, not a sample. Progress is that from every state that can be reached, fair
//     steps alone lead to a state in which everything has ended.
//
// What it does not do: it knows nothing of payloads, times, and the server; README.md says what it abstracts from.
package model

// Largest sizes of a world.
const (
	MaxOps  = 4
	MaxKeys = 3
	slots   = 2
)

// Spec is what one operation of a world wants.
type Spec struct {
	Exclusive, Shared uint8 // keys that it claims, as bits
	Queue             bool  // it waits in line; else a conflict refuses it
	Own               bool  // its client is its worker, as with Acquire: there is no dispatch
	Downgrade         bool  // it may go on with its first exclusive key shared
	Leave             bool  // it may give up waiting
	Deadline          bool  // the deadline of its wait may pass
}

func (sp Spec) claims() uint8 { return sp.Exclusive | sp.Shared }

// Fault is a kind of what may go wrong, or be wished, a limited number of times.
type Fault uint8

// The kinds.
const (
	Crash      Fault = iota // a worker or a client dies
	Lost                    // the answer to a commit is lost
	Twice                   // a delivery comes to another worker while one has it
	Broken                  // an operator breaks an operation
	Stuck                   // a step fails for good
	Redispatch              // workers are told again
	Reuse                   // an ID is used again after its record has gone
	faults
)

// faultBits is how many bits of a packed state count the faults of a kind.
var faultBits = [faults]uint{2, 2, 1, 1, 1, 1, 1}

// World is what is explored.
type World struct {
	Name   string
	Keys   int
	Ops    []Spec
	Limit  int // waiters that one commit grants or ends at most
	Budget [faults]uint8
	Expiry bool // records of ended operations go, and copies of a submit are in flight for a while
	Stale  bool // what a commit merely reads may be old
	Deep   bool // as old as any state that the record ever had; else the one before the last write
}

// Property is what the protocol promises.
type Property string

// The properties; "" is none that is violated.
const (
	OneWriter   Property = "no two writers, no reader beside a writer"
	NoOrphan    Property = "no lock entry without its live operation"
	NoLost      Property = "no waiter that is free on all its keys, unless a wake is owed"
	FairLine    Property = "nobody passes an older waiter that conflicts"
	OneWorker   Property = "one epoch has one worker"
	NoLate      Property = "no effect of a worker that was overtaken after its successor has looked, or beside another holder"
	FenceHolder Property = "the fence never shuts out the worker that has the operation"
	NoForgotten Property = "whoever is to be driven has a dispatch that was not acknowledged"
	TrueAnswer  Property = "what was refused does not exist"
	Once        Property = "no operation runs twice"
	Progress    Property = "from everywhere, fair steps lead to where all has ended"
)

// Variant is the protocol with one rule broken; Correct has none.
type Variant uint8

// The variants, each by what is broken.
const (
	Correct Variant = iota
	CountHolders
	EndGrantsNobody
	LeaveGrantsNobody
	BreakGrantsNobody
	DowngradeGrantsNobody
	ReadIsBelieved
	WakeBelievesReads
	WakeAckedFirst
	LimitOwesNothing
	QueueWritesNoLock
	QueueInOneLine
	LinesInOtherOrder
	GrantPassesOlder
	SubmitPassesOlder
	LeaveOneLine
	ExpiredNotRelooked
	GrantWithoutDispatch
	NoEpoch
	TakeOverByName
	EndIgnoresEpoch
	OvertakenAcks
	AckAtTakeOver
	NoFenceAtTakeOver
	BreakWithoutFence
	BreakOwnNumber
	BreakReleasesFirst
	DoubtIsRefused
	EndInTwo
	EarlyExpiry
	WaiterIsBelieved
	variants
)

// Model is a world with the rules that hold in it.
type Model struct {
	World
	Variant Variant

	all [MaxKeys]uint8 // who claims the key
}

// New returns the model of a world.
func New(w World, v Variant) *Model {
	m := &Model{World: w, Variant: v}
	for i, sp := range w.Ops {
		for k := range w.Keys {
			if sp.claims()&bit(k) != 0 {
				m.all[k] |= bit(i)
			}
		}
	}
	return m
}

func (m *Model) is(v Variant) bool { return m.Variant == v }

func bit[T int | uint8](i T) uint8 { return 1 << i }
