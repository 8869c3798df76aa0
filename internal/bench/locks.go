package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// LockTarget is a stream of the bench's own on the server that is measured.
type LockTarget struct {
	Store *kvtx.Store
	// Sent says what the store has sent so far; nil: nobody counts.
	Sent func() Sent
}

// Sent is what a store has sent.
type Sent struct{ Bytes, Batches, Writes uint64 }

const (
	// cycleCommits is how many commits a cycle takes: acquire, release.
	cycleCommits = 2
	// readers is how many hold the key of thousand-readers.
	readers = 1000
	// writerShare is one in so many of readers-writer.
	writerShare = 10
)

// lockWorkers are the numbers of workers of each case; the most only where the case says so.
var lockWorkers = []int{1, 16, 64, 256}

// lockCase is one kind of work with locks. An operation of it is a cycle: acquire and release.
type lockCase struct {
	name   string
	most   int  // workers
	serial bool // one cycle at a time
	begin  func(context.Context, *lockBench) (do doing, end func(context.Context) error, err error)
}

var lockCases = []lockCase{
	{name: "own-keys", most: 256, begin: ownKeys},
	{name: "hot-key", most: 64, serial: true, begin: hotKey},
	{name: "readers-writer", most: 64, begin: readersWriter},
	{name: "thousand-readers", most: 64, begin: thousandReaders},
}

// Locks measures acquire and release: those of its [Cases] that are named, or all.
func Locks(ctx context.Context, t LockTarget, l Length, cases []string, progress func(string)) (rows []Row, err error) {
	under := newFloors(t.Store, l.Floor)
	defer func() { err = errors.Join(err, under.close(ctx)) }()
	b := &lockBench{locker: kvlock.New(t.Store)}
	for _, c := range lockCases {
		if len(cases) > 0 && !slices.Contains(cases, c.name) {
			continue
		}
		for _, n := range lockWorkers {
			if n > c.most {
				continue
			}
			progress(fmt.Sprintf("%s at %d workers", c.name, n))
			r, err := b.row(ctx, c, n, &meter{store: t.Store, floors: under, sent: t.Sent, length: l})
			if err != nil {
				return rows, because(ctx, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// lockBench makes owners, each once.
type lockBench struct {
	locker *kvlock.Locker
	owners atomic.Uint64
}

func (b *lockBench) owner() string { return "bench-" + strconv.FormatUint(b.owners.Add(1), 10) }

func (b *lockBench) row(ctx context.Context, c lockCase, workers int, m *meter) (Row, error) {
	do, end, err := c.begin(ctx, b)
	if err != nil {
		return Row{}, err
	}
	r, err := m.measure(ctx, work{name: c.name, workers: workers, commits: cycleCommits, serial: c.serial, do: do})
	if end != nil {
		err = errors.Join(err, end(ctx))
	}
	if err == nil && c.serial {
		r.Jain = jain(m.workers)
	}
	return r, err
}

// jain is Jain's index of the workers' shares.
func jain(workers [][]time.Duration) float64 {
	var sum, squares float64
	for _, w := range workers {
		n := float64(len(w))
		sum += n
		squares += n * n
	}
	if squares == 0 {
		return 0
	}
	return round(sum * sum / (float64(len(workers)) * squares))
}

// cycle waits in line for the claim, and releases it.
func (b *lockBench) cycle(ctx context.Context, c kvlock.Claim) error {
	g, err := b.locker.Acquire(ctx, b.owner(), nil, kvlock.Wait{}, c)
	if err != nil {
		return err
	}
	return b.locker.Release(ctx, g)
}

// ownKeys: nobody is in the way of another.
func ownKeys(_ context.Context, b *lockBench) (doing, func(context.Context) error, error) {
	return whole(func(ctx context.Context, worker int) error {
		g, err := b.locker.TryAcquire(ctx, b.owner(), nil, kvlock.Exclusive("own."+strconv.Itoa(worker)))
		if err != nil {
			return err
		}
		return b.locker.Release(ctx, g)
	}), nil, nil
}

// hotKey: all want one key for themselves.
func hotKey(_ context.Context, b *lockBench) (doing, func(context.Context) error, error) {
	return whole(func(ctx context.Context, _ int) error { return b.cycle(ctx, kvlock.Exclusive("hot")) }), nil, nil
}

// readersWriter: one in ten wants the key for itself.
func readersWriter(_ context.Context, b *lockBench) (doing, func(context.Context) error, error) {
	return whole(func(ctx context.Context, _ int) error {
		claim := kvlock.Shared("mixed")
		if rand.IntN(writerShare) == 0 {
			claim = kvlock.Exclusive("mixed")
		}
		return b.cycle(ctx, claim)
	}), nil, nil
}

// thousandReaders: a thousand hold the key while the workers share it too. What is measured is how long a worker's acquire takes.
func thousandReaders(ctx context.Context, b *lockBench) (doing, func(context.Context) error, error) {
	claim := kvlock.Shared("shared")
	grants := make([]kvlock.Grant, readers)
	if err := each(readers, func(i int) (err error) { grants[i], err = b.locker.TryAcquire(ctx, b.owner(), nil, claim); return err }); err != nil {
		return nil, nil, err
	}
	do := func(ctx context.Context, _ int) (time.Duration, error) {
		begin := time.Now()
		g, err := b.locker.TryAcquire(ctx, b.owner(), nil, claim)
		took := time.Since(begin)
		if err != nil {
			return took, err
		}
		return took, b.locker.Release(ctx, g)
	}
	return do, func(ctx context.Context) error {
		return each(readers, func(i int) error { return b.locker.Release(ctx, grants[i]) })
	}, nil
}

// each does n things at the same time, and returns the first of their errors: they are all alike.
func each(n int, do func(int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = do(i) })
	}
	all.Wait()
	return cmp.Or(errs...)
}
