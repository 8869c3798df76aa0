package intake

import (
	"sync"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/saga"
)

// table is what runs in this process, by operation.
type table struct {
	mu      sync.Mutex
	running map[string]*running
}

// running is an operation that this process has at work, with the deliveries that told of it.
type running struct {
	id      string
	backend string
	slot    *slot
	// deliveries by stream sequence, the newest delivery of each message: only its acknowledgement is the one to give.
	// Guarded by the table.
	deliveries map[uint64]delivery

	// Of the goroutine that runs it:

	op    messages.Operation // how it stands, for events
	steps []string
}

func newTable() *table { return &table{running: make(map[string]*running)} }

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.running)
}

// enter begins the work on a delivery's operation. If it is at work here already, the delivery joins it, and enter
// returns false.
func (t *table) enter(d delivery, s *slot) (*running, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.running[d.operation]; r != nil {
		r.deliveries[d.sequence] = d
		return r, false
	}
	r := &running{id: d.operation, backend: d.backend, slot: s, deliveries: map[uint64]delivery{d.sequence: d}}
	t.running[d.operation] = r
	return r, true
}

// leave ends the work on an operation and returns all its deliveries: none joins it any more.
func (t *table) leave(r *running) []delivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, r.id)
	all := make([]delivery, 0, len(r.deliveries))
	for _, d := range r.deliveries {
		all = append(all, d)
	}
	return all
}

func (t *table) find(id saga.ID) *running {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[string(id)]
}

func (t *table) has(id string) bool { return t.find(saga.ID(id)) != nil }

// deliveries returns all that are held at the moment.
func (t *table) deliveries() []delivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]delivery, 0, len(t.running))
	for _, r := range t.running {
		for _, d := range r.deliveries {
			all = append(all, d)
		}
	}
	return all
}
