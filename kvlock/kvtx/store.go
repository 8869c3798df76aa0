package kvtx

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
)

// Store is one stream: the records of its bucket and its dispatch subjects. It is safe for concurrent use. A process
// should have one Store for a stream: commits that wait at the same moment are made together.
type Store struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	created time.Time
	cfg     Config
	opts    options

	server     link.Server
	nats       *link.NATS // The server; nil if it is none behind a connection.
	prefix     string     // "$KV.<bucket>."
	dispatch   string     // "op.<bucket>."
	getSubject string
	maxPayload int
	markerTTL  string
	// fresh is how old an entry may be that a commit is decided on, and how long a commit may wait to be sent: together half the
	// life of a delete marker. After all of it an absent key could have been there meanwhile without a trace.
	fresh time.Duration

	limit     limit
	committer *committer
	cache     *cache
	clock     atomic.Uint64 // Orders what was asked and what was seen.
	writes    atomic.Uint64 // Numbers the single writes of this store.

	placeholder Revision      // The last one; of the committer alone.
	proving     chan struct{} // Holds one while somebody writes a proof (prove).

	identity
	life    context.Context // Ends when Close begins.
	endLife context.CancelFunc
	mu      sync.Mutex
	closed  bool
	calls   sync.WaitGroup // Not begun any more once closed is set.
	ended   chan struct{}  // Closed when Close is done.
}

// newStore makes the store of a stream that was verified. api is the prefix of the server's API subjects.
func newStore(server link.Server, api string, created time.Time, cfg Config, o options) *Store {
	s := &Store{
		created: created, cfg: cfg, opts: o, server: server,
		prefix:     "$KV." + cfg.Bucket + ".",
		dispatch:   "op." + cfg.Bucket + ".",
		getSubject: api + "STREAM.MSG.GET.KV_" + cfg.Bucket,
		maxPayload: server.MaxPayload(),
		markerTTL:  cfg.MarkerTTL.String(),
		fresh:      cmp.Or(o.fresh, cfg.MarkerTTL/4),
		cache:      newCache(o.cacheBytes),
		limit:      limit{commits: o.commits, bytes: o.bytes},
		proving:    make(chan struct{}, 1),
		ended:      make(chan struct{}),
	}
	s.life, s.endLife = context.WithCancel(context.Background())
	s.committer = newCommitter(s, crand.Text())
	s.committer.jitter = o.jitter
	s.committer.start()
	return s
}

func apiPrefix(js jetstream.JetStream) string {
	p := js.Options().APIPrefix
	if p == "" {
		p = jetstream.DefaultAPIPrefix
	}
	if !strings.HasSuffix(p, ".") {
		p += "."
	}
	return p
}

// Stream is the stream itself, for consumers. Do not publish to it.
func (s *Store) Stream() jetstream.Stream { return s.stream }

// Conn is the connection that the store uses.
func (s *Store) Conn() *nats.Conn { return s.js.Conn() }

// JetStream is the JetStream context that the store was opened with.
func (s *Store) JetStream() jetstream.JetStream { return s.js }

// Bucket is the name of the bucket.
func (s *Store) Bucket() string { return s.cfg.Bucket }

// Created is when the stream was made.
func (s *Store) Created() time.Time { return s.created }

// Subject is the stream subject of a key, or of a pattern of keys, for consumers.
func (s *Store) Subject(key string) string { return s.prefix + key }

// DispatchSubject joins the parts below "op.<bucket>".
func (s *Store) DispatchSubject(parts ...string) string { return s.dispatch + strings.Join(parts, ".") }

// Close waits for the commits that were sent, a few seconds at most, and refuses the others with [ErrClosed]. It waits for watches
// and their functions to end. The connection is the caller's.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		s.endLife()
		s.committer.stop()
		s.calls.Wait()
		s.server.Close()
		close(s.ended)
	}
	<-s.ended
	return nil
}

// enter begins a call, unless the store cannot be used; s.calls.Done ends it.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.failed(); err != nil {
		return err
	}
	s.calls.Add(1)
	return nil
}

// Get reads one key from the stream's leader. That it is absent is no error. While there is no connection or no leader it
// waits until ctx ends.
func (s *Store) Get(ctx context.Context, key string) (Entry, error) {
	ks, err := s.readMany(ctx, s.life, key)
	if err != nil {
		return Entry{}, err
	}
	return ks[0].Entry, nil
}

// Cached returns the entry of a key as this process read or wrote it last, if it still has it; a commit of this process that writes the
// key at the moment is waited for. It may be out of date: it is good for a write that expects its revision, and for nothing else.
func (s *Store) Cached(ctx context.Context, key string) (Entry, bool) {
	waited, err := s.committer.flying.wait(ctx, key)
	if err != nil {
		return Entry{}, false
	}
	if waited {
		s.opts.turn(ctx)
	}
	k, ok := s.cache.get(key)
	return k.Entry, ok
}

// GetMany reads several keys as Get does, in parallel; the entries are in the order of the keys. They are not a snapshot of one moment.
func (s *Store) GetMany(ctx context.Context, keys ...string) ([]Entry, error) {
	ks, err := s.readMany(ctx, s.life, keys...)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(ks))
	for i := range ks {
		entries[i] = ks[i].Entry
	}
	return entries, nil
}

// maxReads is how many keys are read side by side for one call.
const maxReads = 32

// readMany reads keys from the leader, and into the cache, until there is an answer, or ctx or life ends. life is the store's, or the
// committer's, which goes on while the store is being closed.
func (s *Store) readMany(ctx, life context.Context, keys ...string) ([]known, error) {
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, err
		}
	}
	if life == s.life {
		if err := s.enter(); err != nil {
			return nil, err
		}
		defer s.calls.Done()
	}
	ks, errs := make([]known, len(keys)), make([]error, len(keys))
	one := func(i int) {
		asked, at, breaks := s.clock.Add(1), time.Now(), s.server.Breaks()
		e, err := s.read(ctx, life, keys[i])
		if err != nil {
			errs[i] = fmt.Errorf("read %s: %w", keys[i], err)
			return
		}
		ks[i] = known{e, asked, s.clock.Add(1), at, breaks}
		s.cache.put(ks[i])
	}
	var next atomic.Int64
	some := func() {
		for i := int(next.Add(1)) - 1; i < len(keys); i = int(next.Add(1)) - 1 {
			one(i)
		}
	}
	var wg sync.WaitGroup
	for range min(len(keys), maxReads) - 1 {
		wg.Go(some)
	}
	some()
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return ks, nil
}

// read asks until there is an answer.
func (s *Store) read(ctx, life context.Context, key string) (Entry, error) {
	for try := 0; ; try++ {
		var e Entry
		err := s.exchange(ctx, Read, func() []string { return []string{key} }, func(ctx context.Context) (err error) {
			e, err = s.readOnce(ctx, key)
			return err
		})
		switch {
		case err == nil:
			return e, nil
		case !errors.Is(err, errNoAnswer) && !errors.Is(err, errUnheard) && !unavailable(err):
			return Entry{}, err
		}
		if err := pause(ctx, life, s.backoff(try)); err != nil {
			return Entry{}, err
		}
	}
}

// unavailable says that the server has no leader or is starting: ask again.
func unavailable(err error) bool {
	var api *apiError
	return errors.As(err, &api) && api.Code == 503
}

// backoff is the pause before the next try: from about 10 ms to about 1 s.
func (s *Store) backoff(try int) time.Duration {
	return s.opts.jitter(10 * time.Millisecond << min(try, 7))
}

// jitter is about d: half of it to one and a half.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d+1) }

// pause waits, unless ctx or life ends first.
func pause(ctx, life context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-life.Done():
		if err := ctx.Err(); err != nil {
			return err // Of two that have ended, or are one, the caller's own says why.
		}
		return ErrClosed
	}
}
