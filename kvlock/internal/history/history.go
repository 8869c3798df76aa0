// Package history keeps what clients saw of locks, registers and sets, and says whether it may have been so.
//
// The nouns:
//
//   - call: what one client asked for, from the moment before it was sent until its answer.
//   - part: a key, or a few that are changed together, whose history is checked by itself.
//   - event: what a call did to one part: a [Lock], a [Registers] or a [Set].
//   - model: what a part may do, one event after another.
//
// Invariants: an event lies between the beginning and the end of its call. One that was only perhaps made ([Call.MayHave]) may lie at any
// time after the beginning, or nowhere; one that is not recorded was not made.
//
// What it does not do: it knows no server and no faults; kvlock/linearizability has them. It is for tests.
package history

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// Recorder collects the events of one workload. It is safe for concurrent use.
type Recorder struct {
	begin   time.Time
	pending atomic.Int64
	ended   atomic.Int64

	mu    sync.Mutex
	parts map[string][]porcupine.Operation
}

// NewRecorder returns one without events.
func NewRecorder() *Recorder {
	return &Recorder{begin: time.Now(), parts: map[string][]porcupine.Operation{}}
}

// Pending is how many calls have begun and not ended.
func (r *Recorder) Pending() int64 { return r.pending.Load() }

// Ended is how many calls have ended.
func (r *Recorder) Ended() int64 { return r.ended.Load() }

// Call is one call that has begun.
type Call struct {
	r  *Recorder
	at int64
}

// Begin begins a call. End must be called.
func (r *Recorder) Begin() Call {
	r.pending.Add(1)
	return Call{r: r, at: time.Since(r.begin).Nanoseconds()}
}

// End ends the call: its client can begin the next one.
func (c Call) End() {
	c.r.pending.Add(-1)
	c.r.ended.Add(1)
}

// Saw records what the call did to a part: it has happened by now.
func (c Call) Saw(part string, event any) {
	c.add(part, event, true, time.Since(c.r.begin).Nanoseconds())
}

// MayHave records what the call may have done to a part, or may still do, or not.
func (c Call) MayHave(part string, event any) { c.add(part, event, false, math.MaxInt64) }

func (c Call) add(part string, event any, certain bool, end int64) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.parts[part] = append(c.r.parts[part], porcupine.Operation{Input: event, Output: certain, Call: c.at, Return: end})
}

// Check says which parts have a history that the model cannot have, or one that was not decided within limit.
func (r *Recorder) Check(model porcupine.Model, limit time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, part := range slices.Sorted(maps.Keys(r.parts)) {
		switch ops := r.parts[part]; porcupine.CheckOperationsTimeout(model, ops, limit) {
		case porcupine.Ok:
		case porcupine.Illegal:
			errs = append(errs, fmt.Errorf("%s: what the clients saw cannot have been:%s", part, story(ops)))
		case porcupine.Unknown:
			errs = append(errs, fmt.Errorf("%s: the history of %d events was not decided in %v", part, len(ops), limit))
		}
	}
	return errors.Join(errs...)
}

// Count is how many events match.
func (r *Recorder) Count(match func(event any, certain bool) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, ops := range r.parts {
		for _, op := range ops {
			if match(op.Input, op.Output.(bool)) {
				n++
			}
		}
	}
	return n
}

// story is the events in the order in which they began.
func story(ops []porcupine.Operation) string {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	text := ""
	for _, op := range ops {
		end := "perhaps"
		if op.Output.(bool) {
			end = fmt.Sprint(time.Duration(op.Return).Round(time.Microsecond))
		}
		text += fmt.Sprintf("\n  %v to %s: %+v", time.Duration(op.Call).Round(time.Microsecond), end, op.Input)
	}
	return text
}

// modelOf makes a model of a step function. A step says whether the event can happen in the state, and what is then; an event that was only
// perhaps made can also have been nothing.
func modelOf[S comparable, E any](step func(state S, event E) (S, bool)) porcupine.Model {
	return porcupine.Model{
		Init: func() any { var zero S; return zero },
		Step: func(state, input, certain any) (bool, any) {
			next, ok := step(state.(S), input.(E))
			if ok {
				return true, next
			}
			return !certain.(bool), state
		},
	}
}
