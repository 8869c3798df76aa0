package view

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/scoria-storage/scoria/messages/records"
)

// books are the records that are few or small: quotas, credits, pools, backends, nodes.
type books struct {
	mu       sync.RWMutex
	quotas   map[string]records.Quota
	credits  map[string]map[string]records.Usage // project, node
	pools    map[string]records.Pool
	backends map[string]records.Backend
	nodes    map[string]records.Node
}

func (b *books) init() {
	b.quotas = map[string]records.Quota{}
	b.credits = map[string]map[string]records.Usage{}
	b.pools = map[string]records.Pool{}
	b.backends = map[string]records.Backend{}
	b.nodes = map[string]records.Node{}
}

// set stores what a key holds, or forgets it if value is nil. It returns why the value cannot be read.
func (b *books) set(class records.Class, key, name string, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch class {
	case records.ClassQuota:
		return setBook(b.quotas, name, value)
	case records.ClassPool:
		return setBook(b.pools, name, value)
	case records.ClassBackend:
		return setBook(b.backends, name, value)
	case records.ClassNode:
		return setBook(b.nodes, name, value)
	case records.ClassCredit:
		return b.setCredit(key, value)
	case records.ClassVolume, records.ClassSnapshot, records.ClassAttachment, records.ClassOther:
	}
	return nil
}

func setBook[T records.Record](m map[string]T, name string, value []byte) error {
	if value == nil {
		delete(m, name)
		return nil
	}
	r, err := records.Decode[T](value)
	if err != nil {
		return err
	}
	m[name] = r
	return nil
}

func (b *books) setCredit(key string, value []byte) error {
	parts := strings.Split(key, ".") // quota.<project>.credit.<node>
	project, node := parts[1], parts[len(parts)-1]
	if value == nil {
		delete(b.credits[project], node)
		return nil
	}
	c, err := records.Decode[records.Credit](value)
	if err != nil {
		return err
	}
	if b.credits[project] == nil {
		b.credits[project] = map[string]records.Usage{}
	}
	b.credits[project][node] = c.Back
	return nil
}

// Quota returns the limits of a project, the defaults if it has none of its own, and what it uses: what is charged less
// the credits that were not folded in yet.
func (v *View) Quota(project string) (records.Limits, records.Usage) {
	v.books.mu.RLock()
	defer v.books.mu.RUnlock()
	q := v.books.quotas[project]
	use := q.Use
	for _, back := range v.books.credits[project] {
		use = use.Sub(back)
	}
	if q.Limits == nil {
		return v.defaults, use
	}
	return *q.Limits, use
}

// CreditNodes returns the names of the nodes that have given something back to the project and may have again, sorted.
func (v *View) CreditNodes(project string) []string {
	v.books.mu.RLock()
	defer v.books.mu.RUnlock()
	return slices.Sorted(maps.Keys(v.books.credits[project]))
}

// Backends returns all backends, by name.
func (v *View) Backends() []records.Backend {
	v.books.mu.RLock()
	defer v.books.mu.RUnlock()
	return slices.SortedFunc(maps.Values(v.books.backends), func(a, b records.Backend) int { return cmp.Compare(a.Name, b.Name) })
}

// Backend returns one backend.
func (v *View) Backend(name string) (records.Backend, bool) {
	v.books.mu.RLock()
	defer v.books.mu.RUnlock()
	b, ok := v.books.backends[name]
	return b, ok
}

// Pools returns all pools, by the name of their backend.
func (v *View) Pools() []records.Pool {
	v.books.mu.RLock()
	defer v.books.mu.RUnlock()
	return slices.SortedFunc(maps.Values(v.books.pools), func(a, b records.Pool) int { return cmp.Compare(a.Backend, b.Backend) })
}

// Pool returns the pool of one backend.
func (v *View) Pool(backend string) (records.Pool, bool) {
	v.books.mu.RLock()
	defer v.books.mu.RUnlock()
	p, ok := v.books.pools[backend]
	return p, ok
}

// Nodes returns all nodes, by name.
func (v *View) Nodes() []records.Node {
	v.books.mu.RLock()
	defer v.books.mu.RUnlock()
	return slices.SortedFunc(maps.Values(v.books.nodes), func(a, b records.Node) int { return cmp.Compare(a.Name, b.Name) })
}
