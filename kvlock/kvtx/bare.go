package kvtx

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"
)

// Bare publishes to scratch keys of the store's stream with nothing around it: the floor that commits are measured against. It
// is for benchmarks. It must not be used by two goroutines.
type Bare struct {
	store *Store
	token string
	value []byte
	sent  int
}

// Bare makes a publisher of messages with values of size bytes.
func (s *Store) Bare(size int) *Bare {
	return &Bare{store: s, token: rand.Text(), value: make([]byte, size)}
}

// bareTTL: scratch keys go by themselves.
const bareTTL = "1h"

// bareKeys is how many keys are used in turn.
const bareKeys = 4096

func (b *Bare) message() message {
	b.sent++
	return message{
		subject: b.store.prefix + "bare." + b.token + "." + strconv.Itoa(b.sent%bareKeys),
		value:   b.value, ttl: bareTTL,
	}
}

// Batch publishes one atomic batch of n messages, 1 to 500, and says how long it took: one round trip.
func (b *Bare) Batch(ctx context.Context, n int) (time.Duration, error) {
	if n < 1 || n > batchMessages {
		return 0, fmt.Errorf("%w: batch of %d messages", ErrInvalid, n)
	}
	messages := make([]message, n)
	for i := range messages {
		messages[i] = b.message()
	}
	begin := time.Now()
	id := b.token + "." + strconv.Itoa(b.sent)
	_, err := b.store.sendBatch(ctx, id, &batch{messages: messages, keys: func() []string { return nil }})
	return time.Since(begin), err
}

// Update does one plain write of one message that checks the revision before it, on one key, and says how long it took.
func (b *Bare) Update(ctx context.Context) (time.Duration, error) {
	key := "bare." + b.token + ".update"
	e, err := b.store.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	m := message{subject: b.store.prefix + key, value: b.value, ttl: bareTTL, expects: true, expect: e.Revision}
	begin := time.Now()
	_, err = b.store.wire.publish(ctx, m.nats(0))
	return time.Since(begin), err
}
