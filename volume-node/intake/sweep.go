package intake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagakv"
)

// sweeper looks for operations of which nobody is told any more: their dispatch is gone from the stream, or the consumer
// has passed it. That takes a broken broker; no safety rests on it. It also finds what workers of this node left: see
// inherit.
type sweeper struct {
	i      *Intake
	queues map[string]*queue
	// seen is the stream sequence up to which all operation records were looked at, and live are those among them that
	// may be driven: a record that changes later has a higher sequence.
	seen uint64
	live map[string]driven
	heir heir
}

// driven is what a record said of an operation that may be driven.
type driven struct {
	worker   string
	dispatch uint64
	revision uint64
}

func (i *Intake) sweep(ctx context.Context, queues []*queue) {
	s := &sweeper{i: i, queues: make(map[string]*queue), live: make(map[string]driven)}
	for _, q := range queues {
		s.queues[q.backend] = q
	}
	look := time.NewTicker(i.cfg.LookEvery)
	defer look.Stop()
	jitter := func() time.Duration { return i.cfg.SweepEvery/2 + rand.N(i.cfg.SweepEvery) } // the workers of a backend all do it
	sweep := time.NewTimer(jitter())
	defer sweep.Stop()
	for {
		if err := s.inherit(ctx); err != nil && ctx.Err() == nil {
			i.log.WarnContext(ctx, "what workers left that have ended is not found, it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			continue
		case <-sweep.C:
		}
		if err := s.round(ctx); err != nil && ctx.Err() == nil {
			i.log.WarnContext(ctx, "sweep for lost dispatches is incomplete, it is tried again", "error", err)
		}
		sweep.Reset(jitter())
	}
}

func (s *sweeper) round(ctx context.Context) error {
	for _, q := range s.queues {
		q.purgeable.Add(1)
	}
	if err := s.collect(ctx); err != nil {
		return err
	}
	for id := range s.live {
		if s.i.table.has(id) {
			continue
		}
		if err := s.examine(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// collect looks at the operation records that were written since the last round: each only once, in its last state.
func (s *sweeper) collect(ctx context.Context) error {
	store := s.i.deps.Store
	info, err := store.Stream().Info(ctx)
	if err != nil {
		return err
	}
	end := info.State.LastSeq
	if end <= s.seen {
		return nil
	}
	consumer, err := store.Stream().OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{store.Subject(kvlock.OwnerKey("*"))},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy, OptStartSeq: s.seen + 1,
	})
	if err != nil {
		return err
	}
	defer func() { _ = store.Stream().DeleteConsumer(context.WithoutCancel(ctx), consumer.CachedInfo().Name) }()
	if consumer.CachedInfo().NumPending > 0 {
		if err := s.read(ctx, consumer, end); err != nil {
			return err
		}
	}
	s.seen = end
	return nil
}

func (s *sweeper) read(ctx context.Context, consumer jetstream.Consumer, end uint64) error {
	iter, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer iter.Stop()
	for {
		wait, cancel := context.WithTimeout(ctx, 10*time.Second) // what was pending may be gone by now
		msg, err := iter.Next(jetstream.NextContext(wait))
		cancel()
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream <= end {
			s.note(msg, meta.Sequence.Stream)
		}
		if meta.NumPending == 0 || meta.Sequence.Stream >= end {
			return nil
		}
	}
}

// note keeps an operation that may be driven, and forgets one that may not.
func (s *sweeper) note(msg jetstream.Msg, sequence uint64) {
	key := strings.TrimPrefix(msg.Subject(), s.i.deps.Store.Subject(""))
	entry := kvtx.Entry{Key: key, Value: msg.Data(), Revision: kvtx.Revision(sequence), Exists: len(msg.Data()) > 0}
	rec, err := kvlock.DecodeRecord(entry)
	if err == nil && drivable(rec) {
		s.live[rec.Owner] = driven{worker: rec.Worker, dispatch: rec.Dispatch, revision: sequence}
		return
	}
	delete(s.live, strings.TrimPrefix(key, kvlock.OwnerKey("")))
}

func drivable(rec kvlock.Record) bool {
	return rec.Live() && (rec.Phase == kvlock.Granted || rec.Phase == kvlock.Running || rec.Phase == kvlock.Undoing)
}

// examine dispatches an operation again if its dispatch is lost. The order of the reads matters: the floor before the
// record, because a delivery is acknowledged only after the record says why.
func (s *sweeper) examine(ctx context.Context, id string) error {
	rec, q, err := s.look(ctx, id)
	if q == nil || err != nil {
		return err
	}
	why, err := s.lost(ctx, q, rec)
	if err != nil || why == "" {
		return err
	}
	_, err = s.again(ctx, q, rec, "its dispatch was lost: "+why)
	return err
}

// look reads the record of an operation that may be driven, with the queue of its backend: nil if there is nothing to do
// here.
func (s *sweeper) look(ctx context.Context, id string) (kvlock.Record, *queue, error) {
	rec, err := s.i.deps.Locks.Record(ctx, id)
	if errors.Is(err, kvlock.ErrNotFound) || err == nil && !drivable(rec) {
		delete(s.live, id)
		return rec, nil, nil
	}
	backend := ""
	if err == nil {
		backend, err = backendOf(rec)
	}
	if err != nil {
		if ctx.Err() != nil {
			return rec, nil, err
		}
		s.i.log.WarnContext(ctx, "operation cannot be read", "operation", id, "error", err)
		return rec, nil, nil
	}
	return rec, s.queues[backend], nil // none: for the workers of that backend to judge
}

func backendOf(rec kvlock.Record) (string, error) {
	payload, err := sagakv.DecodePayload(rec.Payload)
	if err != nil {
		return "", err
	}
	op, err := records.Decode[records.Operation](payload.Request)
	return op.Backend, err
}

// lost says why nobody will be told of the record's dispatch, or "".
func (s *sweeper) lost(ctx context.Context, q *queue, rec kvlock.Record) (string, error) {
	subject := q.prefix + fmt.Sprintf("%s.%d", rec.Owner, rec.Dispatch)
	msg, err := s.i.deps.Store.Stream().GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Sprintf("dispatch %d is gone from the stream", rec.Dispatch), nil
	}
	if err != nil {
		return "", err
	}
	info, err := (*q.consumer.Load()).Info(ctx)
	if err != nil {
		return "", err
	}
	if msg.Sequence <= floorOf(info) {
		return fmt.Sprintf("dispatch %d was acknowledged", rec.Dispatch), nil
	}
	return "", nil
}

// again raises the dispatch number and publishes the dispatch in one commit, unless the operation moved on: then it
// returns 0, else the new number.
func (s *sweeper) again(ctx context.Context, q *queue, old kvlock.Record, why string) (uint64, error) {
	moved := errors.New("the operation moved on")
	var next kvlock.Record
	_, err := s.i.deps.Store.Update(ctx, s.i.deps.Locks.Keys(old.Owner), func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		entry, err := snap.Get(kvlock.OwnerKey(old.Owner))
		if err != nil {
			return err
		}
		now, err := kvlock.DecodeRecord(entry)
		if err != nil || !drivable(now) || now.Dispatch != old.Dispatch || now.Epoch != old.Epoch {
			return moved
		}
		if backend, err := backendOf(now); err != nil || backend != q.backend {
			return moved
		}
		if next, err = s.i.deps.Locks.StageRedispatch(snap, tx, old.Owner); err != nil {
			return err
		}
		tx.Publish(s.i.deps.Store.DispatchSubject(records.DispatchParts(q.backend, block.OperationID(old.Owner), next.Dispatch)...), nil, nil)
		return nil
	})
	if errors.Is(err, moved) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	s.i.log.WarnContext(ctx, "operation dispatched again", "operation", old.Owner, "backend", q.backend, "reason", why)
	s.i.observe(Event{Kind: Redispatched, Backend: q.backend, Operation: old.Owner, Reason: why})
	return next.Dispatch, nil
}
