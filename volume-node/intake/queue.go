package intake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/messages/records"
)

// queue is the pull consumer of one backend, shared by the workers of all processes.
type queue struct {
	backend  string
	durable  string
	filter   string // op.<bucket>.req.<backend>.>
	prefix   string // the same without the >
	consumer atomic.Pointer[jetstream.Consumer]
	slots    slots
	// purgeable counts the reasons to look for what can be purged: what this process finished, and each sweep, for what others
	// finished who then went.
	purgeable atomic.Uint64
	purged    uint64 // stream sequence up to which this process has purged; of the purging goroutine
}

func (i *Intake) open(ctx context.Context, backend string) (*queue, error) {
	prefix := i.deps.Store.DispatchSubject("req", backend) + "."
	q := &queue{backend: backend, durable: records.DispatchConsumer(backend), prefix: prefix, filter: prefix + ">", slots: newSlots(i.cfg.Workers)}
	if err := i.consumer(ctx, q); err != nil {
		return nil, fmt.Errorf("backend %s: consumer %s: %w", backend, q.durable, err)
	}
	return q, nil
}

// consumer makes the backend's consumer, or brings its lease to this process's setting.
func (i *Intake) consumer(ctx context.Context, q *queue) error {
	c, err := i.deps.Store.Stream().CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       q.durable,
		Description:   "workers of backend " + q.backend,
		FilterSubject: q.filter,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       i.cfg.Lease,
		MaxDeliver:    -1, // an operation is never given up by counting deliveries
		MaxAckPending: -1, // what bounds the work is the number of slots
		MaxWaiting:    1 << 14,
	})
	if err != nil {
		return err
	}
	q.consumer.Store(&c)
	return nil
}

// pullLife is how long one request for a message stays with the server.
const pullLife = 30 * time.Second

// pullers is how many goroutines at most ask for messages of one backend, each for one at a time.
const pullers = 8

// work asks for one message after the other, and has each handled by a goroutine of its own, which workers waits for.
func (i *Intake) work(ctx context.Context, q *queue, workers *sync.WaitGroup) {
	for ctx.Err() == nil {
		err := i.pull(ctx, q, workers)
		if ctx.Err() != nil {
			return
		}
		i.log.WarnContext(ctx, "consumer interrupted, begins again", "backend", q.backend, "error", err)
		pause(ctx, time.Second/2+rand.N(time.Second))
		if err := i.consumer(ctx, q); err != nil && ctx.Err() == nil {
			i.log.WarnContext(ctx, "consumer cannot be made", "backend", q.backend, "error", err)
		}
	}
}

// pull takes messages until the consumer ends or ctx does. What was on its way then is given back.
func (i *Intake) pull(ctx context.Context, q *queue, workers *sync.WaitGroup) error {
	iter, err := (*q.consumer.Load()).Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(pullLife),
		jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return err
	}
	defer giveBackRest(iter)
	for {
		s, err := q.slots.ask(ctx)
		if err != nil {
			return err
		}
		msg, err := iter.Next(jetstream.NextContext(ctx))
		if err != nil {
			s.free()
			return err
		}
		if !s.begin() {
			s.free()
			_ = msg.Nak() // or the lease runs out
			continue
		}
		workers.Go(func() {
			defer s.free()
			i.take(ctx, q, s, msg)
		})
	}
}

func giveBackRest(iter jetstream.MessagesContext) {
	iter.Drain()
	for {
		msg, err := iter.Next(jetstream.NextMaxWait(time.Second))
		if err != nil {
			iter.Stop()
			return
		}
		_ = msg.Nak() // or the lease runs out
	}
}

// take handles one message: it runs its operation, or finds out why not.
func (i *Intake) take(ctx context.Context, q *queue, s *slot, msg jetstream.Msg) {
	d, err := parse(msg, q.backend, q.prefix)
	if err != nil {
		i.settle(q, d, &outcome{verdict: terminate, upTo: every, kind: Terminated, reason: err.Error()})
		return
	}
	r, first := i.table.enter(d, s)
	if !first { // it is at work here: this process does not take it over from itself
		_ = msg.InProgress()
		i.observe(Event{Kind: Joined, Backend: q.backend, Operation: d.operation})
		return
	}
	o := i.run(ctx, r, d)
	for _, d := range i.table.leave(r) {
		i.settle(q, d, o)
	}
}

// keepAlive tells the server, well before the lease ends, that what this process holds is being worked on.
func (i *Intake) keepAlive(ctx context.Context) {
	tick := time.NewTicker(i.cfg.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, d := range i.table.deliveries() {
			if err := d.msg.InProgress(); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
				i.log.DebugContext(ctx, "lease not extended", "operation", d.operation, "error", err)
			}
		}
	}
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
