package model

// Case is a broken variant with a world in which the checker finds it.
type Case struct {
	Variant Variant
	Name    string
	Breaks  Property
	World   World
}

// keys of the worlds, as sets.
const (
	a  = 1
	b  = 2
	c  = 4
	ab = a | b
)

// writer and reader want keys and wait for them.
func writer(keys uint8) Spec { return Spec{Exclusive: keys, Queue: true} }
func reader(keys uint8) Spec { return Spec{Shared: keys, Queue: true} }

func (sp Spec) refused() Spec    { sp.Queue = false; return sp }
func (sp Spec) leaves() Spec     { sp.Leave = true; return sp }
func (sp Spec) until() Spec      { sp.Deadline = true; return sp }
func (sp Spec) downgrades() Spec { sp.Downgrade = true; return sp }
func (sp Spec) own() Spec        { sp.Own = true; return sp }

// with returns a world of the operations on keys a and b, in which each of the faults may happen once.
func with(name string, ops []Spec, may ...Fault) World {
	w := World{Name: name, Keys: 2, Ops: ops, Limit: 64, Stale: true}
	for _, f := range may {
		w.Budget[f]++
	}
	return w
}

func limited(w World) World  { w.Limit = 1; return w }
func expiring(w World) World { w.Expiry = true; return w }

// Cases are all variants.
func Cases() []Case {
	pair := []Spec{writer(a), writer(a)}
	meet := []Spec{writer(a), writer(b), writer(ab)}
	return []Case{
		{CountHolders, "holders are counted, not named", OneWriter,
			with("two readers, a writer, a lost end", []Spec{reader(a), reader(a), writer(a)}, Lost)},
		{EndGrantsNobody, "an end grants nobody", NoLost, with("two writers", pair)},
		{LeaveGrantsNobody, "who gives up grants nobody", NoLost,
			with("a reader behind a writer that leaves", []Spec{reader(a), writer(a).leaves(), reader(a)})},
		{BreakGrantsNobody, "a break grants nobody", NoLost, with("two writers, a break", pair, Broken)},
		{DowngradeGrantsNobody, "a downgrade grants nobody", NoLost, with("a reader behind a downgrade", []Spec{writer(a).downgrades(), reader(a)})},
		{ReadIsBelieved, "an end believes lock records that it only read", NoLost, with("two ends at once", meet)},
		{WakeBelievesReads, "a wake believes lock records that it only read", NoLost, with("two ends at once", meet)},
		{WakeAckedFirst, "a wake is acknowledged before it is served", NoLost, with("two ends at once, a crash", meet, Crash)},
		{LimitOwesNothing, "what one commit cannot grant is owed no wake", NoLost,
			limited(with("two readers behind a writer, one grant a commit", []Spec{writer(a), reader(a), reader(a)}))},
		{QueueWritesNoLock, "queueing does not depend on the lock records", NoLost, with("two writers", pair)},
		{QueueInOneLine, "a waiter stands in one line only", NoLost,
			with("a writer for two keys behind one", []Spec{writer(b), writer(ab), writer(ab)})},
		{LinesInOtherOrder, "lines are in different orders", Progress, with("writers for two keys", []Spec{writer(ab), writer(ab), writer(ab)})},
		{GrantPassesOlder, "a grant ignores older waiters", FairLine,
			with("a reader behind a writer behind two readers", []Spec{reader(a), reader(a), writer(a), reader(a)})},
		{SubmitPassesOlder, "a submit ignores older waiters", FairLine,
			with("a reader that comes after a waiting writer", []Spec{reader(a), writer(a), reader(a)})},
		{LeaveOneLine, "who gives up leaves one line only", NoOrphan, with("a writer for two keys leaves", []Spec{writer(ab), writer(ab).leaves()})},
		{ExpiredNotRelooked, "lines that an expired waiter leaves are not gone through", NoLost,
			with("a deadline passes", []Spec{writer(a), writer(b), writer(ab).until(), writer(b)})},
		{GrantWithoutDispatch, "a grant publishes no dispatch", NoForgotten, with("two writers", pair)},
		{NoEpoch, "a take-over raises no epoch", OneWorker, with("a second delivery", pair, Twice)},
		{TakeOverByName, "a take-over in doubt is decided by the worker's name", OneWorker, with("a second delivery, a lost take-over", pair, Twice, Lost)},
		{EndIgnoresEpoch, "an end is not refused to a worker that was overtaken", NoLate, with("a second delivery", pair, Twice)},
		{OvertakenAcks, "a worker that was overtaken acknowledges", NoForgotten, with("a second delivery", pair, Twice)},
		{AckAtTakeOver, "a delivery is acknowledged at its take-over", NoForgotten, with("two writers", pair)},
		{NoFenceAtTakeOver, "a take-over looks before it has raised the fence", NoLate, with("a second delivery", pair, Twice)},
		{BreakWithoutFence, "a break raises no fence", NoLate, with("two writers, a break", pair, Broken)},
		{BreakOwnNumber, "a break raises the fence to a number of its own", FenceHolder, with("two writers, a break", pair, Broken)},
		{BreakReleasesFirst, "a break releases before it has raised the fence", NoLate, with("two writers, a break", pair, Broken)},
		{DoubtIsRefused, "a submit in doubt is answered as refused", TrueAnswer, with("two writers, a lost submit", pair, Lost)},
		{EndInTwo, "an end is two commits", NoOrphan, with("two writers", pair)},
		{EarlyExpiry, "a record goes while a copy of its submit is in flight", Once, expiring(with("two writers", pair))},
		{WaiterIsBelieved, "a waiter's record that was only read is believed", NoLost, expiring(with("an ID is used again", pair, Reuse))},
	}
}
