package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
)

// round asks the processes of all nodes what they find on the backends that keep data, all at once.
type round struct {
	ask      Asker
	silent   *sync.Map // error by who did not answer in time during this check
	nodes    []records.Node
	backends []records.Backend

	mu    sync.Mutex
	world *world // what is found goes there
}

// answer calls ask, unless who was silent before in this check: it is not waited for again.
func answer[T any](r *round, who string, ask func() (T, error)) (out T, err error) {
	if why, ok := r.silent.Load(who); ok {
		return out, why.(error)
	}
	if out, err = ask(); errors.Is(err, ErrNoAnswer) {
		r.silent.Store(who, err)
	}
	return out, err
}

func (v *Verifier) roundOf(w *world, silent *sync.Map) *round {
	r := &round{ask: v.ask, silent: silent, world: w}
	for _, name := range slices.Sorted(maps.Keys(w.backends)) {
		if b := w.backends[name]; b.KeepsData {
			r.backends = append(r.backends, b)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.nodes)) {
		if n := w.nodes[name]; slices.ContainsFunc(r.backends, func(b records.Backend) bool { return b.MayBeServedBy(&n) }) {
			r.nodes = append(r.nodes, n)
		}
	}
	return r
}

// all asks everybody, and says which backend nobody has listed.
func (r *round) all(ctx context.Context) {
	var asking sync.WaitGroup
	for _, n := range r.nodes {
		asking.Go(func() { r.node(ctx, n) })
	}
	asking.Wait()
	for _, b := range r.backends {
		if !slices.ContainsFunc(r.world.listings, func(l listing) bool { return l.backend == b.Name }) {
			r.differs("backend", b.Name, "no process of a volume node has listed it: "+r.world.unserved(b.Name))
		}
	}
}

// node asks the processes of a node.
func (r *round) node(ctx context.Context, n records.Node) {
	processes, err := answer(r, "node "+n.Name, func() ([]string, error) { return r.ask.Processes(ctx, n.Name) })
	if err != nil {
		r.differs("node", n.Name, fmt.Sprintf("none of its processes says which ones run: %v; what it serves is not known", err))
		return
	}
	var asking sync.WaitGroup
	for _, p := range processes {
		asking.Go(func() { r.process(ctx, n, p) })
	}
	asking.Wait()
}

// process asks one process for its backends, one after another.
func (r *round) process(ctx context.Context, n records.Node, process string) {
	for _, b := range r.backends {
		if !b.MayBeServedBy(&n) {
			continue
		}
		found, err := answer(r, "process "+process, func() (Listing, error) { return r.ask.List(ctx, n.Name, process, b.Name) })
		switch said, answered := errors.AsType[*messages.Error](err); {
		case err == nil:
			r.found(listing{node: n.Name, process: process, backend: b.Name, Listing: found})
		case answered && said.Code == messages.CodeNotFound: // it does not serve that one
		case answered:
			r.differs("backend", b.Name, fmt.Sprintf("process %s of node %s cannot list it: %v", process, n.Name, said))
		default:
			r.differs("node", n.Name, fmt.Sprintf("its process %s runs and gives no list: %v; what it serves is not known. "+
				"It hangs, or has lost its connection", process, err))
			return
		}
	}
}

func (r *round) found(l listing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.world.listings = append(r.world.listings, l)
}

func (r *round) differs(kind, subject, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.world.unlisted = append(r.world.unlisted, Difference{kind, subject, text})
}
