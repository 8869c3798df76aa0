package view

import (
	"slices"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// Waits returns what an operation that is queued waits for: the operations that hold one of its keys in a way that conflicts, then those
// that wait for one before it, oldest first; nil for an operation that does not wait.
func (v *View) Waits(op *Operation) *messages.Waits {
	if op.Ended || op.holds() {
		return nil
	}
	var holding, waiting []messages.Holder
	seen := map[string]bool{string(op.ID): true}
	add := func(list []messages.Holder, owner, mode string) []messages.Holder {
		if seen[owner] {
			return list
		}
		seen[owner] = true
		h := messages.Holder{Mode: mode}
		if o, ok := v.record(block.OperationID(owner)); ok {
			h.Operation, h.Kind, h.Step, h.Since = o.ID, o.Kind, o.Step, o.Submitted
		}
		return append(list, h)
	}
	for _, c := range op.Claims {
		l, ok := v.Lock(c.Key)
		if !ok {
			continue
		}
		exclusive := c.Mode == kvlock.ModeExclusive.String()
		if exclusive || l.Mode == kvlock.ModeExclusive {
			for _, h := range l.Holders {
				holding = add(holding, h.Owner, l.Mode.String())
			}
		}
		for _, w := range l.Line {
			if w.Owner == string(op.ID) {
				break
			}
			if exclusive || w.Mode == kvlock.ModeExclusive {
				waiting = add(waiting, w.Owner, w.Mode.String())
			}
		}
	}
	return &messages.Waits{Place: len(waiting) + 1, For: slices.Concat(holding, waiting), Deadline: op.Deadline}
}
