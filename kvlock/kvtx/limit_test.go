package kvtx_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TestThousandsOfCallersOfAServerThatStandsStill: each gets an answer, most at once; the memory is bounded; nothing of it is left, and it goes
// on when the server is back.
func TestThousandsOfCallersOfAServerThatStandsStill(t *testing.T) { // not beside others, whose memory it would see
	const (
		callers, rounds = 400, 20
		commits         = 200
		payload         = 32 << 10
		bytes           = commits * (payload + 8<<10)
	)
	srv := natstest.Start(t)
	s := srv.Store(t, kvtx.WithLimit(commits, bytes))
	get(t, s, "k.known")
	srv.Stop()
	var busy, ended atomic.Int64
	heap := heapNow()
	var mostHeap uint64
	watch, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-watch:
				return
			case <-time.After(100 * time.Millisecond):
				n, b := kvtx.UnderWay(s)
				if n > commits || b > bytes || kvtx.Waiting(s) > commits {
					t.Errorf("%d commits with %d bytes under way, %d waiting", n, b, kvtx.Waiting(s))
				}
				mostHeap = max(mostHeap, heapNow())
			}
		}
	}()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for round := range rounds {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				err := call(ctx, s, fmt.Sprintf("k.%d.%d", i, round), make([]byte, payload), (i+round)%3)
				cancel()
				switch {
				case errors.Is(err, kvtx.ErrBusy):
					busy.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					ended.Add(1)
				default:
					t.Errorf("call = %v, want ErrBusy or the end of the context", err)
				}
			}
		})
	}
	all.Wait()
	close(watch)
	<-watched
	if busy.Load() == 0 || ended.Load() == 0 || busy.Load()+ended.Load() != callers*rounds {
		t.Errorf("%d calls were refused, %d ended with their context; %d were made", busy.Load(), ended.Load(), callers*rounds)
	}
	if mostHeap > heap+4*bytes {
		t.Errorf("the heap grew from %d to %d bytes", heap, mostHeap)
	}
	if n, b := kvtx.UnderWay(s); n != 0 || b != 0 {
		t.Errorf("%d commits with %d bytes are left under way", n, b)
	}
	if n := kvtx.Waiting(s); n != 0 {
		t.Errorf("%d commits are left waiting for callers that have gone", n)
	}
	srv.Restart(t)
	if err := call(ctx(t), s, "k.last", nil, 0); err != nil {
		t.Errorf("when the server is back: %v", err)
	}
}

// call makes a commit of one of three kinds.
func call(ctx context.Context, s *kvtx.Store, key string, value []byte, kind int) error {
	stage := func(_ kvtx.Snapshot, tx *kvtx.Tx) error {
		tx.Put(key, value, 0)
		tx.Put(key+".too", nil, 0)
		return nil
	}
	var err error
	switch kind {
	case 0: // reads first
		_, err = s.Update(ctx, []string{key}, stage, kvtx.Holds(len(value)))
	case 1: // waits at once
		_, err = s.Update(ctx, nil, stage, kvtx.AssumeAbsent(key, key+".too"), kvtx.Holds(len(value)))
	default: // of fixed values
		var tx kvtx.Tx
		_ = stage(nil, &tx)
		_, err = s.Commit(ctx, &tx)
	}
	return err
}

func heapNow() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestWhatYieldsLeavesHalfOfTheLimitToTheOthers: what begins something is refused while what ends something goes on.
func TestWhatYieldsLeavesHalfOfTheLimitToTheOthers(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	s := newStore(t, kvtx.WithLimit(4, 1<<20), kvtx.WithInterceptor(func(ctx context.Context, _ kvtx.Call, next func(context.Context) error) error {
		<-hold
		return next(ctx)
	}))
	var all sync.WaitGroup
	update := func(i int, opts ...kvtx.UpdateOption) error {
		key := fmt.Sprint("k.", i)
		_, err := s.Update(ctx(t), []string{key}, func(_ kvtx.Snapshot, tx *kvtx.Tx) error { tx.Put(key, nil, 0); return nil }, opts...)
		return err
	}
	start := func(n int, opts ...kvtx.UpdateOption) {
		before, _ := kvtx.UnderWay(s)
		all.Go(func() {
			if err := update(n, opts...); err != nil {
				t.Error(err)
			}
		})
		until(t, func() bool { n, _ := kvtx.UnderWay(s); return n == before+1 })
	}
	start(1, kvtx.Yields())
	start(2, kvtx.Yields())
	if err := update(3, kvtx.Yields()); !errors.Is(err, kvtx.ErrBusy) {
		t.Errorf("at half of the limit what yields = %v, want ErrBusy", err)
	}
	start(4)
	start(5)
	if err := update(6); !errors.Is(err, kvtx.ErrBusy) {
		t.Errorf("at the limit = %v, want ErrBusy", err)
	}
	close(hold)
	all.Wait()
	if err := update(7, kvtx.Holds(2<<20)); err != nil {
		t.Errorf("one that is larger than the limit, alone = %v", err)
	}
}

// TestTheEndOfAContextIsHonoured: no call outlives its context while the server does not answer. One that did would never end: it does not come back.
func TestTheEndOfAContextIsHonoured(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	s := srv.Store(t, kvtx.WithAckTimeout(24*time.Hour))
	commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0); tx.Put("k.b", []byte("1"), 0) })
	bare := s.Bare(100)
	srv.Stop()
	for name, call := range map[string]func(ctx context.Context) error{
		"Get":     func(ctx context.Context) error { _, err := s.Get(ctx, "k.a"); return err },
		"GetMany": func(ctx context.Context) error { _, err := s.GetMany(ctx, "k.a", "k.b"); return err },
		"Update, which reads": func(ctx context.Context) error {
			return call(ctx, s, "k.c", nil, 0)
		},
		"Update, which waits": func(ctx context.Context) error { return call(ctx, s, "k.d", nil, 1) },
		"Commit":              func(ctx context.Context) error { return call(ctx, s, "k.e", nil, 2) },
		"Watch": func(ctx context.Context) error {
			return s.Watch(ctx, []string{"k.*"}, func(kvtx.Event) error { return nil })
		},
		"Scan":       func(ctx context.Context) error { return s.Scan(ctx, "k.*", func(kvtx.Entry) error { return nil }) },
		"Bare.Batch": func(ctx context.Context) error { _, err := bare.Batch(ctx, 2); return err },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want that of its context", err)
			}
		})
	}
}
