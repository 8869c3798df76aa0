package view

import (
	"cmp"
	"slices"
	"sync"
)

// Fault is a record that cannot be read: it is broken, or of a newer release.
type Fault struct {
	Key string
	Err error
}

type faults struct {
	mu    sync.Mutex
	byKey map[string]error
}

func (f *faults) add(key string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKey == nil {
		f.byKey = map[string]error{}
	}
	f.byKey[key] = err
}

func (f *faults) remove(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byKey, key)
}

// Faults returns the records that cannot be read, by key. The view shows them as they last could be, or not at all.
func (v *View) Faults() []Fault {
	v.faults.mu.Lock()
	defer v.faults.mu.Unlock()
	all := make([]Fault, 0, len(v.faults.byKey))
	for k, err := range v.faults.byKey {
		all = append(all, Fault{Key: k, Err: err})
	}
	slices.SortFunc(all, func(a, b Fault) int { return cmp.Compare(a.Key, b.Key) })
	return all
}
