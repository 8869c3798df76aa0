package kvtx_test

import (
	"context"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Whoever asks for a key that is being written gets what was written, not a miss and not the value before.
func TestCachedWaitsForTheBatchThatWritesTheKey(t *testing.T) {
	t.Parallel()
	reached, goOn := make(chan struct{}), make(chan struct{})
	s := newStore(t, kvtx.WithInterceptor(func(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
		err := next(ctx)
		if call.Kind == kvtx.Batch {
			close(reached) // it is applied, its answer is not here yet
			<-goOn
		}
		return err
	}))
	committed := make(chan error, 1)
	go func() {
		var tx kvtx.Tx
		tx.Put("a", []byte("new"), 0)
		tx.Put("b", []byte("new"), 0)
		_, err := s.Commit(context.Background(), &tx)
		committed <- err
	}()
	<-reached
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if e, ok := s.Cached(short, "a"); ok {
		t.Errorf("before the answer it is %q", e.Value)
	}
	if _, ok := s.Cached(t.Context(), "other"); ok {
		t.Error("a key that nobody wrote is known")
	}
	found := make(chan string, 1)
	go func() {
		e, _ := s.Cached(context.Background(), "a")
		found <- string(e.Value)
	}()
	close(goOn)
	if got := <-found; got != "new" {
		t.Errorf("Cached = %q, want what the batch wrote", got)
	}
	if err := <-committed; err != nil {
		t.Error(err)
	}
}
