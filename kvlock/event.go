package kvlock

import (
	"fmt"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// EventKind says what happened.
type EventKind uint8

const (
	// Acquired: an operation got its claims: at once, or, by Acquire, after it waited.
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
	// Left: an operation gave up waiting, or a commit of this process found its deadline passed.
	Left
	// HandedOver: a commit of this process, such as the end of a holder, let an operation in that waited. Its owner is told by its
	// own Acquired or Adopted.
	HandedOver
	// LineServed: a commit of this process went through lines in which operations waited.
	LineServed
	// Woken: a wake was served: the rest of a line that an earlier commit could not finish.
	Woken
)

// EventKinds are all of them, in order.
var EventKinds = []EventKind{Acquired, Refused, Adopted, Overtaken, Released, Canceled, Voided, Broken, Resumed, Enqueued, Left, HandedOver, LineServed, Woken}

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
	case HandedOver:
		return "handed_over"
	case LineServed:
		return "line_served"
	case Woken:
		return "woken"
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is one thing that happened, told after it is durable.
type Event struct {
	Kind   EventKind
	Owner  string        // of all but LineServed and Woken
	Phase  Phase         // after it; 0 if unknown
	Epoch  uint64        // after it
	Held   time.Duration // of Released and Broken: from the grant to the end
	Waited time.Duration // of HandedOver and Left, and of Acquired and a first Adopted: how long the operation stood in line
	Err    error         // of Refused and Overtaken

	// Of LineServed: how many the commit let in, and how many operations still wait in the lines that it looked at.
	LetIn, Waiting int
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
	granted := r.Granted
	if granted.IsZero() { // it did not wait
		granted = r.Since
	}
	switch {
	case kind == Left:
		e.Waited = max(0, r.Ended.Sub(r.Since)) // the clocks of two processes
	case !r.Live():
		e.Held = max(0, r.Ended.Sub(granted))
	case kind == HandedOver, kind == Acquired, kind == Adopted && r.Epoch == 1:
		e.Waited = max(0, granted.Sub(r.Since))
	}
	return e
}

// observe tells, once the commit is made, whom the hand-over let in, who left, and how many still wait.
func (h *handover) observe(tx *kvtx.Tx) {
	if h.l.observer == nil {
		return
	}
	waiting := map[string]bool{}
	for _, lk := range h.locks {
		for _, w := range lk.Line {
			waiting[w.Owner] = true
		}
	}
	if len(h.granted)+len(h.expired)+len(waiting) == 0 {
		return
	}
	served := Event{Kind: LineServed, LetIn: len(h.granted), Waiting: len(waiting)}
	tx.Then(func() {
		for _, rec := range h.granted {
			h.l.Observe(EventOf(HandedOver, *rec))
		}
		for _, rec := range h.expired {
			h.l.Observe(EventOf(Left, *rec))
		}
		h.l.Observe(served)
	})
}
