package model

import (
	"fmt"
	"strings"
)

// kindWords say what is done: %o is the operation, %w the worker, %k the key.
var kindWords = [kinds]string{
	Ask:            "the client of %o submits it and is answered",
	AskLost:        "the client of %o submits it; it is accepted, the answer is lost",
	AskAgain:       "the client of %o submits it again and is answered",
	ClientDies:     "the client of %o dies",
	CopyApplies:    "a copy of the submit of %o, in flight all the time, applies",
	CopyDies:       "no copy of the submit of %o is in flight any more",
	Leave:          "%o gives up waiting",
	DeadlineOver:   "the deadline of %o passes",
	LeaveLate:      "%o is ended because its deadline has passed",
	Release:        "the client of %o, which is its worker, ends it",
	TakeOver:       "%w gets a dispatch of %o and takes it over",
	TakeOverLost:   "%w takes %o over; the answer is lost",
	TakeOverUnmade: "%w sends a take-over of %o that is not made; the answer is lost",
	TakeOverAgain:  "%w finds out what became of its take-over of %o",
	Drop:           "%w gets a dispatch of %o that is out of date, and acknowledges it",
	RaiseFence:     "%w shows its fence to the resource of %o and begins to work",
	End:            "%w ends %o",
	EndLost:        "%w ends %o; the answer is lost",
	EndAgain:       "%w sends the end of %o again",
	GetStuck:       "%w gets stuck with %o",
	Downgrade:      "%w downgrades %o",
	Acknowledge:    "%w acknowledges its delivery of %o",
	Stop:           "%w finds that it was overtaken with %o, and stops",
	WorkerDies:     "%w dies with %o",
	MakeVoid:       "an operator breaks %o: it is void",
	RaiseVoid:      "an operator raises the fence of the break of %o",
	EndVoid:        "the break of %o releases its locks",
	Resume:         "an operator resumes %o",
	DispatchAgain:  "workers are told of %o again",
	ServeWake:      "a wake of %k is served and acknowledged",
	ServeTwice:     "a wake of %k is served; the acknowledgement is lost",
	Expire:         "the record of %o, ended long ago, goes",
	AskReused:      "the client of %o wants to use the ID again",
}

func opName(i uint8) string { return fmt.Sprintf("op-%d", i+1) }

func keyName(k int) string { return string(rune('a' + k)) }

// String says what is done in a step.
func (st Step) String() string {
	text := strings.NewReplacer("%o", opName(st.Op), "%w", fmt.Sprintf("worker %d", st.Slot+1), "%k", "key "+keyName(int(st.Key))).Replace(kindWords[st.Kind])
	var old []string
	for k := range MaxKeys {
		if st.Stale&bit(k) != 0 {
			old = append(old, "lock "+keyName(k))
		}
	}
	for i := range uint8(MaxOps) {
		if st.Ghost&bit(i) != 0 {
			old = append(old, "the record of "+opName(i))
		}
	}
	if len(old) > 0 {
		text += ", having read " + strings.Join(old, " and ") + " as it stood earlier"
	}
	return text
}

// Words tells a state: records, messages, workers.
func (m *Model) Words(s *State) string {
	var parts []string
	for i := range m.Ops {
		o := &s.Ops[i]
		if o.Phase == Absent {
			continue
		}
		part := fmt.Sprintf("%s %s", opName(uint8(i)), phaseNames[o.Phase])
		if o.Epoch > 0 {
			part += fmt.Sprintf(" in epoch %d", o.Epoch)
		}
		if o.Messages != 0 {
			part += ", dispatched"
		}
		parts = append(parts, part)
	}
	for k := range m.Keys {
		if part := m.lockWords(s, k); part != "" {
			parts = append(parts, part)
		}
	}
	for w := range s.Slots {
		if t := &s.Slots[w]; t.Stage != Idle {
			parts = append(parts, fmt.Sprintf("worker %d with %s %s", w+1, opName(t.Op), stageNames[t.Stage]))
		}
	}
	return strings.Join(parts, "; ")
}

func (m *Model) lockWords(s *State, k int) string {
	l := &s.Locks[k]
	var held, line []string
	for i := range uint8(len(m.Ops)) {
		if l.Holders&bit(i) != 0 {
			held = append(held, opName(i))
		}
	}
	for _, w := range l.line() {
		line = append(line, opName(w))
	}
	var text string
	if len(held) > 0 {
		text = fmt.Sprintf(" held by %s", strings.Join(held, ", "))
	}
	if len(line) > 0 {
		text += fmt.Sprintf(" waited for by %s", strings.Join(line, ", "))
	}
	if s.Wakes&bit(k) != 0 {
		text += " owed a wake"
	}
	if text == "" {
		return ""
	}
	return "lock " + keyName(k) + text
}

// Story tells how a violation comes about. Workers have no names of their own: 1 and 2 may change places from state to state.
func (m *Model) Story(r Result) string {
	var text strings.Builder
	for n, at := range r.Trace {
		fmt.Fprintf(&text, "%3d. %s\n     [%s]\n", n+1, at.Step, m.Words(&at.State))
	}
	if r.Violated != "" {
		fmt.Fprintf(&text, "     violated: %s\n", r.Violated)
	}
	return text.String()
}
