package kvtx

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"time"
)

// DefaultBucket is the bucket of a zero [Config].
const DefaultBucket = "scoria"

// Config says which stream to use, and how to make it if it is missing. The zero value works.
type Config struct {
	// Bucket is the name of the KV bucket, [A-Za-z0-9_-]{1,64}; "" is [DefaultBucket]. The stream is KV_<bucket>, its subjects
	// are $KV.<bucket>.> and op.<bucket>.>.
	Bucket string
	// Replicas of the stream, 1 to 5; 0 is 1.
	Replicas int
	// MarkerTTL is how long delete markers stay; 0 is [MinMarkerTTL], less is refused.
	MarkerTTL time.Duration
	// Metadata is given to the stream when it is made. It is not compared later.
	Metadata map[string]string
}

var token = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Validate names the field that cannot be used.
func (c Config) Validate() error {
	if c.Bucket != "" && !token.MatchString(c.Bucket) {
		return fmt.Errorf("%w: Bucket %q: must match %s", ErrInvalid, c.Bucket, token)
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		return fmt.Errorf("%w: Replicas %d: must be 1 to 5", ErrInvalid, c.Replicas)
	}
	if c.MarkerTTL != 0 && c.MarkerTTL < MinMarkerTTL {
		return fmt.Errorf("%w: MarkerTTL %v: must be at least %v", ErrInvalid, c.MarkerTTL, MinMarkerTTL)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Bucket == "" {
		c.Bucket = DefaultBucket
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.MarkerTTL == 0 {
		c.MarkerTTL = MinMarkerTTL
	}
	return c
}

// Option sets what most users leave alone.
type Option func(*options)

type options struct {
	log        *slog.Logger
	intercept  Interceptor
	ackTimeout time.Duration
	cacheBytes int
	fresh      time.Duration // See Store.fresh.
	mayPurge   func(context.Context) error
	commits    int // That are under way at once, at most,
	bytes      int // and what they hold.
	jitter     func(time.Duration) time.Duration
	turn       func(context.Context) // See Chance.
}

func defaultOptions() options {
	return options{log: slog.New(slog.DiscardHandler), ackTimeout: 10 * time.Second, cacheBytes: 4 << 20, commits: DefaultLimitCommits, bytes: DefaultLimitBytes, jitter: jitter, turn: func(context.Context) {}}
}

func optionsOf(opts []Option) options {
	o := defaultOptions()
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithLogger sets the logger; the default discards. The store logs at Debug what it repeats and decides anew.
func WithLogger(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithAckTimeout sets how long an answer of the server is waited for before the same commit is sent again; 10 s by default.
func WithAckTimeout(d time.Duration) Option { return func(o *options) { o.ackTimeout = d } }

// WithCacheBytes bounds the memory for entries that were read or written last; 4 MiB by default, 0 keeps none.
func WithCacheBytes(n int) Option { return func(o *options) { o.cacheBytes = n } }

// WithLimit bounds the commits that are under way at once, and about how many bytes they hold; by default [DefaultLimitCommits] and [DefaultLimitBytes].
// Beyond, a call is refused with [ErrBusy] at once, instead of waiting for a server that is slow or does not answer.
func WithLimit(commits, bytes int) Option {
	return func(o *options) { o.commits, o.bytes = commits, bytes }
}

// WithInterceptor puts i around every exchange with the server. It is for tests of what uses a store.
func WithInterceptor(i Interceptor) Option { return func(o *options) { o.intercept = i } }

// Kind of an exchange with the server.
type Kind uint8

const (
	// Read is the read of one key from the leader.
	Read Kind = iota + 1
	// Write is a revision-checked write of one message.
	Write
	// Batch is an atomic batch.
	Batch
)

func (k Kind) String() string {
	switch k {
	case Read:
		return "read"
	case Write:
		return "write"
	case Batch:
		return "batch"
	}
	return "unknown"
}

// Call describes one exchange with the server.
type Call struct {
	Kind Kind
	Keys []string // What it reads, writes and checks; receipts and carriers are left out.
}

// Interceptor stands between the store and the server: it calls next to let the exchange happen. An error without a call of next is
// a request that never arrived, an error of its own after next returned is an answer that was lost; the store must find out by itself which.
type Interceptor func(ctx context.Context, call Call, next func(context.Context) error) error
