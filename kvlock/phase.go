package kvlock

import (
	"fmt"
	"slices"
)

// Phase is where an operation stands.
type Phase uint8

const (
	// Queued waits in the line of every key that it claims and holds nothing.
	Queued Phase = iota + 1
	// Granted holds its claims; no worker has taken it over yet.
	Granted
	// Running is driven forward by a worker.
	Running
	// Undoing is driven backward by a worker.
	Undoing
	// Done ended as asked for.
	Done
	// Undone ended with its effects taken back.
	Undone
	// Stuck keeps its locks until a person resumes or breaks it.
	Stuck
	// Void was broken or gave up waiting. Until its entries are gone it counts as not ended.
	Void
)

var phaseNames = [...]string{
	Queued: "queued", Granted: "granted", Running: "running", Undoing: "undoing",
	Done: "done", Undone: "undone", Stuck: "stuck", Void: "void",
}

// The only legal moves. Running and Undoing may stay what they are: that is a save, or a take-over by the next worker.
// Void stays void when its entries are removed.
var moves = map[Phase][]Phase{
	Queued:  {Granted, Void},
	Granted: {Running, Void},
	Running: {Running, Undoing, Done, Undone, Stuck, Void},
	Undoing: {Undoing, Undone, Stuck, Void},
	Stuck:   {Running, Undoing, Void},
	Void:    {Void},
}

// May says whether an operation in phase p may move to phase to.
func (p Phase) May(to Phase) bool { return slices.Contains(moves[p], to) }

// String returns the phase's name, which is also how records write it.
func (p Phase) String() string {
	if p >= Queued && int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// parsePhase returns the phase of that name.
func parsePhase(name string) (Phase, bool) {
	i := slices.Index(phaseNames[:], name)
	return Phase(max(i, 0)), i >= int(Queued)
}

// move returns an error in words if the operation may not move to the phase.
func (r Record) move(to Phase) error {
	if !r.Phase.May(to) {
		return fmt.Errorf("%w: operation %s is %s and cannot become %s", ErrInvalid, r.Owner, r.Phase, to)
	}
	return nil
}
