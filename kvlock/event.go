package kvlock

import (
	"fmt"
	"time"
)

// EventKind says what happened.
type EventKind uint8

const (
	// Acquired: an operation got its claims.
	Acquired EventKind = iota + 1
	// Refused: a claim conflicted.
	Refused
	// Adopted: a worker took an operation over.
	Adopted
	// Overtaken: a write with a stale grant was refused.
	Overtaken
	// Released: an operation ended and its entries are gone.
	Released
	// Canceled: somebody wished an operation to end early.
	Canceled
	// Voided: an operator began to break an operation.
	Voided
	// Broken: the entries of a void operation are gone.
	Broken
	// Resumed: an operator let a stuck operation go on.
	Resumed
	// Enqueued: an operation stands in line.
	Enqueued
	// Left: an operation gave up waiting.
	Left
)

// EventKinds are all of them, in order.
var EventKinds = []EventKind{Acquired, Refused, Adopted, Overtaken, Released, Canceled, Voided, Broken, Resumed, Enqueued, Left}

// String returns the kind's name.
func (k EventKind) String() string {
	switch k {
	case Acquired:
		return "acquired"
	case Refused:
		return "refused"
	case Adopted:
		return "adopted"
	case Overtaken:
		return "overtaken"
	case Released:
		return "released"
	case Canceled:
		return "canceled"
	case Voided:
		return "voided"
	case Broken:
		return "broken"
	case Resumed:
		return "resumed"
	case Enqueued:
		return "enqueued"
	case Left:
		return "left"
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is one thing that happened, told after it is durable.
type Event struct {
	Kind  EventKind
	Owner string
	Phase Phase         // after it; 0 if unknown
	Epoch uint64        // after it
	Held  time.Duration // of Released and Broken: from the first write of the record to its end
	Err   error         // of Refused and Overtaken
}

// Observer is told what happened. It is called on the caller's goroutine, must not block and must be safe for several
// goroutines at the same time.
type Observer interface{ Observe(e Event) }

// Observe tells the observer, if there is one. The verbs of a Locker do so themselves. The staged ones cannot know whether
// their commit was made: who commits reports, with EventOf.
func (l *Locker) Observe(e Event) {
	if l.observer != nil {
		l.observer.Observe(e)
	}
}

// EventOf returns what there is to say of a record after a commit.
func EventOf(kind EventKind, r Record) Event {
	e := Event{Kind: kind, Owner: r.Owner, Phase: r.Phase, Epoch: r.Epoch}
	if !r.Live() {
		e.Held = r.Ended.Sub(r.Since)
	}
	return e
}
