package kvtx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Codes of the server's answers that decide something (nats-server 2.15, server/errors.json).
const (
	codeWrongSequence   = 10071 // An expectation does not hold.
	codeInFlight        = 10164 // As above on replicated streams, but also while a proposal on the subject is in flight.
	codeNoMessage       = 10037 // A read found nothing.
	codeNoResources     = 10023 // Limits of the server or account are reached.
	codeNoStorage       = 10047
	codeStoreFailed     = 10077 // The disk is full, or broken.
	codeBatchIncomplete = 10176 // A message of the batch was lost on the way, or the batch was too slow.
	codeBatchTooMany    = 10210 // Too many open batches.
)

// Headers that nats.go has no names for.
const (
	headerBatchID     = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
	headerKVOperation = "KV-Operation"
	headerMarker      = "Nats-Marker-Reason"
	headerWriter      = "Kvtx-Write" // Names one write of one message, see doubt.go.
	// The expectation is about this subject.
	headerExpectSubject = "Nats-Expected-Last-Subject-Sequence-Subject"

	// The server knows this value as a delete marker, and so does every KV client.
	kvPurge = "PURGE"
)

var (
	// errNoAnswer: it is not known whether the request arrived.
	errNoAnswer = errors.New("no answer")
	// errUnheard: nobody took the request's last message: it had no effect.
	errUnheard = errors.New("nobody listens: the stream has no leader")
)

// apiError is the server's refusal.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

type pubAck struct {
	Stream string    `json:"stream"`
	Seq    uint64    `json:"seq"`
	Batch  string    `json:"batch"`
	Count  int       `json:"count"`
	Error  *apiError `json:"error"`
}

// wire sends requests over one NATS connection and matches the answers. It knows when the connection broke, so that nobody
// waits out a time for an answer that cannot come any more.
type wire struct {
	nc      *nats.Conn
	timeout time.Duration
	prefix  string
	sub     *nats.Subscription
	status  chan nats.Status
	pump    sync.WaitGroup

	mu      sync.Mutex
	next    uint64
	waiting map[string]chan *nats.Msg
	broken  chan struct{} // Closed when the connection breaks.
	up      chan struct{} // Closed while it is connected.
	breaks  atomic.Uint64 // How often it broke.
}

func newWire(nc *nats.Conn, timeout time.Duration) (*wire, error) {
	w := &wire{
		nc: nc, timeout: timeout, prefix: nc.NewRespInbox() + ".", waiting: map[string]chan *nats.Msg{},
		broken: make(chan struct{}), up: make(chan struct{}), status: nc.StatusChanged(),
	}
	close(w.up)
	sub, err := nc.Subscribe(w.prefix+"*", w.deliver)
	if err != nil {
		nc.RemoveStatusListener(w.status)
		return nil, fmt.Errorf("subscribe to answers: %w", err)
	}
	w.sub = sub
	w.pump.Go(w.watchStatus)
	return w, nil
}

func (w *wire) close() {
	_ = w.sub.Unsubscribe() // It fails only if the connection is closed.
	w.nc.RemoveStatusListener(w.status)
	w.pump.Wait()
}

func (w *wire) watchStatus() {
	for status := range w.status {
		w.mu.Lock()
		isUp := closed(w.up)
		if status != nats.CONNECTED && isUp {
			w.breaks.Add(1)
			close(w.broken)
			w.broken = make(chan struct{})
			w.up, isUp = make(chan struct{}), false
		}
		// It may be up again by now.
		if !isUp && (w.nc.IsConnected() || w.nc.IsClosed()) {
			close(w.up)
		}
		w.mu.Unlock()
	}
}

func closed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// connected waits until there is a connection.
func (w *wire) connected(ctx context.Context) error {
	for {
		w.mu.Lock()
		up := w.up
		w.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return ctx.Err()
		}
		if w.nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		if w.nc.IsConnected() {
			return nil
		}
		// It has just broken; the status is on its way.
		if err := pause(ctx, ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

func (w *wire) deliver(m *nats.Msg) {
	id := m.Subject[len(w.prefix):]
	w.mu.Lock()
	ch := w.waiting[id]
	delete(w.waiting, id)
	w.mu.Unlock()
	if ch != nil {
		ch <- m // It has room for the one answer.
	}
}

// whileConnected is ctx, ended when the connection breaks.
func (w *wire) whileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	w.mu.Lock()
	broken := w.broken
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	w.pump.Go(func() {
		select {
		case <-broken:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}

// pending is a request that was sent.
type pending struct {
	wire   *wire
	id     string
	answer chan *nats.Msg
	broken chan struct{}
}

// send sends the messages; the last one asks for the answer. wait must be called if there is no error.
func (w *wire) send(msgs ...*nats.Msg) (*pending, error) {
	p := &pending{wire: w, answer: make(chan *nats.Msg, 1)}
	w.mu.Lock()
	w.next++
	p.id = strconv.FormatUint(w.next, 36)
	w.waiting[p.id] = p.answer
	p.broken = w.broken
	w.mu.Unlock()

	msgs[len(msgs)-1].Reply = w.prefix + p.id
	for _, m := range msgs {
		if err := w.nc.PublishMsg(m); err != nil {
			p.forget()
			if errors.Is(err, nats.ErrConnectionClosed) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: send: %v", errNoAnswer, err)
		}
	}
	return p, nil
}

func (p *pending) forget() {
	p.wire.mu.Lock()
	delete(p.wire.waiting, p.id)
	p.wire.mu.Unlock()
}

func (p *pending) wait(ctx context.Context) (*nats.Msg, error) {
	timer := time.NewTimer(p.wire.timeout)
	defer timer.Stop()
	select {
	case m := <-p.answer:
		if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
			return nil, errUnheard
		}
		return m, nil
	case <-ctx.Done():
		p.forget()
		return nil, fmt.Errorf("%w: %w", errNoAnswer, ctx.Err())
	case <-timer.C:
		p.forget()
		return nil, fmt.Errorf("%w in %v", errNoAnswer, p.wire.timeout)
	case <-p.broken:
		p.forget()
		return nil, fmt.Errorf("%w: connection lost", errNoAnswer)
	}
}

// call sends the messages and waits for the answer to the last one.
func (w *wire) call(ctx context.Context, msgs ...*nats.Msg) (*nats.Msg, error) {
	if err := w.connected(ctx); err != nil {
		return nil, err
	}
	p, err := w.send(msgs...)
	if err != nil {
		return nil, err
	}
	return p.wait(ctx)
}

// publish is call for messages to the stream. The answer is the stream's.
func (w *wire) publish(ctx context.Context, msgs ...*nats.Msg) (pubAck, error) {
	m, err := w.call(ctx, msgs...)
	if err != nil {
		return pubAck{}, err
	}
	return parseAck(m)
}

func parseAck(m *nats.Msg) (pubAck, error) {
	var ack pubAck
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return pubAck{}, fmt.Errorf("%w: answer is no acknowledgement: %v", errNoAnswer, err)
	}
	if ack.Error != nil {
		return pubAck{}, ack.Error
	}
	return ack, nil
}

// read asks the stream's leader for the last message of the key.
func (s *Store) readOnce(ctx context.Context, key string) (Entry, error) {
	body := make([]byte, 0, 64+len(key))
	body = append(body, `{"last_by_subj":"`...)
	body = append(body, s.prefix...)
	body = append(body, key...)
	body = append(body, `"}`...)
	m, err := s.wire.call(ctx, &nats.Msg{Subject: s.getSubject, Data: body})
	if err != nil {
		return Entry{}, err
	}
	var resp struct {
		Message *struct {
			Seq     uint64    `json:"seq"`
			Headers []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &resp); err != nil {
		return Entry{}, fmt.Errorf("%w: answer is no message: %v", errNoAnswer, err)
	}
	if resp.Error != nil {
		if resp.Error.ErrCode == codeNoMessage {
			return Entry{Key: key}, nil
		}
		return Entry{}, resp.Error
	}
	if resp.Message == nil {
		return Entry{}, fmt.Errorf("%w: answer without a message", errNoAnswer)
	}
	var header nats.Header
	if len(resp.Message.Headers) > 0 {
		if header, err = nats.DecodeHeadersMsg(resp.Message.Headers); err != nil {
			return Entry{}, fmt.Errorf("entry %s: headers: %v", key, err)
		}
	}
	return newEntry(key, resp.Message.Data, header, resp.Message.Seq, resp.Message.Time), nil
}

// newEntry reads what the headers say of an entry.
func newEntry(key string, data []byte, h nats.Header, seq uint64, at time.Time) Entry {
	e := Entry{Key: key, Revision: Revision(seq), Time: at}
	if h == nil {
		e.Value, e.Exists = data, true
		return e
	}
	e.writer = h.Get(headerWriter)
	if v := h.Get(nats.ExpectedLastSubjSeqHdr); v != "" && h.Get(headerExpectSubject) == "" {
		if n, err := strconv.ParseUint(v, 10, 64); err == nil {
			e.replaced, e.replacedKnown = Revision(n), true
		}
	}
	e.TTL = ttlOf(h.Get(nats.MsgTTLHdr))
	switch op := h.Get(headerKVOperation); {
	case op == kvPurge, op == "DEL", h.Get(headerMarker) != "":
	default:
		e.Value, e.Exists = data, true
	}
	return e
}

// ttlOf reads the header as the server does: a duration, or whole seconds.
func ttlOf(v string) time.Duration {
	if v == "" || strings.EqualFold(v, "never") {
		return 0
	}
	if d, err := time.ParseDuration(v); err == nil {
		return d.Truncate(time.Second)
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// exchange does one exchange with the server, inside the interceptor if there is one.
func (s *Store) exchange(ctx context.Context, kind Kind, keys func() []string, do func(context.Context) error) error {
	if s.opts.intercept == nil {
		return do(ctx)
	}
	var answer error
	called := false
	err := s.opts.intercept(ctx, Call{Kind: kind, Keys: keys()}, func(ctx context.Context) error {
		called = true
		answer = do(ctx)
		return answer
	})
	if err != nil && (!called || !errors.Is(err, answer)) {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return answer
}
