// Package sagatest tests sagas and journals.
//
// [Exhaust] meets every step of an operation with every fault and looks at what is left in the world.
// [Conformance] is the suite that every [saga.Journal] passes. [Versions] finds a definition that changed without a
// new number. [Replay] goes on with journals that earlier releases wrote.
//
// # Nouns
//
// A [World] is one operation in surroundings of its own: what it was submitted to, what it changes, and a way
// to drive it. A [Snapshot] is everything in that world that the operation might leave behind. A fault
// happens at one point of one step; a scenario is a fresh world that meets one fault. A position is where a worker
// left a run: a journal, and what the run had changed by then.
//
// # Invariants
//
// A scenario passes only if its fault was met, if the run ended as that fault allows, and if the snapshot is
// then the one expected: as before for undone, as without faults for done. A run that is stuck must say so, and
// go on after a person's request. Before all that, each planted leftover must have been seen in a snapshot, so
// that no comparison is blind.
//
// A recorded position passes only if the present code comes to the same position by the same way, and if the run that
// then has the recorded journal in place of its own ends as it did, with the same effects.
//
// # What it does not do
//
// It cannot stop a step in the middle of a call to its backend: that is for the backend's own suite. Replay makes the
// world of a position with the present code: what an earlier release left there in another form, under the same name, it
// does not see.
package sagatest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/saga"
)

// World is one operation in surroundings of its own. Exhaust makes many and uses each for one scenario, from
// one goroutine. Two fresh worlds of the same operation must have equal snapshots: fixed IDs, no times, no
// revisions.
type World interface {
	// Snapshot describes all that the operation may change or leave behind: objects of the backend and
	// their contents, temporary files, records, locks, quota and pool figures. Not the operation's own record.
	Snapshot(ctx context.Context) (Snapshot, error)

	// Submit makes the operation exist, ready to be driven. Called once, after the first snapshot.
	Submit(ctx context.Context) error

	// Drive takes the operation over as a new worker and runs it, with opts added to the executor's own. It
	// returns what saga.Executor.Run returned. On an operation that has ended it returns its status.
	// It is called again after a crash, and within itself by a second worker that takes over.
	Drive(ctx context.Context, opts ...saga.Option) (saga.Status, error)

	// Resume does what a person does to let a stuck operation be driven again.
	Resume(ctx context.Context) error

	// Leftovers lists ways to leave behind something that Snapshot must see: at least one for each kind of
	// thing that the operation makes.
	Leftovers() []Leftover
}

// Leftover plants one thing that the operation might leave behind.
type Leftover struct {
	Name  string
	Plant func(ctx context.Context) error
}

// Undoner is a World whose operation, undone, leaves something on purpose, such as a volume in error.
type Undoner interface {
	// Undone makes the expected snapshot of an undone operation from the one before it was submitted.
	Undone(before Snapshot) Snapshot
}

// Canceler is a World that can ask for its operation to be canceled. With it, Exhaust cancels during every step.
type Canceler interface {
	Cancel(ctx context.Context) error
}

// StuckChecker is a World that can say whether a stuck operation is seen to be so: its locks still held,
// its record telling why.
type StuckChecker interface {
	CheckStuck(ctx context.Context) error
}

// Fencer is a World whose backend refuses a lower fence than it has seen. With it, an overtaken worker goes
// on with its next step, and that must have no effect.
type Fencer interface {
	RefusesStaleFences()
}

// Snapshot maps the name of a thing to what it is like.
type Snapshot map[string]string

// With returns a copy with one more thing, or a changed one.
func (s Snapshot) With(name, what string) Snapshot {
	c := maps.Clone(s)
	if c == nil {
		c = make(Snapshot)
	}
	c[name] = what
	return c
}

// Without returns a copy that lacks some things.
func (s Snapshot) Without(names ...string) Snapshot {
	c := maps.Clone(s)
	for _, n := range names {
		delete(c, n)
	}
	return c
}

// Diff says how got differs from s, one line each; empty if it does not.
func (s Snapshot) Diff(got Snapshot) string {
	var b strings.Builder
	all := maps.Clone(got)
	if all == nil {
		all = make(Snapshot)
	}
	maps.Copy(all, s)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		want, was := s[name]
		have, is := got[name]
		switch {
		case was && !is:
			fmt.Fprintf(&b, "\n\t%s is gone, want %s", name, want)
		case !was && is:
			fmt.Fprintf(&b, "\n\t%s is there: %s", name, have)
		case want != have:
			fmt.Fprintf(&b, "\n\t%s is %s, want %s", name, have, want)
		}
	}
	return b.String()
}
