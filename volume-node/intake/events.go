package intake

import (
	"fmt"
	"time"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/saga"
)

// EventKind says what became of a delivery, or of a dispatch that was lost.
type EventKind uint8

const (
	// Ended: its operation has ended; acknowledged.
	Ended EventKind = iota + 1
	// Stuck: its operation waits for a person; acknowledged.
	Stuck
	// HandedOn: its operation goes on under a higher dispatch number; acknowledged.
	HandedOn
	// Dropped: a higher dispatch number stands for its operation, or it was broken; acknowledged.
	Dropped
	// Joined: its operation runs in this process already.
	Joined
	// Delayed: the commit that it belongs to is not seen whole yet.
	Delayed
	// Parked: this release cannot run its operation; left to others.
	Parked
	// Overtaken: another worker took its operation over.
	Overtaken
	// LeftOver: this worker stops; given back.
	LeftOver
	// Interrupted: the stream did not answer; given back.
	Interrupted
	// Terminated: it waited too long for the rest of its commit.
	Terminated
	// Redispatched: an operation whose dispatch was lost was dispatched again.
	Redispatched
)

// EventKinds are all of them, in order.
var EventKinds = []EventKind{Ended, Stuck, HandedOn, Dropped, Joined, Delayed, Parked, Overtaken, LeftOver, Interrupted, Terminated, Redispatched}

// String returns the kind's name.
func (k EventKind) String() string {
	switch k {
	case Ended:
		return "ended"
	case Stuck:
		return "stuck"
	case HandedOn:
		return "handed_on"
	case Dropped:
		return "dropped"
	case Joined:
		return "joined"
	case Delayed:
		return "delayed"
	case Parked:
		return "parked"
	case Overtaken:
		return "overtaken"
	case LeftOver:
		return "left_over"
	case Interrupted:
		return "interrupted"
	case Terminated:
		return "terminated"
	case Redispatched:
		return "redispatched"
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is what became of a delivery.
type Event struct {
	Kind      EventKind
	Backend   string
	Operation string
	Reason    string
}

func (i *Intake) observe(e Event) {
	if i.deps.Observe != nil {
		i.deps.Observe(e)
	}
}

// begin fills in how an operation stands when its run begins here, with the take-over in it.
func (i *Intake) begin(r *running, a *accepted, head saga.Head) {
	r.steps = i.steps[a.definition(i.deps.Registry)]
	r.op = messages.Operation{
		ID: a.op.ID, Kind: a.op.Kind, Project: a.op.Project, User: a.op.User, Resource: a.op.Resource,
		Phase: a.rec.Phase.String(), Step: r.steps[0], Steps: r.steps, Total: len(r.steps), Attempt: 1, Worker: a.rec.Worker, Epoch: a.rec.Epoch, TakenOver: a.rec.TakenOver,
		Submitted: a.op.Submitted,
	}
	if st, err := head.Status(); err == nil {
		r.op.Attempt = st.Attempt()
		if st.Name != "" {
			r.op.Step, r.op.Done = st.Step, st.Index
		}
	}
	for _, c := range a.rec.Claims {
		r.op.Claims = append(r.op.Claims, messages.Claim{Key: c.Key, Mode: c.Mode.String()})
	}
}

// follow publishes how an operation goes on. It is called on the goroutine of the run.
func (i *Intake) follow(ev saga.Event) {
	r := i.table.find(ev.ID)
	if r == nil || r.op.ID == "" || !r.apply(ev) {
		return
	}
	at := time.Now().UTC()
	if r.op.Ended {
		r.op.EndedAt = at
	}
	subject := messages.EventSubject(r.op.Project, r.op.Kind, block.OperationID(r.id))
	if err := i.deps.Store.Conn().Publish(subject, messages.Encode(messages.Update{V: messages.EnvelopeVersion, Operation: r.op, At: at})); err != nil {
		i.log.Debug("event not published", "operation", r.id, "error", err) // events can be lost; the record holds
	}
}

// apply brings the operation up to date, and says whether that is worth an event.
func (r *running) apply(ev saga.Event) bool {
	op := &r.op
	op.StepWaits = ev.Why // only while it waits: whatever else happens ends that
	switch ev.Kind {
	case saga.Waits:
	case saga.RunBegan, saga.RunResumed:
	case saga.StepDone:
		op.Done++
		op.Error, op.Attempt, op.ProgressDone, op.ProgressTotal = "", 1, 0, 0
		if op.Done >= len(r.steps) {
			return false // the end follows at once
		}
		op.Step = r.steps[op.Done]
	case saga.StepFailed, saga.UndoFailed:
		op.Step, op.Attempt = ev.Step, ev.Attempt+1
		op.Error = ev.Step + ": " + ev.Err.Error()
	case saga.StepUndone:
		op.Done = max(op.Done-1, 0)
		op.Attempt = 1
	case saga.Progressed:
		op.ProgressDone, op.ProgressTotal = ev.Done, ev.Total
	case saga.RunTurned:
		op.Phase, op.Error = saga.Undoing.String(), ev.Err.Error()
	case saga.RunDone:
		op.Phase, op.Ended = saga.Done.String(), true
	case saga.RunUndone:
		op.Phase, op.Ended, op.Error = saga.Undone.String(), true, ev.Err.Error()
	case saga.RunStuck:
		op.Phase, op.Error = saga.Stuck.String(), ev.Err.Error()
	case saga.RunParked, saga.RunFenced, saga.RunLeft, saga.RunPaused:
		return false // whoever goes on tells of it
	}
	return true
}
