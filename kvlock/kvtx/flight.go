package kvtx

import (
	"context"
	"sync/atomic"
)

// flight is the batch that is being sent, for those who want to know what it writes. A dispatch can be delivered before the answer
// to its batch is here; a read from the leader would then wait behind the next batch.
type flight struct {
	keys   map[string]struct{}
	landed chan struct{} // Closed when the outcome is in the cache, or is that nothing was written.
}

type flying struct{ now atomic.Pointer[flight] }

// begin says that a batch that writes the slots is being sent; the function returned says that it is decided.
func (f *flying) begin(slots []*slot) (land func()) {
	fl := &flight{keys: make(map[string]struct{}, len(slots)), landed: make(chan struct{})}
	for _, sl := range slots {
		fl.keys[sl.key] = struct{}{}
	}
	f.now.Store(fl)
	return func() {
		f.now.Store(nil)
		close(fl.landed)
	}
}

// wait returns when no batch that writes the key is in flight, and says whether one was.
func (f *flying) wait(ctx context.Context, key string) (waited bool, err error) {
	fl := f.now.Load()
	if fl == nil {
		return false, nil
	}
	if _, writes := fl.keys[key]; !writes {
		return false, nil
	}
	select {
	case <-fl.landed:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}
