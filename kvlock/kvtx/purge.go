package kvtx

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// WithPurgeGate sets who is asked before each purge of the stream, also by those who have it from Stream; by default nobody. An error
// is what the purge returns, and nothing is purged then. It is for servers that a purge may harm: nats-server 2.15.2 locks itself up
// for good when one meets a full disk.
func WithPurgeGate(may func(context.Context) error) Option {
	return func(o *options) { o.mayPurge = may }
}

// gated is a stream that is purged only if it may be.
type gated struct {
	jetstream.Stream
	may func(context.Context) error
}

// Purge removes messages, or says why that must wait.
func (g gated) Purge(ctx context.Context, opts ...jetstream.StreamPurgeOpt) error {
	if err := g.may(ctx); err != nil {
		return fmt.Errorf("not purged: %w", err)
	}
	return g.Stream.Purge(ctx, opts...)
}
