package kvlock

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

const (
	// wakeToken begins the dispatch subjects of wakes: op.<bucket>.wake.<key>.<token>. A token is never used twice.
	wakeToken = "wake"
	// wakeConsumer is the durable consumer that all who serve wakes share.
	wakeConsumer = "kvlock-wakes"
	// wakeAgain is when a wake that nobody acknowledged is served again.
	wakeAgain = 10 * time.Second
	// wakeBeat is how often the server says that it has heard the request for wakes; after two of them it is asked again.
	wakeBeat = 2 * time.Second
	// wakePurge is how often wakes that were served are removed from the stream.
	wakePurge = time.Second
)

// Grant goes through the line of a key and grants what is free, as the end of a holder does. If nothing is, the commit proves it by a
// check of what it read: a leader that lags may have shown old records.
func (l *Locker) Grant(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	_, err := l.store.Update(ctx, []string{LockKey(key)}, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		h := l.handover(s)
		lk := h.lock(key)
		if lk == nil {
			return h.err
		}
		h.run(key)
		if err := h.stage(tx, true); err != nil {
			return err
		}
		if !lk.written {
			tx.Check(LockKey(key), lk.Revision)
		}
		return nil
	})
	return err
}

// ServeWakes goes through the lines that commits could not finish, until ctx ends. At least one process that is always there serves
// them; several share the work. It returns nil when ctx ends. Errors: the consumer cannot be made.
func (l *Locker) ServeWakes(ctx context.Context) error {
	w := wakes{l: l, prefix: l.store.DispatchSubject(wakeToken) + "."}
	var err error
	w.consumer, err = l.store.Stream().CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: wakeConsumer, FilterSubject: w.prefix + ">", AckPolicy: jetstream.AckExplicitPolicy, AckWait: wakeAgain, MaxAckPending: 64,
	})
	if err != nil {
		return err
	}
	iter, err := w.consumer.Messages(jetstream.PullMaxMessages(16), jetstream.PullHeartbeat(wakeBeat))
	if err != nil {
		return err
	}
	messages := link.Read(iter)
	defer messages.Stop()
	for ctx.Err() == nil {
		msg, err := w.next(ctx, messages)
		switch {
		case err == nil:
			w.serve(ctx, msg)
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return err
		}
		w.purge(ctx)
	}
	return nil
}

// wakes is one who serves them.
type wakes struct {
	l        *Locker
	prefix   string
	consumer jetstream.Consumer
	served   bool // since the last purge
	purged   time.Time
}

// next waits for the next wake, or, after others were served, until it is time to purge them.
func (w *wakes) next(ctx context.Context, messages *link.Reader) (jetstream.Msg, error) {
	if w.served {
		moment, cancel := context.WithTimeout(ctx, wakePurge)
		defer cancel()
		ctx = moment
	}
	return messages.Next(ctx)
}

// serve goes through the line of a wake's key, then acknowledges it.
func (w *wakes) serve(ctx context.Context, msg jetstream.Msg) {
	key := strings.TrimPrefix(msg.Subject(), w.prefix)
	if i := strings.LastIndexByte(key, '.'); i > 0 {
		key = key[:i]
	}
	err := w.l.Grant(ctx, key)
	switch {
	case errors.Is(err, ErrInvalid): // no key of a lock: nobody here sent it
		err = msg.Term()
	case err == nil:
		w.l.Observe(Event{Kind: Woken})
		err = msg.DoubleAck(ctx)
	}
	if err != nil && ctx.Err() == nil {
		w.l.log.WarnContext(ctx, "line not gone through, it is tried again", "key", key, "error", err)
	}
	w.served = true
}

// purge removes served wakes from the stream, up to the acknowledge floor: what is not acknowledged stands above it.
func (w *wakes) purge(ctx context.Context) {
	if !w.served || time.Since(w.purged) < wakePurge {
		return
	}
	w.purged = time.Now()
	info, err := w.consumer.Info(ctx)
	if err == nil {
		floor := info.AckFloor.Stream
		if info.NumAckPending == 0 { // what was delivered and purged does not raise the server's floor (nats-server 2.15)
			floor = max(floor, info.Delivered.Stream)
		}
		err = w.l.store.Stream().Purge(ctx, jetstream.WithPurgeSubject(w.prefix+">"), jetstream.WithPurgeSequence(floor+1))
	}
	if err == nil {
		w.served = info.NumAckPending > 0
	} else if ctx.Err() == nil {
		w.l.log.DebugContext(ctx, "wakes not purged, it is tried again", "error", err)
	}
}
