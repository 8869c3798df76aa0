// Package intake turns dispatches into work: consume, take over, run, end, acknowledge.
//
// Nouns: a delivery is one message of a dispatch subject, op.<bucket>.req.<backend>.<operation>.<n>, handed out by the
// pull consumer that all workers of a backend share; n is the dispatch number. A worker is one start of one process. A
// slot is room for one operation of a backend to be in work here, from the request for its dispatch to the answer; while
// the operation waits for the next try of a step, or for a storage that is away, it gives its slot back.
//
// Invariants:
//   - A delivery is acknowledged only after the commit that makes it superfluous: the operation ended, got stuck, was
//     broken, or was handed on with a higher dispatch number. A worker that was overtaken acknowledges nothing: a stale
//     acknowledgement counts, and would take the successor's delivery away.
//   - The first write for an operation is its take-over, with a token of this delivery; nothing is looked at before. If nobody had the
//     operation before and its first step only stages writes, these are in the same write.
//   - A dispatch is asked for with a free slot in hand: what this process has no room for stays in the stream, for others.
//   - An operation is run at most once at a time by this process: a delivery that comes while it runs joins it.
//   - A delivery without an operation, of one that still waits in line, or with a number that is not known yet, shows a
//     prefix of a commit: it is delayed, and terminated after a limit.
//   - A definition that this release lacks is left alone, not taken over, for a node that has it.
//   - What the redelivery timer decides is only who may try next. Whoever tries is fenced by package operations. What a
//     worker of this node left that is known to have ended is dispatched again at once: nobody waits for its lease.
//   - The end of the context stops new work at once; the step under way may end, within a limit; the rest is left to
//     others, and to the next start.
//
// It does not know what an operation does: that is package operations. It grants no locks and moves no waiting lines.
package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
)

// Defaults of a zero Config.
const (
	DefaultWorkers   = 32
	DefaultLease     = 30 * time.Second
	DefaultStopLimit = 20 * time.Second
)

// Config says what to consume. Zero fields have defaults, but Backends and Worker.
type Config struct {
	// Backends are the names of the backends whose dispatches are consumed.
	Backends []string
	// Worker names this start of this process: no other has the name, ever.
	Worker string
	// Workers is how many operations of one backend are in work here at the same moment. Up to as many more wait for the next
	// try of a step.
	Workers int
	// Lease is how long a delivery that nobody touches waits until another worker may try; at least a second.
	Lease time.Duration
	// StopLimit is how long the steps under way may go on when the context has ended.
	StopLimit time.Duration
	// PrefixLimit is how long a delivery waits for the rest of its commit to be seen.
	PrefixLimit time.Duration
	// ParkDelay is how soon a delivery that no definition here fits is offered again.
	ParkDelay time.Duration
	// PurgeEvery and SweepEvery pace the upkeep of the stream.
	PurgeEvery time.Duration
	SweepEvery time.Duration
	// LookEvery is how often workers of this node are looked for that have ended.
	LookEvery time.Duration
}

// Validate names the field that is wrong, with its unit.
func (c Config) Validate() error {
	switch {
	case len(c.Backends) == 0:
		return errors.New("intake: Backends: at least one backend is needed")
	case c.Worker == "":
		return errors.New("intake: Worker: a name is needed")
	case c.Workers < 0 || c.Workers > 10_000:
		return fmt.Errorf("intake: Workers: %d operations at a time, want 1 to 10000", c.Workers)
	case c.Lease != 0 && c.Lease < time.Second:
		return fmt.Errorf("intake: Lease: %v, want at least 1s", c.Lease)
	}
	return nil
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	if c.Workers == 0 {
		c.Workers = DefaultWorkers
	}
	set(&c.Lease, DefaultLease)
	set(&c.StopLimit, DefaultStopLimit)
	set(&c.PrefixLimit, 10*time.Minute)
	set(&c.ParkDelay, 30*time.Second)
	set(&c.PurgeEvery, time.Second)
	set(&c.SweepEvery, time.Minute)
	set(&c.LookEvery, time.Second)
	return c
}

// Deps is what the intake works with.
type Deps struct {
	Store    *kvtx.Store
	Locks    *kvlock.Locker
	Registry *saga.Registry
	// Input makes the first state of an operation's run from what was accepted and its dispatch number.
	Input func(op records.Operation, dispatch uint64) (any, error)
	Log   *slog.Logger // nil: discard
	// Observe, if set, is told of what happens to deliveries. It must not block.
	Observe func(Event)
	// Saga are further options of the executor, such as observers.
	Saga []saga.Option
	// Away says, of the error of a step, whether the storage of the backend is away, and by closing the channel when it is back; nil: it is
	// not. The step waits for that, and is called again: no try is counted, and others have its slot.
	Away func(backend string, err error) <-chan struct{}
	// Workers are those of this node; nil: what others leave is found by the lease alone.
	Workers Workers
}

// Workers tells which workers of this node have ended, until they are forgotten.
type Workers interface {
	Ended() ([]string, error)
	Forget(worker string) error
}

// Intake consumes the dispatches of its backends.
type Intake struct {
	cfg   Config
	deps  Deps
	log   *slog.Logger
	exec  *saga.Executor
	steps map[definition][]string // names of the steps of what is registered
	// records are the definitions whose first step only stages writes.
	records map[definition]bool
	table   *table
	ready   chan struct{}

	hard context.Context // ends when steps under way have had their time
}

type definition struct {
	name    string
	version int
}

// New makes an intake; Run starts it.
func New(cfg Config, deps Deps) (*Intake, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	i := &Intake{cfg: cfg.withDefaults(), deps: deps, log: deps.Log, table: newTable(), ready: make(chan struct{}), steps: make(map[definition][]string), records: make(map[definition]bool)}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	i.log = i.log.With("worker", cfg.Worker)
	for _, sh := range deps.Registry.Shapes() {
		names := make([]string, len(sh.Steps))
		for n, s := range sh.Steps {
			names[n] = s.Name
		}
		i.steps[definition{sh.Name, sh.Version}] = names
		i.records[definition{sh.Name, sh.Version}] = sh.Steps[0].Records
	}
	opts := []saga.Option{saga.WithLogger(i.log), saga.WithObserver(i.follow), saga.WithAround(i.aroundStep)}
	i.exec = saga.New(nil, deps.Registry, append(opts, deps.Saga...)...)
	return i, nil
}

// Ready is closed when dispatches of all backends are being consumed.
func (i *Intake) Ready() <-chan struct{} { return i.ready }

// Running is how many operations run here at the moment.
func (i *Intake) Running() int { return i.table.len() }

// Run consumes until ctx ends. Then it takes nothing new, lets the steps under way end within the limit, gives back
// what it did not finish, and returns nil when every goroutine has ended. It is called once.
// Errors: a consumer that cannot be made.
func (i *Intake) Run(ctx context.Context) error {
	hard, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	i.hard = hard
	queues := make([]*queue, 0, len(i.cfg.Backends))
	for _, name := range i.cfg.Backends {
		q, err := i.open(ctx, name)
		if err != nil {
			return err
		}
		queues = append(queues, q)
	}
	upkeep, endUpkeep := context.WithCancel(context.WithoutCancel(ctx))
	var workers, keepers sync.WaitGroup
	for _, q := range queues {
		for range min(i.cfg.Workers, pullers) {
			workers.Go(func() { i.work(ctx, q, &workers) })
		}
	}
	keepers.Go(func() { i.keepAlive(upkeep) })
	keepers.Go(func() { i.purge(ctx, queues) })
	keepers.Go(func() { i.sweep(ctx, queues) })
	close(i.ready)
	<-ctx.Done()
	limit := time.AfterFunc(i.cfg.StopLimit, func() { cut(errStopLimit) })
	workers.Wait()
	limit.Stop()
	endUpkeep()
	keepers.Wait()
	return nil
}

var errStopLimit = errors.New("the step took longer than the limit for a stop")

// aroundStep lets a step that is under way when the context of its run ends go on until the limit for a stop. While an
// operation waits for its next try, or for a storage that is away, others may have its slot.
func (i *Intake) aroundStep(ctx context.Context, c saga.Call, next func(context.Context) error) error {
	switch c.Action {
	case saga.Writing: // outlives the context anyway
		return next(ctx)
	case saga.Waiting:
		if r := i.table.find(c.ID); r != nil {
			return r.slot.lend(ctx, next)
		}
		return next(ctx)
	case saga.Doing, saga.Checking, saga.Reverting:
	}
	long, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(i.hard, func() { cancel(context.Cause(i.hard)) })
	defer stop()
	if deadline, ok := ctx.Deadline(); ok {
		var end context.CancelFunc
		long, end = context.WithDeadline(long, deadline)
		defer end()
	}
	for {
		err := next(long)
		if err == nil || ctx.Err() != nil || i.awaitStorage(ctx, c.ID, err) != nil {
			return err
		}
	}
}

// errNotAway: a step failed, and not because its storage is away.
var errNotAway = errors.New("the storage is not away")

// awaitStorage returns nil when the storage is back whose absence made a step fail. Errors: errNotAway; that of ctx.
func (i *Intake) awaitStorage(ctx context.Context, id saga.ID, err error) error {
	r := i.table.find(id)
	if i.deps.Away == nil || r == nil {
		return errNotAway
	}
	back := i.deps.Away(r.backend, err)
	if back == nil {
		return errNotAway
	}
	return r.slot.lend(ctx, func(ctx context.Context) error {
		select {
		case <-back:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}
