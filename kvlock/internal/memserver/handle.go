package memserver

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What the server says (nats-server 2.15, server/errors.json).
const (
	codeWrongSequence   = 10071
	codeNoMessage       = 10037
	codeBatchIncomplete = 10176
)

// Headers of a batch, and of an expectation about another subject.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSeq      = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
	headerExpectSubject = "Nats-Expected-Last-Subject-Sequence-Subject"
)

// refusal is an error as the server says it.
type refusal struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

type ack struct {
	Error  *refusal `json:"error,omitempty"`
	Stream string   `json:"stream"`
	Seq    uint64   `json:"seq"`
	Batch  string   `json:"batch,omitempty"`
	Count  int      `json:"count,omitempty"`
}

// Handle does what the server does with messages that arrive one after another, and returns its answer to the last one.
func (s *Server) Handle(msgs ...*nats.Msg) *nats.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	var answer *nats.Msg
	for _, m := range msgs {
		answer = s.handle(m)
	}
	return answer
}

func (s *Server) handle(m *nats.Msg) *nats.Msg {
	switch {
	case m.Subject == jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+s.cfg.Name:
		return s.get(m)
	case !slices.ContainsFunc(s.cfg.Subjects, func(f string) bool { return matches(f, m.Subject) }):
		return &nats.Msg{Header: nats.Header{"Status": []string{"503"}}} // Nobody listens there.
	case m.Header.Get(headerBatchID) != "":
		return s.batched(m)
	}
	a := ack{Stream: s.cfg.Name}
	if a.Error = s.expected(m, nil); a.Error == nil {
		a.Seq = s.store(m)
		s.wake()
	}
	return say(a)
}

func say(v any) *nats.Msg {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &nats.Msg{Data: data}
}

// get answers a read of the last message of a subject.
func (s *Server) get(m *nats.Msg) *nats.Msg {
	var req struct {
		Last string `json:"last_by_subj"`
	}
	if err := json.Unmarshal(m.Data, &req); err != nil || req.Last == "" {
		panic(fmt.Sprintf("memserver: read %s: %v", m.Data, err))
	}
	found := s.messages[req.Last]
	if strings.ContainsAny(req.Last, "*>") {
		for subject, x := range s.messages {
			if matches(req.Last, subject) && (found == nil || x.seq > found.seq) {
				found = x
			}
		}
	}
	if found == nil {
		return say(struct {
			Error *refusal `json:"error"`
		}{&refusal{404, codeNoMessage, "no message found"}})
	}
	type stored struct {
		Subject string    `json:"subject"`
		Seq     uint64    `json:"seq"`
		Headers []byte    `json:"hdrs,omitempty"`
		Data    []byte    `json:"data,omitempty"`
		Time    time.Time `json:"time"`
	}
	return say(struct {
		Message stored `json:"message"`
	}{stored{found.subject, found.seq, headerBytes(found.header), found.data, found.time}})
}

func headerBytes(h nats.Header) []byte {
	if len(h) == 0 {
		return nil
	}
	b := []byte("NATS/1.0\r\n")
	for k, vs := range h {
		for _, v := range vs {
			b = append(b, k+": "+v+"\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// batched takes one message of an atomic batch; the one that commits applies them all, or none.
func (s *Server) batched(m *nats.Msg) *nats.Msg {
	id := m.Header.Get(headerBatchID)
	n, err := strconv.Atoi(m.Header.Get(headerBatchSeq))
	if err != nil {
		panic(fmt.Sprintf("memserver: batch sequence of %v", m.Header))
	}
	b := s.batches[id]
	if b == nil && n == 1 {
		b = &batch{}
		s.batches[id] = b
	}
	if b == nil || n != len(b.msgs)+1 {
		delete(s.batches, id) // A message was lost on the way: nothing of it is applied.
		return say(ack{Stream: s.cfg.Name, Error: &refusal{400, codeBatchIncomplete, "batch publish is incomplete"}})
	}
	b.msgs = append(b.msgs, m)
	if m.Header.Get(headerBatchCommit) == "" {
		return &nats.Msg{} // The server has it.
	}
	delete(s.batches, id)
	a := ack{Stream: s.cfg.Name}
	before := map[string]bool{}
	for _, m := range b.msgs {
		if a.Error = s.expected(m, before); a.Error != nil {
			return say(a)
		}
		before[m.Subject] = true
	}
	for _, m := range b.msgs {
		a.Seq = s.store(m)
	}
	a.Batch, a.Count = id, len(b.msgs)
	s.wake()
	return say(a)
}

// expected says whether the message's expectation holds; before are the subjects that its batch writes before it.
func (s *Server) expected(m *nats.Msg, before map[string]bool) *refusal {
	v := m.Header.Get(nats.ExpectedLastSubjSeqHdr)
	if v == "" {
		return nil
	}
	want, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		panic("memserver: expectation " + v)
	}
	subject := m.Subject
	if other := m.Header.Get(headerExpectSubject); other != "" {
		subject = other
	}
	if before[subject] {
		panic("memserver: a batch expects something of " + subject + ", which it writes itself before")
	}
	var last uint64
	if x := s.messages[subject]; x != nil {
		last = x.seq
	}
	if last != want {
		return &refusal{400, codeWrongSequence, fmt.Sprintf("wrong last sequence: %d", last)}
	}
	return nil
}

// store writes a message in the place of the one that its subject had.
func (s *Server) store(m *nats.Msg) uint64 {
	s.last++
	x := &message{subject: m.Subject, header: m.Header, data: m.Data, seq: s.last, time: time.Now().UTC()}
	if ttl := m.Header.Get(nats.MsgTTLHdr); ttl != "" {
		d, err := time.ParseDuration(ttl)
		if err != nil || d < time.Second {
			panic("memserver: time to live " + ttl)
		}
		x.expires = x.time.Add(d.Truncate(time.Second))
		s.expiring(x.expires)
	}
	s.messages[m.Subject] = x
	return x.seq
}

// wake tells those who wait for a write.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}
