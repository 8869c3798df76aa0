package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
	"github.com/scoria-storage/scoria/kvlock/internal/memserver"
)

// ackTimeout is how long a call waits for its answer, as a connection of a real store does.
const ackTimeout = 10 * time.Second

// conn is a process's way to the server. It is a link.Server.
type conn struct {
	w    *world
	proc *process

	mu      sync.Mutex
	dead    bool
	broken  chan struct{} // Closed when the connection breaks.
	breaks  uint64
	watches map[*context.CancelFunc]struct{} // Of contexts that end with the connection.
}

var _ link.Server = (*conn)(nil)

func newConn(w *world, p *process) *conn {
	return &conn{w: w, proc: p, broken: make(chan struct{}), watches: map[*context.CancelFunc]struct{}{}}
}

// cut breaks the connection; for ever if it is dead.
func (c *conn) cut(dead bool) {
	c.mu.Lock()
	c.dead = c.dead || dead
	c.breaks++
	close(c.broken)
	c.broken = make(chan struct{})
	cancels := c.watches
	c.watches = map[*context.CancelFunc]struct{}{}
	c.mu.Unlock()
	for cancel := range cancels {
		(*cancel)()
	}
}

func (c *conn) Connected(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return nats.ErrConnectionClosed
	}
	return ctx.Err()
}

func (c *conn) WhileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		cancel()
	}
	c.watches[&cancel] = struct{}{}
	return ctx, func() {
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watches, &cancel)
	}
}

func (c *conn) Breaks() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.breaks
}

func (c *conn) MaxPayload() int { return memserver.MaxPayload }

func (c *conn) Close() {}

// whoKey is the context key of the actor that calls.
type whoKey struct{}

func who(ctx context.Context) string {
	if name, ok := ctx.Value(whoKey{}).(string); ok {
		return name
	}
	return "store"
}

// random are the names that processes make up: they are left out of the trace.
var random = regexp.MustCompile(`[A-Z2-7]{26}`)

// Call sends messages to the server.
func (c *conn) Call(ctx context.Context, msgs ...*nats.Msg) (*nats.Msg, error) {
	write, what := true, fmt.Sprintf("batch %d %s", len(msgs), msgs[0].Subject)
	switch {
	case msgs[0].Subject == jetstream.DefaultAPIPrefix+"STREAM.MSG.GET.KV_"+bucket:
		write, what = false, "read "+string(msgs[0].Data)
	case len(msgs) == 1:
		what = "write " + msgs[0].Subject
	}
	kind := readCall
	if write {
		kind = writeCall
	}
	v, err := c.ask(ctx, what, kind, func() any {
		if !write {
			return c.w.server.Handle(msgs...)
		}
		return c.w.write(msgs)
	})
	if err != nil {
		return nil, err
	}
	return memserver.Answer(v.(*nats.Msg))
}

// Info asks for the stream.
func (c *conn) Info(ctx context.Context, filter string) (*jetstream.StreamInfo, error) {
	v, err := c.ask(ctx, "info "+filter, question, func() any { return c.w.server.Info(filter) })
	if err != nil {
		return nil, err
	}
	return v.(*jetstream.StreamInfo), nil
}

// Consume makes a consumer.
func (c *conn) Consume(ctx context.Context, cfg jetstream.ConsumerConfig) (link.Consumer, error) {
	v, err := c.ask(ctx, fmt.Sprintf("consume %v", cfg.FilterSubjects), question, func() any {
		place, err := c.w.server.Consume(cfg)
		if err != nil {
			return err
		}
		return &reader{conn: c, place: place, empty: place.Pending() == 0}
	})
	if err != nil {
		return nil, err
	}
	return v.(link.Consumer), nil
}

// ask sends a call and waits for its answer. do is what the server does; it is not done at all if the call is lost, and may be done
// long after ask has returned.
func (c *conn) ask(ctx context.Context, what string, kind callKind, do func() any) (any, error) {
	c.mu.Lock()
	dead, broken := c.dead, c.broken
	c.mu.Unlock()
	if dead {
		return nil, nats.ErrConnectionClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", link.ErrNoAnswer, err)
	}
	x := &call{conn: c, name: c.proc.label() + "/" + who(ctx) + " " + random.ReplaceAllString(what, "*"), kind: kind, do: do, got: make(chan any, 1)}
	c.w.add(&event{name: x.name, kind: request, proc: c.proc, question: kind == question, late: x.isLate, happen: x.arrive})
	timer := time.NewTimer(ackTimeout + time.Duration(hashOf(x.name)%1_000_000)) // Not those of two calls at once.
	defer timer.Stop()
	select {
	case v := <-x.got:
		if err, ok := v.(error); ok {
			return nil, err
		}
		return v, nil
	case <-ctx.Done():
		x.left()
		return nil, fmt.Errorf("%w: %w", link.ErrNoAnswer, ctx.Err())
	case <-timer.C:
		x.left()
		return nil, fmt.Errorf("%w in %v", link.ErrNoAnswer, ackTimeout)
	case <-broken:
		x.left()
		if c.Connected(context.Background()) != nil {
			return nil, nats.ErrConnectionClosed
		}
		return nil, fmt.Errorf("%w: connection lost", link.ErrNoAnswer)
	}
}

// callKind says what a call asks for.
type callKind uint8

const (
	writeCall callKind = iota
	readCall
	question // Of the stream or a consumer.
	order    // To a consumer: it changes it.
)

// call is on its way to the server, or its answer back.
type call struct {
	conn *conn
	name string
	kind callKind
	do   func() any
	got  chan any

	mu   sync.Mutex
	late bool // Its caller does not wait any more.
}

func (x *call) left() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.late = true
}

func (x *call) isLate() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.late
}

// arrive is the moment in which the server gets the call, or never does.
func (x *call) arrive(f fate) {
	w := x.conn.w
	met := func(what string) {
		if x.kind == writeCall {
			w.count(what)
		}
	}
	late := x.isLate()
	switch f {
	case lost:
		met("request lost")
		return
	case noLeader, inFlight, unheard:
		if !late {
			met(f.String())
			x.got <- x.refused(f)
		}
		return
	case asItShould, answerLost, answerLater:
	}
	v := x.do()
	applied := x.kind == writeCall && made(v)
	w.note("answered: made %v, %s", applied, describe(v))
	switch {
	case late && applied:
		met("arrived when its caller had given up, and was made")
	case late:
		met("arrived when its caller had given up, and was refused")
	case f == answerLost && applied:
		met("answer lost, made")
	case f == answerLost:
		met("answer lost, refused")
	case f == answerLater:
		w.add(&event{name: x.name + " answered", kind: answer, question: x.kind == question, proc: x.conn.proc, gone: x.isLate, happen: func(f fate) {
			if f != answerLost {
				x.got <- v
			} else if applied {
				met("answer lost, made")
			}
		}})
	default:
		x.got <- v
	}
}

// refused is how the server refuses a call for reasons of its own.
func (x *call) refused(f fate) any {
	switch {
	case f == unheard && x.kind >= question:
		return nats.ErrNoResponders
	case f == unheard:
		return link.ErrUnheard
	case x.kind >= question:
		return &jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"}
	case f == inFlight && x.kind == writeCall:
		return &nats.Msg{Data: []byte(`{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}`)}
	}
	return &nats.Msg{Data: []byte(`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`)}
}

// made says whether an answer tells that something was written.
func made(v any) bool {
	m, ok := v.(*nats.Msg)
	if !ok {
		return false
	}
	var a struct{ Error *struct{} }
	return json.Unmarshal(m.Data, &a) == nil && a.Error == nil && len(m.Data) > 0
}

// describe says what an answer says, without what is different each time.
func describe(v any) string {
	m, ok := v.(*nats.Msg)
	if !ok {
		return fmt.Sprintf("%T", v)
	}
	var read struct {
		Message *struct {
			Seq  uint64
			Data []byte
		}
	}
	if json.Unmarshal(m.Data, &read) == nil && read.Message != nil {
		return fmt.Sprintf("%q at %d", read.Message.Data, read.Message.Seq)
	}
	return random.ReplaceAllString(string(m.Data), "*")
}

// reader is a consumer.
type reader struct {
	conn  *conn
	place *memserver.Consumer
	empty bool
}

var errCut = errors.New("consumer lost")

// Next waits for a delivery.
func (r *reader) Next(ctx context.Context) (link.Delivery, error) {
	if ctx.Err() != nil {
		return link.Delivery{}, ctx.Err()
	}
	got := make(chan any, 1)
	var mu sync.Mutex
	waits := true
	e := &event{
		name: r.conn.proc.label() + "/" + who(ctx) + " delivery", kind: delivery, proc: r.conn.proc,
		ready: func() bool { return r.place.Pending() > 0 },
		gone:  func() bool { mu.Lock(); defer mu.Unlock(); return !waits },
	}
	e.happen = func(f fate) {
		if f == lost {
			r.conn.w.count("consumer lost")
			got <- errCut
			return
		}
		d, _ := r.place.Next()
		got <- d
	}
	r.conn.w.add(e)
	select {
	case v := <-got:
		if err, ok := v.(error); ok {
			return link.Delivery{}, err
		}
		return v.(link.Delivery), nil
	case <-ctx.Done():
		mu.Lock()
		defer mu.Unlock()
		waits = false
		return link.Delivery{}, ctx.Err()
	}
}

func (r *reader) Drained(ctx context.Context, last uint64) (bool, error) {
	v, err := r.conn.ask(ctx, "consumer's state", question, func() any { return r.place.Pending() == 0 && r.place.At() <= last })
	if err != nil {
		return false, err
	}
	return v.(bool), nil
}

func (r *reader) Empty() bool { return r.empty }

func (r *reader) Close(context.Context) {}

// fate is how an event happens.
type fate uint8

const (
	asItShould fate = iota
	lost
	answerLost
	answerLater // It is another event.
	noLeader
	inFlight
	unheard
)

func (f fate) String() string {
	return [...]string{"as it should", "lost", "answer lost", "answer later", "no leader", "refused without a reason", "nobody listens"}[f]
}

// fate chooses how an event happens.
func (w *world) fate(e *event) fate {
	switch {
	case w.healing, w.isCalm():
		return asItShould
	case e.kind == turn:
		return asItShould
	case e.kind == delivery && w.chance(w.plan.lose):
		return lost
	case e.kind == delivery:
		return asItShould
	case e.kind == answer && w.chance(w.plan.lose):
		return answerLost
	case e.kind == answer:
		return asItShould
	case w.chance(w.plan.lose):
		return lost
	case w.chance(w.plan.lose):
		return answerLost
	case w.chance(w.plan.refuse):
		return []fate{noLeader, inFlight, unheard}[w.rng.IntN(3)]
	case w.chance(w.plan.slow):
		return answerLater
	}
	return asItShould
}

// forget drops the calls that nobody waits for: no copy of a message is in flight for as long as delete markers live.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = slices.DeleteFunc(w.events, func(e *event) bool { return e.kind == request && e.late() })
}
