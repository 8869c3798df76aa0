package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// durable is the consumer of wakes at the server, which all who serve them share: it delivers each at least once, until it is acknowledged.
// The goroutine of run alone uses it.
type durable struct {
	w         *world
	cfg       jetstream.ConsumerConfig
	delivered uint64               // The highest sequence of those that were delivered.
	floor     uint64               // All up to it are acknowledged.
	pending   map[uint64]time.Time // Delivered and not acknowledged: when each is delivered again.
}

// configure makes the consumer, or finds it.
func (d *durable) configure(cfg jetstream.ConsumerConfig) {
	if cfg.Durable == "" || cfg.AckPolicy != jetstream.AckExplicitPolicy || cfg.FilterSubject != postSubject+wakes+".>" {
		panic(fmt.Sprintf("sim: a consumer of wakes that is %+v", cfg))
	}
	d.cfg = cfg
}

// due is the oldest wake that is to be delivered.
func (d *durable) due() (subject string, seq uint64, ok bool) {
	for _, subject := range d.w.truth.posted(wakes) {
		seq := d.w.truth.sequence(subject)
		if again, pending := d.pending[seq]; pending && !time.Now().Before(again) || !pending && len(d.pending) < d.cfg.MaxAckPending {
			return subject, seq, true
		}
	}
	return "", 0, false
}

// deliver delivers it over a connection.
func (d *durable) deliver(c *conn) jetstream.Msg {
	subject, seq, _ := d.due()
	if _, again := d.pending[seq]; again {
		d.w.count("wake delivered again")
	}
	d.delivered = max(d.delivered, seq)
	d.pending[seq] = time.Now().Add(d.cfg.AckWait)
	if d.w.plan.plant == unserved && d.w.chance(4) {
		d.acknowledge(subject, seq)
	}
	return wake{conn: c, subject: subject, seq: seq}
}

// acknowledge ends the deliveries of a wake.
func (d *durable) acknowledge(subject string, seq uint64) {
	if _, pending := d.pending[seq]; !pending {
		return // Another delivery of it was acknowledged.
	}
	delete(d.pending, seq)
	d.floor = d.delivered
	for other := range d.pending {
		d.floor = min(d.floor, other-1)
	}
	d.w.count("wake served")
	d.w.truth.served(subject)
}

func (d *durable) info() *jetstream.ConsumerInfo {
	return &jetstream.ConsumerInfo{
		Delivered: jetstream.SequenceInfo{Stream: d.delivered}, AckFloor: jetstream.SequenceInfo{Stream: d.floor}, NumAckPending: len(d.pending),
	}
}

// stream is a process's way to the stream, as ServeWakes uses it.
type stream struct {
	jetstream.Stream // nil: there is nothing else.
	conn             *conn
}

func (s stream) CreateOrUpdateConsumer(ctx context.Context, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	err := s.conn.order(ctx, "consume wakes", func() { s.conn.w.wakes.configure(cfg) })
	if err != nil {
		return nil, err
	}
	return consumer{conn: s.conn}, nil
}

func (s stream) Purge(ctx context.Context, opts ...jetstream.StreamPurgeOpt) error {
	var req jetstream.StreamPurgeRequest
	for _, opt := range opts {
		if err := opt(&req); err != nil {
			return err
		}
	}
	if req.Subject != postSubject+wakes+".>" || req.Sequence == 0 {
		panic(fmt.Sprintf("sim: purge %+v", req))
	}
	return s.conn.order(ctx, fmt.Sprintf("purge below %d", req.Sequence), func() { s.conn.w.truth.purged(req.Subject, req.Sequence) })
}

// order tells the server to do something.
func (c *conn) order(ctx context.Context, what string, do func()) error {
	_, err := c.ask(ctx, what, order, func() any { do(); return true })
	return err
}

// consumer is a process's way to the consumer of wakes.
type consumer struct {
	jetstream.Consumer // nil
	conn               *conn
}

func (c consumer) Info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	v, err := c.conn.ask(ctx, "state of the consumer of wakes", question, func() any { return c.conn.w.wakes.info() })
	if err != nil {
		return nil, err
	}
	return v.(*jetstream.ConsumerInfo), nil
}

func (c consumer) Messages(...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error) {
	return &deliveries{conn: c.conn, stopped: make(chan struct{})}, nil
}

// deliveries are the wakes that a process is told of.
type deliveries struct {
	jetstream.MessagesContext // nil
	conn                      *conn
	stopped                   chan struct{}
}

func (r *deliveries) Next(...jetstream.NextOpt) (jetstream.Msg, error) {
	w, p := r.conn.w, r.conn.proc
	got := make(chan jetstream.Msg, 1)
	w.add(&event{
		name: p.label() + "/k1 is told of a wake", kind: delivery, proc: p, gone: p.dead,
		ready: func() bool { _, _, ok := w.wakes.due(); return ok },
		happen: func(f fate) {
			msg := w.wakes.deliver(r.conn)
			if f == lost {
				w.count("wake lost on its way")
				msg = nil
			}
			got <- msg
		},
	})
	select {
	case msg := <-got:
		if msg == nil {
			return nil, jetstream.ErrNoHeartbeat
		}
		return msg, nil
	case <-r.stopped:
		return nil, jetstream.ErrMsgIteratorClosed
	}
}

func (r *deliveries) Stop() { close(r.stopped) }

// wake is one delivery.
type wake struct {
	jetstream.Msg // nil
	conn          *conn
	subject       string
	seq           uint64
}

func (m wake) Subject() string { return m.subject }

func (m wake) DoubleAck(ctx context.Context) error {
	return m.conn.order(ctx, fmt.Sprintf("acknowledge the wake at %d", m.seq), func() { m.conn.w.wakes.acknowledge(m.subject, m.seq) })
}
