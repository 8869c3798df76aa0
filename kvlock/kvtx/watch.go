package kvtx

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
)

// Event is what a [Store.Watch] reports.
type Event struct {
	// Entry is a key's new state: Exists is false if it was deleted, or if its time to live has passed. It is zero if CaughtUp.
	Entry Entry
	// CaughtUp is reported once, when nothing was left to report: each key that was there at the beginning has been reported as it is
	// now, or was a moment ago. With more writes than fn can take it is not reached.
	CaughtUp bool
	// Sequence: what was written to watched keys up to this stream sequence has been reported. It rises from event to event, except that the
	// expiry of a key, which is no message in the stream, has the sequence of the event before it.
	Sequence Revision
	// Pending is how many events the server had waiting behind this one: 0 is a good moment to publish what was collected.
	Pending uint64
}

// Watch reports the current entry of each key that matches one of the filters, in the order of the stream, and then every change,
// until ctx ends or fn returns an error, which Watch returns. Filters are keys with the wildcards of NATS ("volume.*", "op.>"); none is all keys.
//
// Nothing is left out over reconnects and restarts of the server, but a key that changes several times while there is no connection, or faster
// than it is reported, may be reported with its last state only. fn is called from one goroutine; it is not called again for an entry
// that it has seen. If the stream was made again, Watch ends with [ErrStreamReplaced].
func (s *Store) Watch(ctx context.Context, filters []string, fn func(Event) error) error {
	w := &watch{store: s, fn: fn, reported: map[string]struct{}{}}
	for _, f := range filters {
		if !validPattern(f) {
			return fmt.Errorf("%w: filter %q", ErrInvalid, f)
		}
		w.filters = append(w.filters, s.prefix+f)
	}
	if len(w.filters) == 0 {
		w.filters = []string{s.prefix + ">"}
	}
	slices.Sort(w.filters)
	w.filters = slices.Compact(w.filters)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	defer context.AfterFunc(s.life, cancel)()
	for try := 0; ; {
		before := w.last
		err := w.follow(ctx)
		var stop stopError
		switch {
		case errors.As(err, &stop):
			return stop.err
		case ctx.Err() != nil:
			if s.life.Err() != nil {
				return ErrClosed
			}
			return ctx.Err()
		case w.last > before:
			try = 0
		default:
			try++
		}
		s.opts.log.DebugContext(ctx, "watch begins again", "revision", uint64(w.last), "reason", err)
		if err := pause(ctx, s.life, s.backoff(try)); err != nil && s.life.Err() != nil {
			return ErrClosed
		} else if err != nil {
			return err
		}
	}
}

// stopError ends a watch; other errors make it begin again where it was.
type stopError struct{ err error }

func (e stopError) Error() string { return e.err.Error() }

type watch struct {
	store   *Store
	filters []string
	fn      func(Event) error

	last     Revision            // The last one that was reported.
	target   Revision            // The stream's last sequence before the first consumer was made.
	drained  bool                // The consumer had nothing more to report when the last message was delivered.
	reported map[string]struct{} // Keys, until it has caught up.
	missing  map[string]struct{} // Keys that the leader had and that were not reported yet; nil: it was not asked.
	behind   int                 // How often the leader had more when the consumer had not.
	asked    time.Time           // When the leader was asked for its keys.
	caughtUp bool
	seen     Revision  // The sequence of the event that said so.
	look     time.Time // When it is looked whether something is left to report, until it has caught up.
	expiries expiries
}

// follow reports from one consumer until it breaks.
func (w *watch) follow(ctx context.Context) error {
	s := w.store
	if err := s.server.Connected(ctx); err != nil {
		return stopError{err}
	}
	ctx, cancel := s.server.WhileConnected(ctx)
	defer cancel()
	info, err := s.sameStream(ctx)
	if err == nil {
		err = s.goesOn(info, uint64(w.last))
	}
	if err != nil {
		if errors.Is(err, ErrStreamReplaced) {
			return stopError{err}
		}
		return err
	}
	w.target = max(w.target, Revision(info.State.LastSeq))

	cfg := jetstream.ConsumerConfig{
		FilterSubjects: w.filters, AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		MemoryStorage: true, Replicas: 1, MaxDeliver: 1, InactiveThreshold: 5 * time.Minute,
	}
	if w.last > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, uint64(w.last)+1
	}
	consumer, err := s.server.Consume(ctx, cfg)
	if err != nil {
		var api *jetstream.APIError
		if errors.As(err, &api) && api.Code == 400 {
			return stopError{fmt.Errorf("watch %v: %w", w.filters, err)} // Such as filters that overlap.
		}
		return err
	}
	defer consumer.Close(ctx)
	w.drained = consumer.Empty()
	if err := w.reached(ctx); err != nil {
		return err
	}
	until, forget := deadlines(ctx)
	defer forget()
	for {
		msg, err := w.next(ctx, consumer, until)
		if err != nil {
			return err
		}
		if err := w.report(ctx, msg); err != nil {
			return err
		}
	}
}

// deadlines returns what makes contexts that end at a time. While the time asked for stays the same and lies ahead the context does, too: a
// context for each message is a tenth of what a watch costs.
func deadlines(ctx context.Context) (until func(time.Time) context.Context, forget func()) {
	var last context.Context
	var at time.Time
	cancel := func() {}
	until = func(due time.Time) context.Context {
		if last == nil || last.Err() != nil || !due.Equal(at) {
			cancel()
			last, cancel = context.WithDeadline(ctx, due)
			at = due
		}
		return last
	}
	return until, func() { cancel() }
}

// next waits for a message, and does meanwhile what comes due.
func (w *watch) next(ctx context.Context, consumer link.Consumer, until func(time.Time) context.Context) (link.Delivery, error) {
	for {
		if err := w.expire(ctx); err != nil {
			return link.Delivery{}, err
		}
		due, ok := w.expiries.next()
		if !w.caughtUp {
			if now := time.Now(); !w.look.After(now) {
				w.look = now.Add(catchUpAgain)
			}
			due, ok = w.look, true
		}
		if !ok {
			return consumer.Next(ctx)
		}
		dctx := until(due)
		msg, err := consumer.Next(dctx)
		if err == nil || ctx.Err() != nil || dctx.Err() == nil {
			return msg, err
		}
		if !w.caughtUp && !w.drained {
			// What was pending may have been replaced or deleted, and then replaced by nothing.
			if w.drained, err = consumer.Drained(ctx, uint64(w.last)); err != nil {
				return link.Delivery{}, err
			}
		}
		if err := w.reached(ctx); err != nil {
			return link.Delivery{}, err
		}
	}
}

func (w *watch) report(ctx context.Context, msg link.Delivery) error {
	key := strings.TrimPrefix(msg.Subject, w.store.prefix)
	e := newEntry(key, msg.Data, msg.Header, msg.Sequence, msg.Time)
	w.last = e.Revision
	if !w.caughtUp {
		w.reported[key] = struct{}{}
		delete(w.missing, key)
	}
	w.drained = msg.Pending == 0
	w.expiries.see(&e)
	if err := w.fn(Event{Entry: e, Sequence: max(e.Revision, w.seen), Pending: msg.Pending}); err != nil {
		return stopError{err}
	}
	return w.reached(ctx)
}

// reached reports that the watch has caught up, if it has. To have come to the sequence at which the stream ended at the beginning is not
// enough: a key that was written since then left its place before that sequence for one behind it, and may not have been reported. That
// the consumer has nothing more is not enough either: a message that replaces another one is counted after the other one has gone
// (nats-server 2.15), and a consumer's server may be behind the stream's leader. So the leader is asked for its last message. While others
// write without a pause it always has one more: then it is asked for its keys, and each of them must have been reported.
func (w *watch) reached(ctx context.Context) error {
	switch {
	case w.caughtUp:
		return nil
	case w.missing != nil && len(w.missing) == 0:
		return w.catchUp(w.last)
	case !w.drained:
		return nil
	}
	last, err := w.leaderLast(ctx)
	if err != nil {
		return err
	}
	if last <= w.last {
		return w.catchUp(max(w.last, w.target))
	}
	if w.behind++; w.behind > maxBehind && time.Since(w.asked) > askAgain {
		return w.ask(ctx)
	}
	return nil
}

// catchUp tells that everything up to a sequence has been reported.
func (w *watch) catchUp(to Revision) error {
	w.caughtUp, w.seen, w.reported, w.missing = true, to, nil, nil
	if err := w.fn(Event{CaughtUp: true, Sequence: w.seen}); err != nil {
		return stopError{err}
	}
	return nil
}

// ask finds the keys that the leader has now and that were not reported.
func (w *watch) ask(ctx context.Context) error {
	missing := map[string]struct{}{}
	for _, f := range w.filters {
		info, err := w.store.server.Info(ctx, f)
		if err != nil {
			return err
		}
		for subject := range info.State.Subjects {
			key := strings.TrimPrefix(subject, w.store.prefix)
			if _, ok := w.reported[key]; !ok {
				missing[key] = struct{}{}
			}
		}
	}
	w.missing, w.asked = missing, time.Now()
	if len(missing) == 0 {
		return w.catchUp(w.last)
	}
	return nil
}

// leaderLast is the sequence of the last message that matches, as the stream's leader has it.
func (w *watch) leaderLast(ctx context.Context) (Revision, error) {
	var last Revision
	for _, f := range w.filters {
		e, err := w.store.read(ctx, w.store.life, strings.TrimPrefix(f, w.store.prefix))
		if err != nil {
			return 0, err
		}
		last = max(last, e.Revision)
	}
	return last, nil
}

// expire reports the keys whose time to live has passed and that are gone at the leader.
func (w *watch) expire(ctx context.Context) error {
	now := time.Now()
	for {
		due, ok := w.expiries.next()
		if !ok || !w.caughtUp || due.After(now) {
			return nil
		}
		x := w.expiries.pop()
		e, err := w.store.read(ctx, w.store.life, x.key)
		switch {
		case err != nil:
			w.expiries.push(x, now) // The watch begins again and finds it.
			return err
		case e.Revision == x.rev:
			w.expiries.push(x, now.Add(expiryAgain))
		case e.Revision == 0:
			gone := Entry{Key: x.key, Revision: x.rev, Time: now}
			if err := w.fn(Event{Entry: gone, Sequence: max(w.last, w.seen)}); err != nil {
				return stopError{err}
			}
		}
	}
}

const (
	expiryGrace = 500 * time.Millisecond // The server removes what has expired in turns.
	expiryAgain = 2 * time.Second

	catchUpAgain = 100 * time.Millisecond

	maxBehind = 8           // So often the leader may have more before it is asked for its keys,
	askAgain  = time.Second // again after a while: one may have expired.
)

// expiries are the keys with a time to live, by the time when they go.
type expiries struct {
	heap expiryHeap
	rev  map[string]Revision // Of the keys in the heap; other revisions in the heap are out of date.
}

type expiry struct {
	key string
	rev Revision
	due time.Time
}

// see takes note of a key's new entry.
func (x *expiries) see(e *Entry) {
	if e.TTL == 0 || !e.Exists {
		delete(x.rev, e.Key)
		return
	}
	x.push(expiry{key: e.Key, rev: e.Revision}, e.Time.Add(e.TTL+expiryGrace))
}

func (x *expiries) push(e expiry, due time.Time) {
	if x.rev == nil {
		x.rev = map[string]Revision{}
	}
	e.due = due
	x.rev[e.key] = e.rev
	heap.Push(&x.heap, e)
}

// next is when the first key goes.
func (x *expiries) next() (time.Time, bool) {
	for len(x.heap) > 0 {
		if x.rev[x.heap[0].key] == x.heap[0].rev {
			return x.heap[0].due, true
		}
		heap.Pop(&x.heap)
	}
	return time.Time{}, false
}

func (x *expiries) pop() expiry {
	e := heap.Pop(&x.heap).(expiry)
	delete(x.rev, e.key)
	return e
}

type expiryHeap []expiry

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h expiryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *expiryHeap) Push(x any)        { *h = append(*h, x.(expiry)) }
func (h *expiryHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// errScanned ends the watch of a scan.
var errScanned = errors.New("scanned")

// Scan calls fn with each key that matches the pattern and exists, in the order of the keys: the entries as they were
// at one moment or later. It holds all of them in memory.
func (s *Store) Scan(ctx context.Context, pattern string, fn func(Entry) error) error {
	found := map[string]Entry{}
	err := s.Watch(ctx, []string{pattern}, func(ev Event) error {
		switch {
		case ev.CaughtUp:
			return errScanned
		case ev.Entry.Exists:
			found[ev.Entry.Key] = ev.Entry
		default:
			delete(found, ev.Entry.Key)
		}
		return nil
	})
	if !errors.Is(err, errScanned) {
		return err
	}
	keys := make([]string, 0, len(found))
	for k := range found {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if err := fn(found[k]); err != nil {
			return err
		}
	}
	return nil
}
