package view

import (
	"sync"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// maxHeard bounds the operations of which events are kept.
const maxHeard = 4096

// heard keeps what workers say of running operations and no record holds: the names of the steps, and how far a long
// step is. Events can be lost, so nothing depends on them.
type heard struct {
	mu   sync.Mutex
	byID map[block.OperationID]messages.Operation
}

// Hear takes an event of a worker in. It adds to what is shown of an operation; the records alone say how it stands.
func (v *View) Hear(u messages.Update) {
	op, known := v.record(u.Operation.ID)
	v.heard.mu.Lock()
	if u.Operation.Ended || known && op.Ended {
		delete(v.heard.byID, u.Operation.ID)
	} else if _, there := v.heard.byID[u.Operation.ID]; there || len(v.heard.byID) < maxHeard {
		v.heard.byID[u.Operation.ID] = u.Operation
	} else {
		v.forget()
		v.heard.byID[u.Operation.ID] = u.Operation
	}
	v.heard.mu.Unlock()
	if known && !op.Ended {
		v.waiters.changed(map[block.OperationID]*Operation{op.ID: v.withHeard(op)})
	}
}

// forget drops what was heard of operations that have ended: the event of their end was lost. If all still run, it drops all:
// the next events bring them back.
func (v *View) forget() {
	for id := range v.heard.byID {
		if op, ok := v.record(id); !ok || op.Ended {
			delete(v.heard.byID, id)
		}
	}
	if len(v.heard.byID) >= maxHeard {
		clear(v.heard.byID)
	}
}

// withHeard returns the operation with what its worker said. The row itself stays as it is.
func (v *View) withHeard(op *Operation) *Operation {
	if op.Settled() {
		return op
	}
	v.heard.mu.Lock()
	h, ok := v.heard.byID[op.ID]
	v.heard.mu.Unlock()
	if !ok || h.Epoch != op.Epoch {
		return op
	}
	shown := *op
	shown.Steps, shown.Total = h.Steps, max(op.Total, len(h.Steps)) // of a run that has not saved anything yet the record has none
	if h.Done == op.Done && h.Phase == op.Phase {
		shown.Step, shown.StepWaits, shown.ProgressDone, shown.ProgressTotal = h.Step, h.StepWaits, h.ProgressDone, h.ProgressTotal
	}
	return &shown
}
