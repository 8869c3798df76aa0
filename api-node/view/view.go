// Package view is the read side of an API node: tables in memory, fed by the stream, that answer what users and
// admission ask without reading the bucket.
//
// Nouns: a row is one resource or operation as users see it, its shown status included; a table holds the rows of one
// type with their indexes; the feed is the goroutine that applies the stream to the tables; a publication is the moment
// when what was collected becomes visible.
//
// Invariants:
//   - A row is never changed after its publication. Readers share it and need no lock.
//   - The tables hold what the stream held at some sequence, and nothing is left out: what was deleted or has expired is
//     gone from them. They lag behind the stream and never run ahead of it.
//   - An operation is never seen to have begun or ended without everything else that its commit wrote.
//   - The feed waits for no reader. A follower that is slow misses states in between, never the last one.
//   - A list comes from one publication, newest first, in the order of an index: nothing is sorted for it.
//   - Transitional statuses, holders and readers are derived from the records of live operations alone; a status cannot
//     outlive its operation.
//
// It decides nothing: a decision is a commit that checks what it read (package api-node/admit), for which the view is a
// hint. It writes nothing. The lock records themselves are not read: who holds what follows from the live operations, and
// whether both agree is what verification is for.
package view

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

var (
	// ErrStopped: the view is not fed any more.
	ErrStopped = errors.New("view: it is not fed any more")
	// ErrNotFound: there is no such operation, or it ended longer ago than its record is kept.
	ErrNotFound = errors.New("view: no such operation")
)

// DefaultEnded is how many ended operations are kept in memory; older ones are read from the bucket when asked for by ID.
const DefaultEnded = 20_000

// View is the tables. It is safe for concurrent use. Make it with New, feed it with Run.
type View struct {
	store    *kvtx.Store
	log      *slog.Logger
	defaults records.Limits
	ended    int

	tables *tables
	books  books

	applied  atomic.Uint64 // the sequence up to which everything is published
	gate     gate
	waiters  waiters
	caughtUp chan struct{}
	stopped  chan struct{} // closed when Run returns
	started  atomic.Bool
	faults   faults
	heard    heard
}

// Option sets what most callers leave alone.
type Option func(*View)

// WithLimits sets the limits that Quota shows for projects without their own; none by default.
func WithLimits(l records.Limits) Option { return func(v *View) { v.defaults = l } }

// New returns an empty view on the store, which the caller closes after Run has returned. A nil log discards.
func New(store *kvtx.Store, log *slog.Logger, opts ...Option) *View {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	v := &View{
		store: store, log: log, ended: DefaultEnded,
		defaults: records.Limits{Volumes: records.Unlimited, Snapshots: records.Unlimited, GiB: records.Unlimited},
		tables:   newTables(), caughtUp: make(chan struct{}), stopped: make(chan struct{}),
	}
	v.books.init()
	v.gate.init()
	v.waiters.init()
	v.heard.byID = map[block.OperationID]messages.Operation{}
	for _, o := range opts {
		o(v)
	}
	return v
}

// The view is fed with all keys and passes over those that it has no table for, such as locks. A consumer with several filters costs the
// server 100 µs a message while it catches up (nats-server 2.15.2, LoadNextMsgMulti), one with a single filter some µs.
var filters []string

// Run feeds the view until ctx ends, and returns nil then. It is called once. Any other end is an error of the stream
// that waiting does not heal, such as kvtx.ErrStreamReplaced.
func (v *View) Run(ctx context.Context) error {
	if v.started.Swap(true) {
		return errors.New("view: Run was called before")
	}
	defer close(v.stopped)
	f := newFeed(v)
	defer f.stop()
	err := v.store.Watch(ctx, filters, f.event)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// CaughtUp is closed when the view holds what the stream held when Run began: from then on lists are whole.
func (v *View) CaughtUp() <-chan struct{} { return v.caughtUp }

// Applied is the stream sequence up to which the view has published everything that it holds.
func (v *View) Applied() kvtx.Revision { return kvtx.Revision(v.applied.Load()) }

// Wait returns when the view has applied the stream up to rev, so that readers see their own writes. rev is the revision of a record
// that the view holds: an operation, a resource, a quota, a pool, a backend, a node; not of a lock. Errors: ctx's, ErrStopped.
func (v *View) Wait(ctx context.Context, rev kvtx.Revision) error {
	for {
		again := v.gate.wait()
		if v.Applied() >= rev {
			return nil
		}
		select {
		case <-again:
		case <-ctx.Done():
			return ctx.Err()
		case <-v.stopped:
			return ErrStopped
		}
	}
}

// gate is a channel that is closed at each publication for which somebody waits.
type gate struct {
	mu      sync.Mutex
	ch      chan struct{}
	waiting bool
}

func (g *gate) init() { g.ch = make(chan struct{}) }

// wait returns a channel that the next publication closes. It is taken before the state is looked at.
func (g *gate) wait() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = true
	return g.ch
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting {
		close(g.ch)
		g.ch, g.waiting = make(chan struct{}), false
	}
}
