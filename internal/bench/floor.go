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
}

func newFloors(store *kvtx.Store, length time.Duration) *floors {
	if store == nil {
		return nil
	}
	return &floors{bare: store.Bare(recordSize), length: length}
}

// close removes the scratch messages.
func (f *floors) close(ctx context.Context) error {
	if f == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
	defer cancel()
	return f.bare.Close(ctx)
}

// batch measures atomic batches of n messages, one in flight. Ops are batches.
func (f *floors) batch(ctx context.Context, n int) (Row, error) {
	r, err := f.repeat(ctx, fmt.Sprintf("batch-%d", n), f.length, func() (time.Duration, error) { return f.bare.Batch(ctx, n) })
	r.Messages = float64(n)
	return r, err
}

// update measures plain revision-checked writes of one message, one in flight.
func (f *floors) update(ctx context.Context) (Row, error) {
	r, err := f.repeat(ctx, "update-1", f.length, func() (time.Duration, error) { return f.bare.Updates(ctx, 1) })
	r.Messages = 1
	return r, err
}

func (f *floors) repeat(ctx context.Context, name string, length time.Duration, once func() (time.Duration, error)) (Row, error) {
	var took []time.Duration
	begin := time.Now()
	for time.Since(begin) < length && ctx.Err() == nil {
		d, err := once()
		if err != nil {
			return Row{}, fmt.Errorf("%s: %w", name, err)
		}
		took = append(took, d)
	}
	slices.Sort(took)
	return row(name, 1, time.Since(begin), took), ctx.Err()
}

// floorOf adds up the floor of a row that is measured in parts.
type floorOf struct {
	parts    float64
	messages float64 // per operation, added up
	ops      float64 // of the floor, added up
}

// add measures what bare batches of the messages that the workers' commits write together reach. An operation writes messages in
// commits commits.
func (f *floorOf) add(ctx context.Context, under *floors, messages float64, workers, commits int) error {
	if under == nil || messages <= 0 {
		return nil
	}
	n := batchSize(messages, workers, commits)
	b, err := under.repeat(ctx, fmt.Sprintf("batch-%d", n), under.length/slicesOfRow, func() (time.Duration, error) { return under.bare.Batch(ctx, n) })
	if err != nil {
		return err
	}
	f.parts++
	f.messages += messages
	f.ops += operationsOf(b.Ops, n, messages)
	return nil
}

// batchSize is how many messages the commits of all workers hold together, as far as one commit may.
func batchSize(messages float64, workers, commits int) int {
	return min(max(int(float64(workers)*messages/float64(commits)+0.5), 1), maxBatch)
}

// operationsOf is how many operations a second so many batches a second of n messages are enough for.
func operationsOf(batches float64, n int, messages float64) float64 {
	return batches * float64(n) / messages
}

// figures are the messages of an operation and the operations per second of the floor; 0 if none was measured.
func (f *floorOf) figures() (messages, ops float64) {
	if f.parts == 0 {
		return 0, 0
	}
	return round(f.messages / f.parts), round(f.ops / f.parts)
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
