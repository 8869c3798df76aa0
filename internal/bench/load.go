package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// doing is one operation of a worker. It says how long took what is measured of it.
type doing func(ctx context.Context, worker int) (time.Duration, error)

// whole measures all of an operation.
func whole(do func(context.Context, int) error) doing {
	return func(ctx context.Context, worker int) (time.Duration, error) {
		begin := time.Now()
		err := do(ctx, worker)
		return time.Since(begin), err
	}
}

// load runs do in workers goroutines for the duration, after a warm-up, and returns how long took what ended in that time, by worker.
func load(ctx context.Context, name string, workers int, warm, length time.Duration, do doing) ([][]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now().Add(warm)
	end := begin.Add(length)
	took := make([][]time.Duration, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if start.After(end) {
					return
				}
				d, err := do(ctx, w)
				if err != nil {
					cancel(err)
					return
				}
				if now := time.Now(); now.After(begin) && now.Before(end) {
					took[w] = append(took[w], d)
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("%s at %d workers: %w", name, workers, err)
	}
	return took, nil
}

// work is what a row measures.
type work struct {
	name    string
	workers int
	// commits are those of one operation: so many batches of its floor share its messages.
	commits int
	// serial: only one operation goes on at a time, so the floor is one batch for each.
	serial bool
	do     doing
	after  func(context.Context) error // waits until nothing goes on any more; nil: nothing does
}

// meter measures work in turn with its floor: the speed of a shared machine drifts.
type meter struct {
	store   *kvtx.Store // nil: what is written is not counted
	floors  *floors
	sent    func() Sent // nil: not counted
	length  Length
	floor   floorOf
	perOp   written
	workers [][]time.Duration
}

// written is what went to the stream.
type written struct{ messages, bytes, batches, writes float64 }

// slicesOfRow is in how many parts a row is measured.
const slicesOfRow = 4

// measure measures one row.
func (m *meter) measure(ctx context.Context, w work) (Row, error) {
	m.workers = make([][]time.Duration, w.workers)
	for range slicesOfRow {
		if err := m.slice(ctx, w); err != nil {
			return Row{}, err
		}
	}
	r := row(w.name, w.workers, m.length.Row, slices.Concat(m.workers...))
	r.Messages, r.Floor = m.floor.figures()
	r.Bytes, r.Batches, r.Writes = round(m.perOp.bytes/slicesOfRow), round(m.perOp.batches/slicesOfRow), round(m.perOp.writes/slicesOfRow)
	return r, nil
}

// slice measures one part of a row, and the floor right after it. What one operation writes is what the stream grew by while they
// worked, divided by the operations.
func (m *meter) slice(ctx context.Context, w work) error {
	var done atomic.Int64
	before, err := m.now(ctx)
	if err != nil {
		return err
	}
	took, err := load(ctx, w.name, w.workers, m.length.Warm/slicesOfRow, m.length.Row/slicesOfRow, func(ctx context.Context, worker int) (time.Duration, error) {
		d, err := w.do(ctx, worker)
		if err == nil {
			done.Add(1)
		}
		return d, err
	})
	if err != nil {
		return err
	}
	after, err := m.now(ctx)
	if err != nil {
		return err
	}
	if w.after != nil {
		if err := w.after(ctx); err != nil {
			return err
		}
	}
	for i := range took {
		m.workers[i] = append(m.workers[i], took[i]...)
	}
	n := float64(max(done.Load(), 1))
	m.perOp.bytes += (after.bytes - before.bytes) / n
	m.perOp.batches += (after.batches - before.batches) / n
	m.perOp.writes += (after.writes - before.writes) / n
	sharing, commits := w.workers, w.commits
	if w.serial {
		sharing, commits = 1, 1
	}
	return m.floor.add(ctx, m.floors, (after.messages-before.messages)/n, sharing, commits)
}

// now is what was written so far.
func (m *meter) now(ctx context.Context) (written, error) {
	last, err := sequence(ctx, m.store)
	w := written{messages: float64(last)}
	if m.sent != nil {
		s := m.sent()
		w.bytes, w.batches, w.writes = float64(s.Bytes), float64(s.Batches), float64(s.Writes)
	}
	return w, err
}
