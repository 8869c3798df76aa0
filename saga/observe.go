package saga

import "time"

// Event tells an observer what happened to a run.
type Event struct {
	Kind       EventKind
	ID         ID
	Definition string
	Version    int
	Step       string        // of step events and RunStuck
	Attempt    int           // of step events
	Err        error         // of failures; the cause of RunUndone and RunStuck
	Took       time.Duration // of a try; of the whole run in RunDone, RunUndone and RunStuck, by the journal's start
	Done       int64         // of Progressed
	Total      int64
	Unit       string
	Why        string // of Waits; empty: it goes on
}

// EventKind says what an Event tells.
type EventKind uint8

const (
	RunBegan   EventKind = iota + 1 // this executor drives the run for the first time ever
	RunResumed                      // this executor goes on with a run
	StepDone                        // a step succeeded and that is in the journal
	StepFailed                      // one try failed
	StepUndone                      // an undo succeeded and that is in the journal
	UndoFailed                      // one try of an undo failed
	Progressed                      // a long step told how far it is; at most four times a second
	Waits                           // a step told what it waits for
	RunTurned                       // the run goes backward from here
	RunDone                         // ended
	RunUndone                       // ended
	RunStuck                        // waits for a person
	RunParked                       // waits for an executor that has the definition
	RunFenced                       // somebody took over: this worker stopped
	RunLeft                         // a step left it to another
	RunPaused                       // the context ended, or the journal did not answer
)

func (k EventKind) String() string {
	switch k {
	case RunBegan:
		return "run began"
	case RunResumed:
		return "run resumed"
	case StepDone:
		return "step done"
	case StepFailed:
		return "step failed"
	case StepUndone:
		return "step undone"
	case UndoFailed:
		return "undo failed"
	case Progressed:
		return "progress"
	case Waits:
		return "waits"
	case RunTurned:
		return "run turned back"
	case RunDone:
		return "run done"
	case RunUndone:
		return "run undone"
	case RunStuck:
		return "run stuck"
	case RunParked:
		return "run parked"
	case RunFenced:
		return "run fenced"
	case RunLeft:
		return "run left"
	case RunPaused:
		return "run paused"
	}
	return "unknown event"
}
