// Package link is what a kvtx store needs of the server that has its stream, and that over a NATS connection.
//
// It is the seam of the library: [NATS] is the way to a real server; kvlock/internal/memserver is a server in memory, on which the
// simulation of kvlock/sim runs.
//
// The nouns:
//
//   - Server: the way to one stream.
//   - call: messages that are sent in their order, of which the last one asks for an answer.
//   - Consumer: the messages of the stream that match a filter, one after another.
//   - break: the end of a connection. What was asked before it is answered with [ErrNoAnswer] at once.
//
// Invariants: an answer belongs to the call that returns it; a call without an answer may have arrived, now or later.
//
// What it does not do: it repeats nothing and decides nothing; it does not know what a message says.
package link

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrNoAnswer: it is not known whether the call arrived.
	ErrNoAnswer = errors.New("no answer")
	// ErrUnheard: nobody took the call's last message: it had no effect.
	ErrUnheard = errors.New("nobody listens: the stream has no leader")
	// ErrGap: a consumer has lost a message, and cannot go on.
	ErrGap = errors.New("a delivery is missing")
)

// Server is the way to one stream. It is safe for concurrent use.
type Server interface {
	// Call sends the messages and waits for the answer to the last one. Errors: ErrNoAnswer, with that of ctx if it ended; ErrUnheard; others
	// say that nothing was sent.
	Call(ctx context.Context, msgs ...*nats.Msg) (*nats.Msg, error)
	// Info asks for the stream; with the subjects that match the filter unless that is "".
	Info(ctx context.Context, filter string) (*jetstream.StreamInfo, error)
	// Consume makes a consumer of its own.
	Consume(ctx context.Context, cfg jetstream.ConsumerConfig) (Consumer, error)

	// Connected waits until there is a connection.
	Connected(ctx context.Context) error
	// WhileConnected is ctx, ended when the connection breaks.
	WhileConnected(ctx context.Context) (context.Context, context.CancelFunc)
	// Breaks is how often the connection broke.
	Breaks() uint64
	// MaxPayload is the largest size of a message.
	MaxPayload() int
	// Close gives back what the way needs. The connection itself is the caller's.
	Close()
}

// Consumer reads the stream for one goroutine.
type Consumer interface {
	// Next waits for the next message. An error other than that of ctx says that the consumer is of no use any more.
	Next(ctx context.Context) (Delivery, error)
	// Drained says whether the server had nothing more to deliver when it answered, and nothing on its way that is newer than last.
	Drained(ctx context.Context, last uint64) (bool, error)
	// Empty says whether it had nothing to deliver when it was made.
	Empty() bool
	// Close removes the consumer, also when ctx has ended; if that does not work the server does it after a while.
	Close(ctx context.Context)
}

// Delivery is one message from a consumer.
type Delivery struct {
	Subject  string
	Data     []byte
	Header   nats.Header
	Sequence uint64 // In the stream.
	Pending  uint64 // How many messages the server had behind it.
	Time     time.Time
}
