package memserver

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
)

// MaxPayload is the largest size of a message, as a nats-server has it.
const MaxPayload = 1 << 20

// Conn is the way to a server that loses and delays nothing.
type Conn struct{ server *Server }

var _ link.Server = Conn{}

// Conn returns the way to the server.
func (s *Server) Conn() Conn { return Conn{s} }

// Call answers at once.
func (c Conn) Call(_ context.Context, msgs ...*nats.Msg) (*nats.Msg, error) {
	return Answer(c.server.Handle(msgs...))
}

// Answer is a server's answer as a call returns it.
func Answer(m *nats.Msg) (*nats.Msg, error) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return nil, link.ErrUnheard
	}
	return m, nil
}

// Info asks for the stream.
func (c Conn) Info(_ context.Context, filter string) (*jetstream.StreamInfo, error) {
	return c.server.Info(filter), nil
}

// Consume makes a consumer.
func (c Conn) Consume(_ context.Context, cfg jetstream.ConsumerConfig) (link.Consumer, error) {
	place, err := c.server.Consume(cfg)
	if err != nil {
		return nil, err
	}
	return &reader{place, place.Pending() == 0}, nil
}

// Connected does not wait: it always is.
func (c Conn) Connected(ctx context.Context) error { return ctx.Err() }

// WhileConnected is ctx.
func (c Conn) WhileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

// Breaks is none.
func (c Conn) Breaks() uint64 { return 0 }

// MaxPayload is the largest size of a message.
func (c Conn) MaxPayload() int { return MaxPayload }

// Close does nothing.
func (c Conn) Close() {}

type reader struct {
	place *Consumer
	empty bool
}

func (r *reader) Next(ctx context.Context) (link.Delivery, error) {
	for {
		changed := r.place.server.Changed()
		if d, ok := r.place.Next(); ok {
			return d, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return link.Delivery{}, ctx.Err()
		}
	}
}

func (r *reader) Drained(_ context.Context, last uint64) (bool, error) {
	return r.place.Pending() == 0 && r.place.At() <= last, nil
}

func (r *reader) Empty() bool { return r.empty }

func (r *reader) Close(context.Context) {}
