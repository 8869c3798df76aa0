package intake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// queue is the pull consumer of one backend, shared by the workers of all processes.
type queue struct {
	backend  string
	durable  string
	filter   string // op.<bucket>.req.<backend>.>
	prefix   string // the same without the >
	consumer atomic.Pointer[jetstream.Consumer]
	slots    chan struct{} // as many as steps may run
	// acknowledged counts what this process finished, so that the purge runs only after work.
	acknowledged atomic.Uint64
	purged       uint64 // stream sequence up to which this process has purged; of the purging goroutine
}

func (i *Intake) open(ctx context.Context, backend string) (*queue, error) {
	prefix := i.deps.Store.DispatchSubject("req", backend) + "."
	q := &queue{backend: backend, durable: "node-" + backend, prefix: prefix, filter: prefix + ">", slots: make(chan struct{}, i.cfg.Workers)}
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

// work takes one message after the other. It asks for the next one only when it has ended with the last one.
func (i *Intake) work(ctx context.Context, q *queue) {
	for ctx.Err() == nil {
		err := i.pull(ctx, q)
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
func (i *Intake) pull(ctx context.Context, q *queue) error {
	iter, err := (*q.consumer.Load()).Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(pullLife),
		jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return err
	}
	defer giveBackRest(iter)
	for {
		select { // what finds no free slot stays in the stream
		case q.slots <- struct{}{}:
			<-q.slots
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		msg, err := iter.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		i.take(ctx, q, msg)
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
func (i *Intake) take(ctx context.Context, q *queue, msg jetstream.Msg) {
	d, err := parse(msg, q.backend, q.prefix)
	if err != nil {
		i.settle(q, d, &outcome{verdict: terminate, upTo: every, kind: Terminated, reason: err.Error()})
		return
	}
	r, first := i.table.enter(d, q.slots)
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
