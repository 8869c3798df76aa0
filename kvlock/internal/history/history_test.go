package history

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/scoria-storage/scoria/kvlock"
)

// at is an event between two moments; perhaps is one that began at a moment and was perhaps not made.
func at(call, end int64, event any) porcupine.Operation {
	return porcupine.Operation{Input: event, Output: true, Call: call, Return: end}
}

func perhaps(call int64, event any) porcupine.Operation {
	return porcupine.Operation{Input: event, Output: false, Call: call, Return: math.MaxInt64}
}

func take(owner string, mode kvlock.Mode) Lock { return Lock{Verb: Take, Owner: owner, Mode: mode} }

func give(owner string) Lock { return Lock{Verb: Give, Owner: owner} }

// TestPlantedViolationsAreFound: each model takes what may be, and finds what may not.
func TestPlantedViolationsAreFound(t *testing.T) {
	t.Parallel()
	const x, s = kvlock.ModeExclusive, kvlock.ModeShared
	type saw = map[int]string
	for _, c := range []struct {
		name  string
		model porcupine.Model
		want  bool
		ops   []porcupine.Operation
	}{
		{"readers together", Locks, true, []porcupine.Operation{at(0, 1, take("a", s)), at(2, 3, take("b", s)), at(4, 5, give("a"))}},
		{"handed over while the release runs", Locks, true, []porcupine.Operation{at(0, 1, take("a", x)), at(2, 9, give("a")), at(3, 4, take("b", x))}},
		{"a reader beside one that was a writer", Locks, true, []porcupine.Operation{
			at(0, 1, take("a", x)), at(2, 3, Lock{Verb: Downgrade, Owner: "a"}), at(4, 5, take("b", s)), at(6, 7, give("a")),
		}},
		{"refused by a holder", Locks, true, []porcupine.Operation{at(0, 1, take("a", x)), at(2, 3, Lock{Verb: Refuse, Owner: "b", Mode: s, Holders: "a"})}},
		{"two writers", Locks, false, []porcupine.Operation{at(0, 1, take("a", x)), at(2, 3, take("b", x))}},
		{"a reader beside a writer", Locks, false, []porcupine.Operation{at(0, 1, take("a", x)), at(2, 3, take("b", s))}},
		{"a writer beside a reader", Locks, false, []porcupine.Operation{at(0, 1, take("a", s)), at(2, 3, take("b", x))}},
		{"a writer beside one that was a writer", Locks, false, []porcupine.Operation{
			at(0, 1, take("a", x)), at(2, 3, Lock{Verb: Downgrade, Owner: "a"}), at(4, 5, take("b", x)),
		}},
		{"downgraded by another", Locks, false, []porcupine.Operation{at(0, 1, take("a", x)), at(2, 3, Lock{Verb: Downgrade, Owner: "b"})}},
		{"refused for nothing", Locks, false, []porcupine.Operation{at(0, 1, Lock{Verb: Refuse, Owner: "a", Mode: x})}},
		{"refused by the wrong one", Locks, false, []porcupine.Operation{at(0, 1, take("a", x)), at(2, 3, Lock{Verb: Refuse, Owner: "b", Mode: x, Holders: "c"})}},
		{"given back twice", Locks, false, []porcupine.Operation{at(0, 1, take("a", x)), at(2, 3, give("a")), at(4, 5, give("a"))}},

		{"a write that was perhaps made, seen late", Transactions, true, []porcupine.Operation{
			perhaps(0, Registers{Wrote: saw{0: "1"}}), at(1, 2, Registers{Saw: saw{0: ""}}), at(3, 4, Registers{Saw: saw{0: "1"}}),
		}},
		{"a write that was perhaps made, never seen", Transactions, true, []porcupine.Operation{
			perhaps(0, Registers{Saw: saw{0: "7"}, Wrote: saw{0: "1"}}), at(1, 2, Registers{Saw: saw{0: ""}}),
		}},
		{"an old read", Transactions, false, []porcupine.Operation{
			at(0, 1, Registers{Wrote: saw{0: "1"}}), at(2, 3, Registers{Wrote: saw{0: "2"}}), at(4, 5, Registers{Saw: saw{0: "1"}}),
		}},
		{"half of a commit", Transactions, false, []porcupine.Operation{
			at(0, 1, Registers{Wrote: saw{0: "1", 1: "1"}}), at(2, 3, Registers{Saw: saw{0: "1", 1: ""}}),
		}},
		{"two exchanges of one value", Transactions, false, []porcupine.Operation{
			at(0, 9, Registers{Saw: saw{0: ""}, Wrote: saw{0: "1"}}), at(0, 9, Registers{Saw: saw{0: ""}, Wrote: saw{0: "2"}}),
		}},
		{"seen, gone, seen again", Transactions, false, []porcupine.Operation{
			perhaps(0, Registers{Wrote: saw{0: "1"}}), at(1, 2, Registers{Saw: saw{0: "1"}}), at(3, 4, Registers{Saw: saw{0: ""}}), at(5, 6, Registers{Saw: saw{0: "1"}}),
		}},

		{"a set that grows", Sets, true, []porcupine.Operation{at(0, 1, Set{Add: "a"}), perhaps(1, Set{Add: "b"}), at(2, 3, Set{Saw: []string{"b", "a"}})}},
		{"an element that was lost", Sets, false, []porcupine.Operation{at(0, 1, Set{Add: "a"}), at(2, 3, Set{Add: "b"}), at(4, 5, Set{Saw: []string{"b"}})}},
		{"an element that nobody added", Sets, false, []porcupine.Operation{at(0, 1, Set{Saw: []string{"a"}}), at(2, 3, Set{Add: "a"})}},
	} {
		if got := porcupine.CheckOperations(c.model, c.ops); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestARecordedViolationIsTold: the whole way from the recorder to the words.
func TestARecordedViolationIsTold(t *testing.T) {
	t.Parallel()
	r := NewRecorder()
	for _, owner := range []string{"one", "two"} {
		c := r.Begin()
		c.Saw("good", Set{Add: owner})
		c.Saw("bad", take(owner, kvlock.ModeExclusive))
		c.End()
	}
	if r.Pending() != 0 || r.Ended() != 2 || r.Count(func(e any, certain bool) bool { return certain }) != 4 {
		t.Errorf("%d pending, %d ended", r.Pending(), r.Ended())
	}
	locks := NewRecorder()
	locks.parts["bad"] = r.parts["bad"]
	err := locks.Check(Locks, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "bad: ") || !strings.Contains(err.Error(), "Owner:two") {
		t.Errorf("Check of two writers = %v, want the part and its events", err)
	}
}

// TestWhoPassesIsFound: the order of a line.
func TestWhoPassesIsFound(t *testing.T) {
	t.Parallel()
	x, s := []kvlock.Claim{kvlock.Exclusive("a")}, []kvlock.Claim{kvlock.Shared("a"), kvlock.Shared("b")}
	for _, c := range []struct {
		name  string
		turns []Turn
		fair  bool
	}{
		{"one after another", []Turn{{"1", x, 1, 1}, {"2", x, 2, 5}, {"3", x, 3, 8}}, true},
		{"readers at once", []Turn{{"1", x, 1, 1}, {"2", s, 2, 6}, {"3", s, 3, 5}}, true},
		{"a writer passed a writer", []Turn{{"1", x, 1, 1}, {"2", x, 2, 8}, {"3", x, 3, 5}}, false},
		{"a reader passed a waiting writer", []Turn{{"1", s, 1, 1}, {"2", x, 2, 8}, {"3", s, 3, 3}}, false},
	} {
		if err := FairOrder(c.turns); (err == nil) != c.fair {
			t.Errorf("%s: %v, want fair: %v", c.name, err, c.fair)
		}
	}
}
