package kvtx

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
)

// Bare publishes to scratch keys of the store's stream with nothing around it: the floor that commits are measured against. It
// is for benchmarks and for one goroutine.
type Bare struct {
	store *Store
	token string
	value []byte
	sent  int
	revs  [bareKeys]Revision // Of the keys that Updates writes.
}

// bareKeys is how many keys are used in turn.
const bareKeys = 4096

// Bare makes a publisher of messages with values of size bytes. Close removes its keys.
func (s *Store) Bare(size int) *Bare {
	return &Bare{store: s, token: rand.Text(), value: make([]byte, size)}
}

// Close removes what was published.
func (b *Bare) Close(ctx context.Context) error {
	return b.store.stream.Purge(ctx, jetstream.WithPurgeSubject(b.store.prefix+"bare."+b.token+".>"))
}

func (b *Bare) message(kind string) message {
	b.sent++
	return message{subject: b.store.prefix + "bare." + b.token + "." + kind + "." + strconv.Itoa(b.sent%bareKeys), value: b.value}
}

// Batch publishes one atomic batch of n messages, 1 to 500, without expectations, and says how long it took: one round trip.
func (b *Bare) Batch(ctx context.Context, n int) (time.Duration, error) {
	if n < 1 || n > batchMessages {
		return 0, fmt.Errorf("%w: batch of %d messages", ErrInvalid, n)
	}
	messages := make([]message, n)
	for i := range messages {
		messages[i] = b.message("batch")
	}
	begin := time.Now()
	id := b.token + "." + strconv.Itoa(b.sent)
	_, err := b.store.sendBatch(ctx, id, &batch{messages: messages, keys: func() []string { return nil }}, begin)
	return time.Since(begin), err
}

// Updates sends n plain writes of one message each, on keys of their own and checked by revision, before it waits for the first
// answer, and says how long it took until the last one.
func (b *Bare) Updates(ctx context.Context, n int) (time.Duration, error) {
	if n < 1 || n > bareKeys {
		return 0, fmt.Errorf("%w: %d updates", ErrInvalid, n)
	}
	begin := time.Now()
	sent, keys := make([]*link.Pending, n), make([]int, n)
	for i := range sent {
		m := b.message("update")
		keys[i] = b.sent % bareKeys
		m.expects, m.expect = true, b.revs[keys[i]]
		var err error
		if sent[i], err = b.store.nats.Send(m.nats(0)); err != nil {
			return 0, err
		}
	}
	for i, p := range sent {
		msg, err := p.Wait(ctx)
		if err != nil {
			return 0, err
		}
		ack, err := parseAck(msg)
		if err != nil {
			return 0, err
		}
		b.revs[keys[i]] = Revision(ack.Seq)
	}
	return time.Since(begin), nil
}
