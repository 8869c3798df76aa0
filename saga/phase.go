package saga

import "slices"

// Phase is where a run is in its life.
type Phase uint8

const (
	Pending Phase = iota // known, and nothing of it journalled yet
	Running              // going forward
	Undoing              // going backward
	Done                 // ended: every step succeeded
	Undone               // ended: everything that began was undone
	Stuck                // waits for a person: a step past the pivot, an undo, or an unknown answer
)

// The only legal moves of a run. Running and Undoing may also stay what they are. Out of Stuck leads only a
// person's request, by Journal.Resume.
var moves = map[Phase][]Phase{
	Pending: {Running, Undoing, Done, Undone, Stuck},
	Running: {Running, Undoing, Done, Undone, Stuck},
	Undoing: {Undoing, Undone, Stuck},
	Stuck:   {Running, Undoing},
	Done:    {},
	Undone:  {},
}

// MayMove says whether a journal may take a record in phase to after one in phase p.
func (p Phase) MayMove(to Phase) bool { return slices.Contains(moves[p], to) }

// Ended says whether the run is over: no write follows.
func (p Phase) Ended() bool { return p == Done || p == Undone }

func (p Phase) String() string {
	switch p {
	case Pending:
		return "pending"
	case Running:
		return "running"
	case Undoing:
		return "undoing"
	case Done:
		return "done"
	case Undone:
		return "undone"
	case Stuck:
		return "stuck"
	}
	return "unknown phase"
}
