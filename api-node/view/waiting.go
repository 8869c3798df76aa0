package view

import (
	"slices"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// Waits returns what those of the operations wait for that are queued: the operations that hold one of their keys in a way that conflicts,
// then those that wait for one before them, oldest first. The live operations are gone through once, however many are asked for.
func (v *View) Waits(ops ...*Operation) map[block.OperationID]*messages.Waits {
	keys := map[string]bool{}
	for _, op := range ops {
		if op.waits() {
			for _, c := range op.Claims {
				keys[c.Key] = true
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	lines := map[string]line{}
	for _, l := range v.locks(func(key string) bool { return keys[key] }) {
		lines[l.Key] = v.line(l)
	}
	all := map[block.OperationID]*messages.Waits{}
	for _, op := range ops {
		if op.waits() {
			all[op.ID] = op.behind(lines)
		}
	}
	return all
}

func (o *Operation) waits() bool { return !o.Ended && !o.holds() }

// line is a lock with the operations in words.
type line struct{ holders, waiters []messages.Holder }

func (v *View) line(l *kvlock.Lock) line {
	describe := func(owner string, mode kvlock.Mode) messages.Holder {
		h := messages.Holder{Operation: block.OperationID(owner), Mode: mode.String()}
		if o, ok := v.record(block.OperationID(owner)); ok {
			h.Kind, h.Step, h.Since = o.Kind, o.Step, o.Submitted
		}
		return h
	}
	in := line{holders: make([]messages.Holder, 0, len(l.Holders)), waiters: make([]messages.Holder, 0, len(l.Line))}
	for _, h := range l.Holders {
		in.holders = append(in.holders, describe(h.Owner, l.Mode))
	}
	for _, w := range l.Line {
		in.waiters = append(in.waiters, describe(w.Owner, w.Mode))
	}
	return in
}

// behind says what the operation waits for in the lines of its keys.
func (o *Operation) behind(lines map[string]line) *messages.Waits {
	var holding, waiting []messages.Holder
	seen, several := map[block.OperationID]bool{}, len(o.Claims) > 1 // whoever stands in several of its lines is named once
	add := func(list []messages.Holder, h *messages.Holder, claimed string) []messages.Holder {
		exclusive := kvlock.ModeExclusive.String()
		if claimed != exclusive && h.Mode != exclusive || several && seen[h.Operation] {
			return list
		}
		if several {
			seen[h.Operation] = true
		}
		return append(list, *h)
	}
	for _, c := range o.Claims {
		in := lines[c.Key]
		before := in.waiters
		if own := slices.IndexFunc(before, func(w messages.Holder) bool { return w.Operation == o.ID }); own >= 0 {
			before = before[:own]
		}
		for i := range in.holders {
			holding = add(holding, &in.holders[i], c.Mode)
		}
		waiting = slices.Grow(waiting, len(before))
		for i := range before {
			waiting = add(waiting, &before[i], c.Mode)
		}
	}
	return &messages.Waits{Place: len(waiting) + 1, For: slices.Concat(holding, waiting), Deadline: o.Deadline}
}
