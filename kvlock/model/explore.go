package model

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Result is what an exploration found.
type Result struct {
	States   int
	Steps    int64 // that lead from one of them to another
	Depth    int   // of the farthest one
	Violated Property
	Trace    []Moment // the shortest way to the violation
	Whole    bool     // all states were looked at
	Kinds    []Kind   // of the steps that were possible somewhere
}

// Moment is a step with the state that it leads to.
type Moment struct {
	Step  Step
	State State
}

// id names a state that was found: its shard, and its place there.
type id uint64

const shardBits = 6

func (i id) shard() int { return int(i & (1<<shardBits - 1)) }
func (i id) place() int { return int(i >> shardBits) }

// shard is a part of the states that were found: a hash table of places in a list.
type shard struct {
	mu     sync.Mutex
	states []Packed
	from   []id
	table  []uint32 // 1 + place
	ends   []int    // of the levels of the search, in states
}

// search is one exploration.
type search struct {
	m      *Model
	limit  int
	shards [1 << shardBits]shard
	found  atomic.Int64
	steps  atomic.Int64
	kinds  [kinds]atomic.Bool

	mu   sync.Mutex
	best *hit
}

// hit is a violation: of the last one of the states, or of the step that leads to it.
type hit struct {
	from  id
	to    Packed
	broke Property
}

func hash(p Packed) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, w := range p {
		h ^= w
		h *= 0xbf58476d1ce4e5b9
		h ^= h >> 29
	}
	h *= 0x94d049bb133111eb
	return h ^ h>>32
}

// add finds the state, or adds it. It says whether it is new.
func (x *search) add(p Packed, from id) bool {
	h := hash(p)
	sh := &x.shards[h&(1<<shardBits-1)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if 2*len(sh.states) >= len(sh.table) {
		sh.grow()
	}
	mask := uint64(len(sh.table) - 1)
	at := h >> shardBits & mask
	for ; sh.table[at] != 0; at = (at + 1) & mask {
		if sh.states[sh.table[at]-1] == p {
			return false
		}
	}
	sh.states = append(sh.states, p)
	sh.from = append(sh.from, from)
	sh.table[at] = uint32(len(sh.states))
	x.found.Add(1)
	return true
}

func (sh *shard) grow() {
	sh.table = make([]uint32, max(1<<10, 2*len(sh.table)))
	mask := uint64(len(sh.table) - 1)
	for i, p := range sh.states {
		at := hash(p) >> shardBits & mask
		for sh.table[at] != 0 {
			at = (at + 1) & mask
		}
		sh.table[at] = uint32(i + 1)
	}
}

// lookup returns a state that was added.
func (x *search) lookup(p Packed) (id, bool) {
	h := hash(p)
	n := h & (1<<shardBits - 1)
	sh := &x.shards[n]
	if len(sh.table) == 0 {
		return 0, false
	}
	mask := uint64(len(sh.table) - 1)
	for at := h >> shardBits & mask; sh.table[at] != 0; at = (at + 1) & mask {
		if place := sh.table[at] - 1; sh.states[place] == p {
			return id(place)<<shardBits | id(n), true
		}
	}
	return 0, false
}

// Explore looks at all states that the model can reach, nearest first, until one violates a property, or more than limit were found
// (0: no limit). Then it looks for progress.
func Explore(m *Model, limit int) Result {
	x := &search{m: m, limit: limit}
	var begin State
	x.add(m.Pack(&begin), 0)
	depth := 0
	for ; x.level() && x.best == nil && (limit == 0 || int(x.found.Load()) <= limit); depth++ {
		x.expand()
	}
	r := Result{States: int(x.found.Load()), Steps: x.steps.Load(), Depth: depth - 1}
	for k := range kinds {
		if x.kinds[k].Load() {
			r.Kinds = append(r.Kinds, k)
		}
	}
	r.Whole = x.best == nil && (limit == 0 || r.States <= limit)
	if r.Whole {
		x.progress()
	}
	if x.best != nil {
		r.Violated = x.best.broke
		r.Trace = x.trace(x.best)
	}
	return r
}

// level ends a level of the search, and says whether it found anything.
func (x *search) level() bool {
	more := false
	for i := range x.shards {
		sh := &x.shards[i]
		if n := len(sh.ends); n == 0 && len(sh.states) > 0 || n > 0 && sh.ends[n-1] < len(sh.states) {
			more = true
		}
		sh.ends = append(sh.ends, len(sh.states))
	}
	return more
}

// span is the places of a shard's states of one level.
func (sh *shard) span(level int) (from, to int) {
	if level > 0 {
		from = sh.ends[level-1]
	}
	return from, sh.ends[level]
}

// piece is how many states a goroutine takes at once.
const piece = 1 << 10

// each calls do for all states of a level, side by side.
func (x *search) each(level int, do func(worker int, states []Packed, first id)) {
	type part struct{ shard, from, to int }
	var parts []part
	for i := range x.shards {
		from, to := x.shards[i].span(level)
		for ; from < to; from += piece {
			parts = append(parts, part{i, from, min(from+piece, to)})
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	lists := make([][]Packed, len(x.shards)) // as they are now: others append
	for i := range x.shards {
		lists[i] = x.shards[i].states
	}
	for w := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := next.Add(1) - 1; int(n) < len(parts); n = next.Add(1) - 1 {
				p := parts[n]
				do(w, lists[p.shard][p.from:p.to], id(p.from)<<shardBits|id(p.shard))
			}
		})
	}
	wg.Wait()
}

// expand makes all steps from the states of the last level.
func (x *search) expand() {
	level := len(x.shards[0].ends) - 1
	x.each(level, func(_ int, states []Packed, first id) {
		var steps int64
		for i, p := range states {
			from := first + id(i)<<shardBits
			s := x.m.Unpack(p)
			x.m.Steps(&s, false, func(st Step, t *State, broke Property) {
				to := x.m.Pack(t)
				if to == p {
					return
				}
				steps++
				if !x.kinds[st.Kind].Load() {
					x.kinds[st.Kind].Store(true)
				}
				if broke == "" && !x.add(to, from) {
					return
				}
				if broke == "" {
					broke = x.m.Violated(t)
				}
				if broke != "" {
					x.hit(hit{from, to, broke})
				}
			})
		}
		x.steps.Add(steps)
	})
}

// hit keeps one violation of the level, always the same one.
func (x *search) hit(h hit) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.best == nil || slices.Compare(h.to[:], x.best.to[:]) < 0 {
		x.best = &h
	}
}

// trace returns the steps that lead to a violation.
func (x *search) trace(h *hit) []Moment {
	var begin State
	start := x.m.Pack(&begin)
	way := []Packed{h.to}
	for at, p := h.from, h.to; p != start; at = x.shards[at.shard()].from[at.place()] {
		p = x.shards[at.shard()].states[at.place()]
		way = append(way, p)
	}
	slices.Reverse(way)
	trace := make([]Moment, len(way)-1)
	for i := range trace {
		s := x.m.Unpack(way[i])
		found := false
		x.m.Steps(&s, false, func(st Step, t *State, _ Property) {
			if !found && x.m.Pack(t) == way[i+1] {
				trace[i], found = Moment{st, *t}, true
			}
		})
		if !found {
			panic(fmt.Sprintf("model: no step leads from state %d of a trace to the next", i))
		}
	}
	return trace
}
