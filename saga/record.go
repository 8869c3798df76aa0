package saga

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// Bounds of a record.
const (
	MaxState    = 64 << 10 // bytes of the encoded state
	MaxAttempts = 8        // failed tries that are kept, the newest
	MaxError    = 400      // bytes of an error's text
)

// recordVersion is the format that this release writes. Fields are added, never renamed, reused or retyped.
const recordVersion = 1

// record is the folded journal of one run.
type record struct {
	V       int       `msgpack:"v"`
	Name    string    `msgpack:"name"`
	Version int       `msgpack:"version"`
	Phase   Phase     `msgpack:"phase"`
	From    Phase     `msgpack:"from,omitempty"`    // while Stuck: Running or Undoing, where it goes on
	Step    int       `msgpack:"step"`              // steps completed: the index of the one to do next
	Left    int       `msgpack:"left,omitempty"`    // while undoing: steps [0,Left) are still to be undone
	At      string    `msgpack:"at,omitempty"`      // name of the step at work, for readers without the definition
	Steps   int       `msgpack:"steps"`             // how many the definition has
	Past    bool      `msgpack:"past,omitempty"`    // the pivot succeeded
	Begun   bool      `msgpack:"begun,omitempty"`   // the intent of step At is journalled
	Unknown bool      `msgpack:"unknown,omitempty"` // it is not known whether step At took effect
	Tried   int       `msgpack:"tried,omitempty"`   // failed tries of step At, in this direction
	Lost    int       `msgpack:"lost,omitempty"`    // tries of step At whose worker went before it could journal how they ended
	Epoch   uint64    `msgpack:"epoch,omitempty"`   // the last one of which Lost knows; 0: an earlier release wrote it, which counted none
	Since   int64     `msgpack:"since"`             // step At is at work since then, Unix milliseconds
	Started int64     `msgpack:"started"`           // Unix milliseconds
	Ended   int64     `msgpack:"ended,omitempty"`   // Unix milliseconds
	State   []byte    `msgpack:"state"`             // S after the last completed step
	Last    []attempt `msgpack:"last,omitempty"`    // at most MaxAttempts, oldest first
	Failed  int       `msgpack:"failed,omitempty"`  // failed tries in all, of every step
	Cause   *cause    `msgpack:"cause,omitempty"`   // why it is undoing or undone
	Stuck   *cause    `msgpack:"stuck,omitempty"`   // why it is stuck
}

type attempt struct {
	Step string `msgpack:"step"`
	Undo bool   `msgpack:"undo,omitempty"`
	N    int    `msgpack:"n"`
	At   int64  `msgpack:"at"`   // its end, Unix milliseconds
	Took int64  `msgpack:"took"` // milliseconds
	Kind string `msgpack:"kind"`
	Err  string `msgpack:"err"`
}

type cause struct {
	Step    string `msgpack:"step,omitempty"`
	Code    string `msgpack:"code,omitempty"`
	Message string `msgpack:"message"`
	Cancel  bool   `msgpack:"cancel,omitempty"`
}

func (r *record) encode() ([]byte, error) {
	b, err := msgpack.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the journal record: %w", err)
	}
	return b, nil
}

func decodeRecord(b []byte) (record, error) {
	var r record
	if err := msgpack.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("%w: %s", ErrFormat, err.Error())
	}
	switch {
	case r.V > recordVersion:
		return record{}, fmt.Errorf("%w: format %d is of a newer release, this one reads up to %d", ErrFormat, r.V, recordVersion)
	case r.V < 1 || r.Name == "" || r.Version < 1 || r.Phase > Stuck || r.Phase == Pending:
		return record{}, fmt.Errorf("%w: it names no run", ErrFormat)
	case r.Step < 0 || r.Step > r.Steps || r.Left < 0 || r.Left > r.Steps:
		return record{}, fmt.Errorf("%w: step %d, to undo %d, of %d", ErrFormat, r.Step, r.Left, r.Steps)
	case r.Phase == Stuck && r.From != Running && r.From != Undoing:
		return record{}, fmt.Errorf("%w: stuck in phase %s", ErrFormat, r.From)
	}
	return r, nil
}

// note adds a failed try, and drops the oldest beyond the bound.
func (r *record) note(a attempt) {
	r.Failed++
	r.Last = append(slices.Clip(r.Last), a) // a copy: other records share the old one
	if n := len(r.Last) - MaxAttempts; n > 0 {
		r.Last = r.Last[n:]
	}
}

// firstEpoch is that of the first worker, who finds no try of another one.
const firstEpoch = 1

// lose counts the tries that were lost by the time a worker has the run in this epoch: one for each take-over that was
// followed by no entry. It may have ended before its try began, too: that is not journalled, so that a step costs no
// entry more.
func (r *record) lose(epoch uint64) {
	if r.Epoch > 0 && epoch > r.Epoch && (r.Phase == Running || r.Phase == Undoing) {
		r.Lost += int(min(epoch-r.Epoch, math.MaxInt32))
	}
	r.Epoch = max(r.Epoch, epoch)
}

// released says that nobody works on the run: the next take-over loses no try.
func (r *record) released() {
	r.Lost = 0
	if r.Epoch > 0 {
		r.Epoch++
	}
}

func (c *cause) export() *Cause {
	if c == nil {
		return nil
	}
	return &Cause{Step: c.Step, Code: c.Code, Message: c.Message, Cancel: c.Cancel}
}

// shorten cuts a text to MaxError bytes of valid UTF-8.
func shorten(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= MaxError {
		return s
	}
	const more = "…"
	s = s[:MaxError-len(more)]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + more
}

// Status is what a record says of its run, for people and programs.
type Status struct {
	Name    string // of the definition
	Version int
	Phase   Phase
	From    Phase // while Stuck: the phase it goes on with
	Step    string
	Index   int // of Step, from 0
	Steps   int
	Past    bool // past the pivot
	Unknown bool // it is not known whether Step took effect
	Tried   int  // failed tries of Step
	Lost    int  // tries of Step whose worker went before it could journal how they ended
	Failed  int  // failed tries of all steps
	Since   time.Time
	Started time.Time
	Ended   time.Time // zero: it has not
	Cause   *Cause    // why it is undoing or undone
	Stuck   *Cause    // why it is stuck
	Cancel  *CancelRequest
	Last    []Attempt // the last failed tries, oldest first
	State   []byte    // msgpack of S after the last completed step
}

// Attempt is a failed try of a step.
type Attempt struct {
	Step    string
	Undo    bool
	N       int
	At      time.Time
	Took    time.Duration
	Kind    string // retry, permanent, unknown
	Message string
}

// Attempt is the number of the try of Step that is under way or comes next, or of the last one if the run is stuck.
// It counts the failed tries and the lost ones.
func (st Status) Attempt() int {
	n := st.Tried + st.Lost
	if st.Phase != Stuck {
		n++
	}
	return n
}

// Fold reads a record. It is pure: the executor, the API and tools use the same. Nil is a run of which
// nothing was journalled. What was lost since the record was written is not counted: see Head.Status. ErrFormat.
func Fold(rec []byte) (Status, error) { return Head{Record: rec}.Status() }

func (r *record) status() Status {
	st := Status{
		Name: r.Name, Version: r.Version, Phase: r.Phase, From: r.From, Step: r.At, Index: r.Step, Steps: r.Steps,
		Past: r.Past, Unknown: r.Unknown, Tried: r.Tried, Lost: r.Lost, Failed: r.Failed, Since: fromMilli(r.Since),
		Started: fromMilli(r.Started), Ended: fromMilli(r.Ended), Cause: r.Cause.export(), Stuck: r.Stuck.export(), State: r.State,
	}
	if r.Phase == Undoing || r.Phase == Stuck && r.From == Undoing {
		st.Index = max(r.Left-1, 0)
	}
	for _, a := range r.Last {
		st.Last = append(st.Last, Attempt{Step: a.Step, Undo: a.Undo, N: a.N, At: fromMilli(a.At),
			Took: time.Duration(a.Took) * time.Millisecond, Kind: a.Kind, Message: a.Err})
	}
	return st
}

func fromMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
