package link

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NATS is the way over one NATS connection. It matches the answers, and knows when the connection broke, so that nobody waits out a
// time for an answer that cannot come any more.
type NATS struct {
	nc      *nats.Conn
	stream  jetstream.Stream
	timeout time.Duration
	prefix  string
	sub     *nats.Subscription
	status  chan nats.Status
	pump    sync.WaitGroup

	mu      sync.Mutex
	next    uint64
	waiting map[string]chan *nats.Msg
	broken  chan struct{} // Closed when the connection breaks.
	up      chan struct{} // Closed while it is connected.
	breaks  atomic.Uint64 // How often it broke.
}

// Over returns the way to a stream over a connection. timeout is how long an answer is waited for.
func Over(nc *nats.Conn, stream jetstream.Stream, timeout time.Duration) (*NATS, error) {
	w := &NATS{
		nc: nc, stream: stream, timeout: timeout, prefix: nc.NewRespInbox() + ".", waiting: map[string]chan *nats.Msg{},
		broken: make(chan struct{}), up: make(chan struct{}), status: nc.StatusChanged(),
	}
	close(w.up)
	sub, err := nc.Subscribe(w.prefix+"*", w.deliver)
	if err != nil {
		nc.RemoveStatusListener(w.status)
		return nil, fmt.Errorf("subscribe to answers: %w", err)
	}
	w.sub = sub
	w.pump.Go(w.watchStatus)
	return w, nil
}

// Close ends the subscription to the answers.
func (w *NATS) Close() {
	_ = w.sub.Unsubscribe() // It fails only if the connection is closed.
	w.nc.RemoveStatusListener(w.status)
	w.pump.Wait()
}

func (w *NATS) watchStatus() {
	for status := range w.status {
		w.mu.Lock()
		isUp := closed(w.up)
		if status != nats.CONNECTED && isUp {
			w.breaks.Add(1)
			close(w.broken)
			w.broken = make(chan struct{})
			w.up, isUp = make(chan struct{}), false
		}
		// It may be up again by now.
		if !isUp && (w.nc.IsConnected() || w.nc.IsClosed()) {
			close(w.up)
		}
		w.mu.Unlock()
	}
}

func closed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Connected waits until there is a connection. Errors: that of ctx, nats.ErrConnectionClosed.
func (w *NATS) Connected(ctx context.Context) error {
	for {
		w.mu.Lock()
		up := w.up
		w.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return ctx.Err()
		}
		if w.nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		if w.nc.IsConnected() {
			return nil
		}
		// It has just broken; the status is on its way.
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Breaks is how often the connection broke.
func (w *NATS) Breaks() uint64 { return w.breaks.Load() }

// MaxPayload is the largest size of a message.
func (w *NATS) MaxPayload() int { return int(w.nc.MaxPayload()) }

// WhileConnected is ctx, ended when the connection breaks.
func (w *NATS) WhileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	w.mu.Lock()
	broken := w.broken
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	w.pump.Go(func() {
		select {
		case <-broken:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}

func (w *NATS) deliver(m *nats.Msg) {
	id := m.Subject[len(w.prefix):]
	w.mu.Lock()
	ch := w.waiting[id]
	delete(w.waiting, id)
	w.mu.Unlock()
	if ch != nil {
		ch <- m // It has room for the one answer.
	}
}

// Call sends the messages and waits for the answer to the last one.
func (w *NATS) Call(ctx context.Context, msgs ...*nats.Msg) (*nats.Msg, error) {
	if err := w.Connected(ctx); err != nil {
		return nil, err
	}
	p, err := w.Send(msgs...)
	if err != nil {
		return nil, err
	}
	return p.Wait(ctx)
}

// Pending is a call that was sent.
type Pending struct {
	wire   *NATS
	id     string
	answer chan *nats.Msg
	broken chan struct{}
}

// Send sends the messages; the last one asks for the answer. Wait must be called if there is no error.
func (w *NATS) Send(msgs ...*nats.Msg) (*Pending, error) {
	p := &Pending{wire: w, answer: make(chan *nats.Msg, 1)}
	w.mu.Lock()
	w.next++
	p.id = strconv.FormatUint(w.next, 36)
	w.waiting[p.id] = p.answer
	p.broken = w.broken
	w.mu.Unlock()

	msgs[len(msgs)-1].Reply = w.prefix + p.id
	for _, m := range msgs {
		if err := w.nc.PublishMsg(m); err != nil {
			p.forget()
			if errors.Is(err, nats.ErrConnectionClosed) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: send: %v", ErrNoAnswer, err)
		}
	}
	return p, nil
}

func (p *Pending) forget() {
	p.wire.mu.Lock()
	delete(p.wire.waiting, p.id)
	p.wire.mu.Unlock()
}

// Wait waits for the answer.
func (p *Pending) Wait(ctx context.Context) (*nats.Msg, error) {
	timer := time.NewTimer(p.wire.timeout)
	defer timer.Stop()
	select {
	case m := <-p.answer:
		if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
			return nil, ErrUnheard
		}
		return m, nil
	case <-ctx.Done():
		p.forget()
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	case <-timer.C:
		p.forget()
		return nil, fmt.Errorf("%w in %v", ErrNoAnswer, p.wire.timeout)
	case <-p.broken:
		p.forget()
		return nil, fmt.Errorf("%w: connection lost", ErrNoAnswer)
	}
}

// soon bounds a request of the jetstream package, which waits for its answer as long as ctx does if that has a deadline.
func (w *NATS) soon(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, w.timeout)
}

// Info asks for the stream.
func (w *NATS) Info(ctx context.Context, filter string) (*jetstream.StreamInfo, error) {
	ctx, cancel := w.soon(ctx)
	defer cancel()
	if filter == "" {
		return w.stream.Info(ctx)
	}
	return w.stream.Info(ctx, jetstream.WithSubjectFilter(filter))
}

// Consume makes a consumer of its own.
func (w *NATS) Consume(ctx context.Context, cfg jetstream.ConsumerConfig) (Consumer, error) {
	ctx, cancel := w.soon(ctx)
	defer cancel()
	c, err := w.stream.CreateConsumer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(2000), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		w.remove(ctx, c)
		return nil, err
	}
	return &consumer{wire: w, consumer: c, messages: Read(messages)}, nil
}

type consumer struct {
	wire     *NATS
	consumer jetstream.Consumer
	messages *Reader
	next     uint64
}

func (c *consumer) Empty() bool { return c.consumer.CachedInfo().NumPending == 0 }

func (c *consumer) Next(ctx context.Context) (Delivery, error) {
	msg, err := c.messages.Next(ctx)
	if err != nil {
		return Delivery{}, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return Delivery{}, err
	}
	if c.next++; meta.Sequence.Consumer != c.next {
		return Delivery{}, fmt.Errorf("%w: number %d", ErrGap, c.next)
	}
	return Delivery{
		Subject: msg.Subject(), Data: msg.Data(), Header: msg.Headers(), Sequence: meta.Sequence.Stream, Pending: meta.NumPending, Time: meta.Timestamp,
	}, nil
}

func (c *consumer) Drained(ctx context.Context, last uint64) (bool, error) {
	ctx, cancel := c.wire.soon(ctx)
	defer cancel()
	info, err := c.consumer.Info(ctx)
	if err != nil {
		return false, err
	}
	if c.next == 0 && info.NumPending > 0 && info.NumWaiting == 0 {
		// The consumer's leader was not known yet where this client is connected. Heartbeats would tell, too, much later.
		return false, fmt.Errorf("%w: the request for messages was lost", ErrUnheard)
	}
	return info.NumPending == 0 && info.Delivered.Stream <= last, nil
}

// removeLimit bounds the removal of a consumer.
const removeLimit = time.Second

func (c *consumer) Close(ctx context.Context) {
	c.messages.Stop()
	c.wire.remove(ctx, c.consumer)
}

// remove removes a consumer, also when ctx has ended.
func (w *NATS) remove(ctx context.Context, c jetstream.Consumer) {
	if !w.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
	defer cancel()
	_ = w.stream.DeleteConsumer(ctx, c.CachedInfo().Name)
}
