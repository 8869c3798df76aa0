package link

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// Reader is the messages of a consumer, for one goroutine.
//
// A request for messages may be lost without a word: the consumer's leader may not be known yet where the client is connected, or may die. The
// jetstream package notices it by the heartbeats that do not come, but only within one call of Next: who calls it again and again with a
// short time waits for ever (nats.go 1.55). So one goroutine calls it, without an end.
type Reader struct {
	messages jetstream.MessagesContext
	got      chan received
	stopped  chan struct{}
	pump     sync.WaitGroup
}

type received struct {
	msg jetstream.Msg
	err error
}

// ahead is how many messages are taken before they are asked for.
const ahead = 64

// Read begins to read. Stop must be called.
func Read(messages jetstream.MessagesContext) *Reader {
	r := &Reader{messages: messages, got: make(chan received, ahead), stopped: make(chan struct{})}
	r.pump.Go(func() {
		defer close(r.got)
		for {
			msg, err := messages.Next()
			select {
			case r.got <- received{msg, err}:
			case <-r.stopped:
				return
			}
			if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
				return
			}
		}
	})
	return r
}

// Next waits for the next message. Errors: that of ctx; jetstream.ErrMsgIteratorClosed when there will be no more; others are not the end, but
// something may have been lost.
func (r *Reader) Next(ctx context.Context) (jetstream.Msg, error) {
	select {
	case m, ok := <-r.got:
		if !ok {
			return nil, jetstream.ErrMsgIteratorClosed
		}
		return m.msg, m.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Stop ends it.
func (r *Reader) Stop() {
	close(r.stopped)
	r.messages.Stop()
	r.pump.Wait()
}
