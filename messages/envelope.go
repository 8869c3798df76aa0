package messages

import (
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages/block"
)

// EnvelopeVersion is the newest envelope that this release reads and the one it writes.
const EnvelopeVersion = 1

// Envelope carries the request of an operation.
type Envelope struct {
	V int `msgpack:"v"`
	// Operation is chosen by the client, a UUID, or empty. A repeated ID returns the same operation.
	Operation block.OperationID `msgpack:"operation,omitempty"`
	// User and RequestID are kept with the operation: see CheckPrintable.
	User      string `msgpack:"user,omitempty"`
	RequestID string `msgpack:"request_id,omitempty"`
	// OnConflict is "refuse" (or empty), "queue" or "queue;deadline=SECONDS": see ParseOnConflict.
	OnConflict string `msgpack:"on_conflict,omitempty"`
	// Sent is when the client made the message; one older than half of the idempotency window is refused. Zero: not checked.
	Sent time.Time `msgpack:"sent,omitempty"`
	// RequestVersion is the version of the request's fields; 0 stands for 1.
	RequestVersion int `msgpack:"request_version,omitempty"`
	// Request holds the fields of the request as a map.
	Request msgpack.RawMessage `msgpack:"request"`
}

// Validate checks what stands around the request. When it was sent, and what to do on a conflict, are for who takes it to judge. The error is an
// *Error that names the field.
func (e *Envelope) Validate() error {
	if err := CheckVersion("envelope", e.V); err != nil {
		return err
	}
	if e.Operation != "" && !block.IsUUID(string(e.Operation)) {
		return &Error{Code: CodeInvalid, Field: "operation", Message: "the operation ID is not a UUID in lower-case canonical form"}
	}
	return first(CheckPrintable("user", e.User), CheckPrintable("request_id", e.RequestID))
}

// CheckVersion refuses a message of a version that this release does not read. what names the message.
func CheckVersion(what string, v int) error {
	if v != EnvelopeVersion {
		return Errorf(CodeUnsupported, "the %s has version %d, this node reads version %d", what, v, EnvelopeVersion)
	}
	return nil
}

// Query asks how an operation stands.
type Query struct {
	V         int               `msgpack:"v"`
	Operation block.OperationID `msgpack:"operation"`
	// Wait: answer when the operation has ended, but after this time at the latest (at most MaxWait).
	Wait time.Duration `msgpack:"wait,omitempty"`
}

// MaxWait bounds the wait for the end of an operation in one question.
const MaxWait = 60 * time.Second

// Reply answers an Envelope or a Query: either Error or Operation is set.
type Reply struct {
	V         int        `msgpack:"v"`
	Error     *Error     `msgpack:"error,omitempty"`
	Operation *Operation `msgpack:"operation,omitempty"`
}

// Operation is what programs see of an operation.
type Operation struct {
	ID       block.OperationID `msgpack:"id" json:"id"`
	Kind     block.Kind        `msgpack:"kind" json:"kind"`
	Project  string            `msgpack:"project" json:"project"`
	User     string            `msgpack:"user,omitempty" json:"user,omitempty"`
	Resource string            `msgpack:"resource" json:"resource"`
	// Phase is one of Phases.
	Phase string `msgpack:"phase" json:"phase"`
	Ended bool   `msgpack:"ended" json:"ended"`
	// Step is the step that runs or that failed.
	Step string `msgpack:"step,omitempty" json:"step,omitempty"`
	// Steps are all of them in their order, as far as they are known: while a worker runs it. Their number, Total, always is.
	Steps []string `msgpack:"steps,omitempty" json:"steps,omitempty"`
	Done  int      `msgpack:"done" json:"steps_done"`
	Total int      `msgpack:"total,omitempty" json:"steps_total,omitempty"`
	// Attempt is the number of the try of Step; it counts those that were lost with their worker. 0: nobody has begun.
	Attempt int `msgpack:"attempt,omitempty" json:"attempt,omitempty"`
	// Error says why an operation was undone or is stuck, or the last failed attempt of one that still runs.
	Error  string `msgpack:"error,omitempty" json:"error,omitempty"`
	Worker string `msgpack:"worker,omitempty" json:"worker,omitempty"`
	// StepWaits says in words what the step waits for, such as "waits since 3s for …", as its worker said last.
	StepWaits string `msgpack:"step_waits,omitempty" json:"step_waits,omitempty"`
	// Epoch counts how often a worker began to work on it, TakenOver how often it took it over from another one.
	Epoch     uint64 `msgpack:"epoch" json:"epoch"`
	TakenOver uint64 `msgpack:"taken_over,omitempty" json:"taken_over,omitempty"`
	// Progress is ProgressDone of ProgressTotal bytes of a long step.
	ProgressDone  int64     `msgpack:"progress_done,omitempty" json:"progress_done,omitempty"`
	ProgressTotal int64     `msgpack:"progress_total,omitempty" json:"progress_total,omitempty"`
	Submitted     time.Time `msgpack:"submitted" json:"submitted"`
	EndedAt       time.Time `msgpack:"ended_at,omitempty" json:"ended_at,omitzero"`
	Claims        []Claim   `msgpack:"claims,omitempty" json:"claims,omitempty"`
	// Waits says what an operation that is queued waits for. Events do not have it.
	Waits *Waits `msgpack:"waits,omitempty" json:"waits,omitempty"`
}

// Waits is the wait of an operation in line.
type Waits struct {
	// Place is 1 for the one that comes next.
	Place int `msgpack:"place" json:"place"`
	// For are the operations that hold what it waits for, then those that wait for it before it, oldest first.
	For []Holder `msgpack:"for,omitempty" json:"for,omitempty"`
	// Deadline is when it gives up; zero: never.
	Deadline time.Time `msgpack:"deadline,omitempty" json:"deadline,omitzero"`
}

// Phases are the names of all phases, in the order in which an operation may go through them.
func Phases() []string {
	var names []string
	for p := kvlock.Queued; p <= kvlock.Void; p++ {
		names = append(names, p.String())
	}
	return names
}

// Stuck reports whether the operation waits for a person.
func (o *Operation) Stuck() bool { return !o.Ended && o.Phase == kvlock.Stuck.String() }

// Settled reports whether the operation will not go on by itself: it has ended or is stuck.
func (o *Operation) Settled() bool { return o.Ended || o.Stuck() }

// Claim is one lock of an operation.
type Claim struct {
	Key  string `msgpack:"key" json:"key"`
	Mode string `msgpack:"mode" json:"mode"`
}

// Update is an event of an operation: how it stands now.
type Update struct {
	V         int       `msgpack:"v"`
	Operation Operation `msgpack:"operation"`
	At        time.Time `msgpack:"at"`
}
