package kvtx

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// How a lost answer is decided.
//
// A batch carries a receipt: the key rcpt.<committer> with the batch's number, expected at the revision that the last batch of
// this committer gave it. A batch whose answer is lost is sent again unchanged under a new batch ID. If a copy is acknowledged, that one
// applied, and no other can: the receipt has moved. If a copy is refused, the committer overwrites the receipt itself, expecting the same
// revision as the batch: if that succeeds, no copy has applied and none can any more; if it is refused, the receipt holds the batch's
// number, so the first copy applied, and its revisions follow from the receipt's.
//
// A write of one message is sent again unchanged, too. If a copy is refused because the key has moved, no other copy can apply
// either; the entry that stands there says whether one did: it carries the writer's mark, or the caller's proof recognises it, or it says
// that it directly replaced the revision that our write expected.
//
// What the server shows is not always on its disk, see durable.go.

// errLost: a definite refusal because of an expectation. Nothing was written and no copy is in flight.
var errLost = errors.New("an expectation did not hold")

// errStale: what the commit was decided on is too old by now for it to be sent.
var errStale = errors.New("waited too long to be sent")

// message is one message of a commit as it will be sent.
type message struct {
	subject string
	value   []byte
	header  nats.Header // Of a publish; nil for others.
	ttl     string
	del     bool
	expects bool
	expect  Revision
	other   string // The subject that the expectation is about, if it is not the message's own.
	writer  string
}

// message makes the message that writes what o says.
func (s *Store) message(o *op) message {
	if o.key == "" {
		return message{subject: o.subject, value: o.value, header: o.header}
	}
	m := message{subject: s.prefix + o.key, value: o.value, expects: true, expect: o.expect, del: o.del}
	switch {
	case o.del:
		m.ttl, m.value = s.markerTTL, nil
	case o.ttl > 0:
		m.ttl = o.ttl.String()
	}
	return m
}

// nats makes the wire form. extra is the number of headers that the caller adds.
func (m *message) nats(extra int) *nats.Msg {
	h := make(nats.Header, 3+extra+len(m.header))
	for k, v := range m.header {
		h[k] = v
	}
	if m.expects {
		h[nats.ExpectedLastSubjSeqHdr] = []string{strconv.FormatUint(uint64(m.expect), 10)}
		if m.other != "" {
			h[headerExpectSubject] = []string{m.other}
		}
	}
	if m.ttl != "" {
		h[nats.MsgTTLHdr] = []string{m.ttl}
	}
	if m.del {
		h[headerKVOperation] = []string{kvPurge}
	}
	if m.writer != "" {
		h[headerWriter] = []string{m.writer}
	}
	return &nats.Msg{Subject: m.subject, Header: h, Data: m.value}
}

// tries counts the repetitions of one request by their reason.
type tries struct {
	begin    time.Time
	all      int
	inFlight int
	doubt    bool
}

// maxInFlight: 10164 is sent again with the same revisions so often, then it is a refusal.
const maxInFlight = 3

// again looks at the error of a request. It returns nil if the request is to be sent again, after a pause, else what became of it:
// errLost, or another definite error. The caller looks at t.doubt: after doubt errLost only says that this copy was refused.
func (s *Store) again(ctx context.Context, t *tries, err error) error {
	var api *apiError
	switch {
	case errors.Is(err, errStale):
		return errLost
	case errors.As(err, &api):
		switch api.ErrCode {
		case codeWrongSequence:
			return errLost
		case codeInFlight:
			t.inFlight++
			if t.inFlight > maxInFlight && !t.doubt {
				return errLost
			}
			if t.inFlight > 4*maxInFlight {
				return errLost
			}
		case codeBatchIncomplete, codeBatchTooMany:
			if t.all >= 50 && !t.doubt {
				return err
			}
		case codeNoResources, codeNoStorage, codeStoreFailed:
			if !t.doubt {
				return fmt.Errorf("%w: %w", ErrNoRoom, err)
			}
		default:
			if api.Code != 503 || t.all >= 50 && !t.doubt {
				return err // 503: there is no leader, or the server is starting.
			}
		}
	case errors.Is(err, errNoAnswer):
		t.doubt = true
	case errors.Is(err, errUnheard):
		if t.all >= 3 {
			if err := s.look(ctx); err != nil {
				return err
			}
		}
	default:
		return err // The connection is closed, or ctx ended before anything was sent.
	}
	s.opts.log.DebugContext(ctx, "request repeated", "reason", err, "attempt", t.all, "in_doubt", t.doubt)
	if perr := pause(ctx, ctx, s.backoff(t.all)); perr != nil {
		return perr
	}
	t.all++
	return nil
}

// inDoubt makes the error of a request that was given up undecided.
func inDoubt(err error) error { return fmt.Errorf("%w: %w", ErrInDoubt, err) }

// writeOne does a write of one message and decides what became of it.
func (s *Store) writeOne(ctx context.Context, o *op, applied func(Entry) bool) (Revision, error) {
	m := s.message(o)
	m.writer = s.committer.name + "." + strconv.FormatUint(s.writes.Add(1), 36)
	t := tries{begin: time.Now()}
	for {
		seq, err := s.sendOne(ctx, o.key, &m, t.begin)
		if err == nil {
			return seq, nil
		}
		switch err = s.again(ctx, &t, err); {
		case err == nil:
		case !t.doubt:
			return 0, err
		case errors.Is(err, errLost):
			rev, err := s.decideOne(ctx, o, m.writer, applied)
			if !errors.Is(err, errUndecided) {
				return rev, err
			}
			if time.Since(t.begin) > s.fresh {
				return 0, inDoubt(errStale)
			}
			if err := pause(ctx, ctx, s.backoff(t.all)); err != nil {
				return 0, inDoubt(err)
			}
		default:
			return 0, inDoubt(err)
		}
	}
}

// sendOne sends one copy of a write of one message and waits for its answer.
func (s *Store) sendOne(ctx context.Context, key string, m *message, begin time.Time) (Revision, error) {
	if err := s.ready(ctx, begin); err != nil {
		return 0, err
	}
	var ack pubAck
	before := s.highest.Load()
	err := s.exchange(ctx, Write, func() []string { return []string{key} }, func(ctx context.Context) (err error) {
		ack, err = s.publish(ctx, m.nats(0))
		return err
	})
	if err == nil {
		err = s.acknowledged(ctx, ack.Seq, before)
	}
	return Revision(ack.Seq), err
}

// errUndecided: the key has not moved although a copy was refused: another one is still in flight.
var errUndecided = errors.New("not decided yet")

// decideOne says whether a copy of a write applied, after another copy was refused. What stands there is read into the cache: if
// another writer has replaced our write, the revision is of its value and not of ours (see committer.written, which knows it older).
func (s *Store) decideOne(ctx context.Context, o *op, writer string, applied func(Entry) bool) (Revision, error) {
	e, err := s.readSure(ctx, o.key)
	switch {
	case err != nil:
		return 0, inDoubt(err)
	case e.writer == writer:
		return e.Revision, nil
	case e.Revision == o.expect:
		return 0, errUndecided
	case applied != nil:
		if applied(e) {
			return e.Revision, nil
		}
		return 0, errLost
	case e.replacedKnown && e.replaced == o.expect, e.Revision < o.expect:
		return 0, errLost
	}
	return 0, inDoubt(fmt.Errorf("%s was written again before it could be looked at", o.key))
}

// batch is an atomic batch with its receipt.
type batch struct {
	messages []message
	receipt  int // Its place in messages.
	keys     func() []string
}

// writeBatch sends the batch until it is decided, and returns the revision of its first message. Only one batch of a store is in flight.
func (s *Store) writeBatch(ctx context.Context, b *batch, r *receipt) (Revision, error) {
	b.messages[b.receipt] = r.message(s)
	t := tries{begin: time.Now()}
	for {
		seq, err := s.sendBatch(ctx, r.batchID(t.all), b, t.begin)
		if err == nil {
			r.applied(seq + Revision(b.receipt))
			return seq, nil
		}
		switch err = s.again(ctx, &t, err); {
		case err == nil:
		case !t.doubt:
			return 0, err
		case errors.Is(err, errLost):
			at, err := s.settle(ctx, r, t.begin)
			if err != nil {
				return 0, err
			}
			return at - Revision(b.receipt), nil
		default:
			return 0, inDoubt(err)
		}
	}
}

// sendBatch sends one copy and waits for its answer: one round trip. It returns the revision of the first message.
func (s *Store) sendBatch(ctx context.Context, id string, b *batch, begin time.Time) (Revision, error) {
	if err := s.ready(ctx, begin); err != nil {
		return 0, err
	}
	var ack pubAck
	before := s.highest.Load()
	err := s.exchange(ctx, Batch, b.keys, func(ctx context.Context) (err error) {
		ack, err = s.publish(ctx, batchMsgs(id, b.messages)...)
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case ack.Batch != id || ack.Count != len(b.messages):
		return 0, fmt.Errorf("%w: answer is for batch %q of %d messages", errNoAnswer, ack.Batch, ack.Count)
	}
	return Revision(ack.Seq) - Revision(ack.Count) + 1, s.acknowledged(ctx, ack.Seq, before)
}

func batchMsgs(id string, messages []message) []*nats.Msg {
	msgs := make([]*nats.Msg, len(messages))
	ids, one := []string{id}, []string{"1"}
	for i := range messages {
		m := messages[i].nats(3)
		m.Header[headerBatchID] = ids
		m.Header[headerBatchSeq] = []string{strconv.Itoa(i + 1)}
		if i == len(messages)-1 {
			m.Header[headerBatchCommit] = one
		}
		msgs[i] = m
	}
	return msgs
}

// receipt is what a committer knows of its own receipt.
type receipt struct {
	committer string
	key       string
	rev       Revision // What the next batch expects.
	number    uint64   // Of the batch that is in flight or comes next.
}

// receiptTTL is how long a committer may be idle before its receipt goes.
const receiptTTL = 24 * time.Hour

const receiptVoid = " void"

func (r *receipt) message(s *Store) message {
	r.number++
	return message{
		subject: s.prefix + r.key, value: strconv.AppendUint(nil, r.number, 10),
		expects: true, expect: r.rev, ttl: receiptTTL.String(),
	}
}

func (r *receipt) batchID(try int) string {
	return r.committer + "." + strconv.FormatUint(r.number, 36) + "." + strconv.Itoa(try)
}

func (r *receipt) applied(rev Revision) { r.rev = rev }

// settle decides a batch after one of its copies was refused and another one is in doubt. It returns the revision of the batch's
// receipt if a copy applied; errLost if none did and none can any more. begin is when the batch was sent first.
func (s *Store) settle(ctx context.Context, r *receipt, begin time.Time) (Revision, error) {
	mine := strconv.FormatUint(r.number, 10)
	void := message{subject: s.prefix + r.key, value: []byte(mine + receiptVoid), expects: true, expect: r.rev, ttl: receiptTTL.String()}
	t := tries{begin: time.Now()}
	for {
		seq, err := s.sendOne(ctx, r.key, &void, time.Now())
		if err == nil {
			r.applied(seq)
			return 0, errLost
		}
		switch err = s.again(ctx, &t, err); {
		case err == nil:
			continue
		case !errors.Is(err, errLost):
			return 0, inDoubt(err)
		}
		e, err := s.readSure(ctx, r.key)
		switch value := string(e.Value); {
		case err != nil:
			return 0, inDoubt(err)
		case e.Revision == r.rev:
			// A copy is in flight: ask again.
			if err := pause(ctx, ctx, s.backoff(t.all)); err != nil {
				return 0, inDoubt(err)
			}
			continue
		case e.Revision == 0 && time.Since(begin) < receiptTTL/2:
			// It had expired before the batch was sent: no copy can have found the revision that it expects, and none ever will.
			r.applied(0)
			return 0, errLost
		case value == mine:
			r.applied(e.Revision)
			return e.Revision, nil
		case value == mine+receiptVoid:
			r.applied(e.Revision)
			return 0, errLost
		case strings.HasPrefix(value, mine):
			return 0, inDoubt(fmt.Errorf("receipt %s says %q", r.key, value))
		}
		r.applied(e.Revision)
		return 0, inDoubt(fmt.Errorf("receipt %s is not this process's: %q at revision %d", r.key, e.Value, e.Revision))
	}
}
