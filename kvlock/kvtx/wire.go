package kvtx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
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
	errNoAnswer = link.ErrNoAnswer
	errUnheard  = link.ErrUnheard
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

// publish sends messages to the stream. The answer is the stream's.
func (s *Store) publish(ctx context.Context, msgs ...*nats.Msg) (pubAck, error) {
	m, err := s.server.Call(ctx, msgs...)
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
	m, err := s.server.Call(ctx, &nats.Msg{Subject: s.getSubject, Data: body})
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
	var mu sync.Mutex // The interceptor may let the exchange happen when nobody waits for it any more.
	var answer error
	called, over := false, false
	err := s.opts.intercept(ctx, Call{Kind: kind, Keys: keys()}, func(ctx context.Context) error {
		got := do(ctx)
		mu.Lock()
		defer mu.Unlock()
		if !over {
			called, answer = true, got
		}
		return got
	})
	mu.Lock()
	defer mu.Unlock()
	over = true
	if err != nil && (!called || !errors.Is(err, answer)) {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return answer
}
