package sagakv_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// dice decides about faults; it is used by several goroutines.
type dice struct {
	mu  sync.Mutex
	rnd *rand.Rand
}

func (d *dice) one(in int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rnd.IntN(in) == 0
}

// Several workers take runs over from each other, answers are lost, workers crash, users cancel: each run ends once,
// and what it staged is committed once or, undone, taken back.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := &dice{rnd: rand.New(rand.NewPCG(seed, 0))}
	var quiet atomic.Bool
	srv := natstest.Start(t)
	lossy := kvtx.WithInterceptor(func(ctx context.Context, c kvtx.Call, next func(context.Context) error) error {
		switch {
		case quiet.Load() || c.Kind == kvtx.Read:
			return next(ctx)
		case d.one(20):
			return errors.New("the request was lost")
		}
		err := next(ctx)
		if err == nil && d.one(10) {
			return errors.New("the answer was lost")
		}
		return err
	})
	first := newStore(t, srv, lossy)
	h := &history{t: t, d: d, stores: []*kvtx.Store{first}}
	for range 2 { // each worker is a process of its own
		s, err := kvtx.Open(t.Context(), srv.JetStream(t), kvtx.Config{Bucket: first.Bucket()}, lossy)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		h.stores = append(h.stores, s)
	}
	const runs = 20
	var all sync.WaitGroup
	for i := range runs {
		id := saga.ID(fmt.Sprintf("op-%d", i))
		if err := h.journal(i).Begin(t.Context(), id, saga.Entry{Phase: saga.Pending}); err != nil && !errors.Is(err, saga.ErrExists) {
			t.Fatalf("Begin(%s) = %v", id, err)
		}
		for w := range h.stores {
			all.Go(func() { h.work(w, id) })
		}
	}
	all.Wait()
	quiet.Store(true)
	h.verify(runs)
}

type history struct {
	t      *testing.T
	d      *dice
	stores []*kvtx.Store
}

func (h *history) journal(w int) *sagakv.Journal {
	s := h.stores[w%len(h.stores)]
	return sagakv.NewJournal(s, kvlock.New(s), fmt.Sprintf("worker-%d", w%len(h.stores)), func(id saga.ID) []kvlock.Claim {
		return []kvlock.Claim{kvlock.Exclusive("run." + string(id)), kvlock.Shared("common")}
	})
}

// definition counts in a record of the run's own and in one that all runs share.
func (h *history) definition() saga.Definition[disk] {
	step := func(name string) saga.Step[disk] {
		return saga.Step[disk]{
			Name: name,
			Do: func(_ context.Context, run saga.Run, s *disk) error {
				s.Name += name
				run.Stage(count("own."+string(run.ID), 1))
				run.Stage(sagakv.Keyed{Keys: []string{"sum"}, Write: count("sum", 1)})
				if h.d.one(12) {
					return saga.Permanent(errors.New("no luck"))
				}
				return nil
			},
			Undo: func(_ context.Context, run saga.Run, s disk) error {
				if strings.Contains(s.Name, name) {
					run.Stage(count("own."+string(run.ID), -1))
					run.Stage(count("sum", -1))
				}
				return nil
			},
		}
	}
	return saga.Definition[disk]{Name: "count", Version: 1, Steps: []saga.Step[disk]{step("a"), step("b"), step("c")}}
}

// work drives a run until it has ended, whoever ended it.
func (h *history) work(w int, id saga.ID) {
	j := h.journal(w)
	around := saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if h.d.one(30) {
			return saga.Leave(errors.New("crash before"))
		}
		err := next(ctx)
		if err == nil && h.d.one(30) {
			return saga.Leave(errors.New("crash after"))
		}
		return err
	})
	for h.t.Context().Err() == nil {
		if h.d.one(20) {
			if err := j.Cancel(h.t.Context(), id, "ann"); err != nil && !errors.Is(err, saga.ErrEnded) {
				h.t.Errorf("Cancel(%s) = %v", id, err)
			}
		}
		e := saga.New(j, &saga.Registry{}, around, saga.WithWaitCeiling(time.Millisecond))
		res, err := saga.Exec(h.t.Context(), e, h.definition(), id, disk{})
		switch {
		case errors.Is(err, saga.ErrLeft), errors.Is(err, saga.ErrFenced):
		case res.Status.Phase.Ended():
			return
		default:
			h.t.Errorf("Exec(%s) = %s, %v", id, res.Status.Phase, err)
			return
		}
	}
}

func (h *history) verify(runs int) {
	store := h.stores[0]
	sum, done := 0, 0
	for i := range runs {
		id := fmt.Sprintf("op-%d", i)
		rec, err := kvlock.New(store).Record(h.t.Context(), id)
		if err != nil {
			h.t.Fatal(err)
		}
		want := "0"
		if rec.Phase == kvlock.Done {
			want, done = "3", done+1
			sum += 3
		}
		if got := string(get(h.t, store, "own."+id).Value); got != want && (want != "0" || got != "") {
			h.t.Errorf("%s ended %s with the count %q, want %s", id, rec.Phase, got, want)
		}
	}
	if got := string(get(h.t, store, "sum").Value); got != fmt.Sprint(sum) {
		h.t.Errorf("the shared sum is %s, want %d", got, sum)
	}
	if done == 0 || done == runs {
		h.t.Logf("%d of %d runs are done: a dull history", done, runs)
	}
	for lock, err := range kvlock.New(store).Locks(h.t.Context()) {
		if err != nil || len(lock.Holders) > 0 {
			h.t.Errorf("lock %s is held by %v, error %v", lock.Key, lock.Holders, err)
		}
	}
}
