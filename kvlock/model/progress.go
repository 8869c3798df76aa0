package model

import "sync/atomic"

// marks is a set of states.
type marks [1 << shardBits][]atomic.Uint32

func (m *marks) has(i id) bool { return m[i.shard()][i.place()/32].Load()&(1<<(i.place()%32)) != 0 }
func (m *marks) add(i id)      { m[i.shard()][i.place()/32].Or(1 << (i.place() % 32)) }

// progress looks for a state from which fair steps alone never lead to the end. It marks those that are the end, then, last levels first
// and until nothing changes, those from which a fair step leads to one that is marked.
func (x *search) progress() {
	var good marks
	for i := range x.shards {
		good[i] = make([]atomic.Uint32, len(x.shards[i].states)/32+1)
	}
	left := x.found.Load()
	for {
		var marked atomic.Int64
		for level := len(x.shards[0].ends) - 1; level >= 0; level-- {
			x.each(level, func(_ int, states []Packed, first id) {
				for i, p := range states {
					if at := first + id(i)<<shardBits; !good.has(at) && x.leads(p, &good) {
						good.add(at)
						marked.Add(1)
					}
				}
			})
		}
		if left -= marked.Load(); left == 0 {
			return
		}
		if marked.Load() == 0 {
			break
		}
	}
	for level := 0; x.best == nil; level++ {
		x.each(level, func(_ int, states []Packed, first id) {
			for i, p := range states {
				if at := first + id(i)<<shardBits; !good.has(at) {
					x.hit(hit{x.shards[at.shard()].from[at.place()], p, Progress})
				}
			}
		})
	}
}

// leads says whether the state is the end, or a fair step leads to a marked one.
func (x *search) leads(p Packed, good *marks) bool {
	s := x.m.Unpack(p)
	if x.m.Over(&s) {
		return true
	}
	found := false
	x.m.Steps(&s, true, func(st Step, t *State, _ Property) {
		if found || !st.Fair {
			return
		}
		to := x.m.Pack(t)
		if to == p {
			return
		}
		if at, ok := x.lookup(to); ok && good.has(at) {
			found = true
		}
	})
	return found
}
