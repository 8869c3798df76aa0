package sagatest_test

import (
	"sync"
	"testing"

	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

func TestMemoryConforms(t *testing.T) {
	t.Parallel()
	sagatest.Conformance(t, func(t *testing.T) sagatest.Bench {
		var mu sync.Mutex
		written := make(map[string]bool)
		return sagatest.Bench{
			Journal: saga.NewMemory(),
			Write: func(key string) saga.Write {
				return saga.MemoryWrite{Apply: func() {
					mu.Lock()
					defer mu.Unlock()
					written[key] = true
				}}
			},
			Refuse: func(err error) saga.Write { return saga.MemoryWrite{Refuse: func() error { return err }} },
			Written: func(_ *testing.T, key string) bool {
				mu.Lock()
				defer mu.Unlock()
				return written[key]
			},
		}
	})
}
