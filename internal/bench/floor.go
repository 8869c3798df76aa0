package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

const (
	// recordSize is the size of the scratch messages: about that of the records.
	recordSize = 400
	// maxBatch is the most messages of one commit of a process.
	maxBatch = 500
)

// floors measures what bare batches reach, once for each size.
type floors struct {
	bare   *kvtx.Bare
	length time.Duration
	known  map[int]Row
}

func newFloors(store *kvtx.Store, length time.Duration) *floors {
	if store == nil {
		return nil
	}
	return &floors{bare: store.Bare(recordSize), length: length, known: map[int]Row{}}
}

// batch measures atomic batches of n messages, one in flight. Ops are batches.
func (f *floors) batch(ctx context.Context, n int) (Row, error) {
	if r, ok := f.known[n]; ok {
		return r, nil
	}
	r, err := f.repeat(ctx, fmt.Sprintf("batch-%d", n), func() (time.Duration, error) { return f.bare.Batch(ctx, n) })
	r.Messages = float64(n)
	f.known[n] = r
	return r, err
}

// update measures plain revision-checked writes of one message, one in flight.
func (f *floors) update(ctx context.Context) (Row, error) {
	r, err := f.repeat(ctx, "update-1", func() (time.Duration, error) { return f.bare.Updates(ctx, 1) })
	r.Messages = 1
	return r, err
}

func (f *floors) repeat(ctx context.Context, name string, once func() (time.Duration, error)) (Row, error) {
	var took []time.Duration
	begin := time.Now()
	for time.Since(begin) < f.length && ctx.Err() == nil {
		d, err := once()
		if err != nil {
			return Row{}, fmt.Errorf("%s: %w", name, err)
		}
		took = append(took, d)
	}
	length := time.Since(begin)
	slices.Sort(took)
	return row(name, 1, length, took), ctx.Err()
}

// under fills in the floor of a row whose operations write messages each, in commits commits.
func (f *floors) under(ctx context.Context, r *Row, messages float64, commits int) error {
	r.Messages = round(messages)
	if f == nil || messages <= 0 {
		return nil
	}
	n := min(max(int(float64(r.Workers)*messages/float64(commits)+0.5), 1), maxBatch)
	b, err := f.batch(ctx, n)
	if err != nil {
		return err
	}
	r.Floor = round(b.Ops * float64(n) / messages)
	return nil
}

// sequence is the last sequence of the stream: what was written since is the difference of two.
func sequence(ctx context.Context, store *kvtx.Store) (uint64, error) {
	if store == nil {
		return 0, nil
	}
	info, err := store.Stream().Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("look at the stream: %w", err)
	}
	return info.State.LastSeq, nil
}
