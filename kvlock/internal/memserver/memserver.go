// Package memserver is a JetStream server in memory that has one stream of kvtx, and nothing else.
//
// It exists for the simulation of kvlock/sim, which needs a server that does the same thing every time. What it does is what a nats-server
// does with the messages that a kvtx store sends: its conformance suite runs on both.
//
// The nouns:
//
//   - Server: the stream. [Server.Handle] is what it does with a call; nothing else changes it, but the time: messages have a time to live.
//   - Conn: the way to it that loses and delays nothing, as a kvtx store uses it.
//   - Consumer: a place in the stream.
//
// Invariants: one message for each subject; sequences rise by one, over everything; a batch is applied as a whole or not at all.
//
// What it does not do: it keeps nothing on a disk, has no replicas, no durable consumers and no acknowledgements; it starts no goroutine. What
// it does not know it refuses with a panic, so that no simulation relies on what no real server was asked.
package memserver

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
)

// Server is one stream. It is safe for concurrent use.
type Server struct {
	cfg     jetstream.StreamConfig
	created time.Time

	mu       sync.Mutex
	last     uint64
	messages map[string]*message // By subject.
	expires  time.Time           // When the first message goes; zero: none.
	batches  map[string]*batch   // That are not committed yet.
	changed  chan struct{}       // Closed at the next write.
}

// message is one message of the stream.
type message struct {
	subject string
	header  nats.Header
	data    []byte
	seq     uint64
	time    time.Time
	expires time.Time // Zero: never.
}

// batch is an atomic batch of which the commit has not come yet.
type batch struct {
	msgs []*nats.Msg
}

// New returns a server with the stream of a bucket as kvtx.Ensure makes it.
func New(bucket string) *Server {
	return &Server{
		cfg: jetstream.StreamConfig{
			Name: "KV_" + bucket, Subjects: []string{"$KV." + bucket + ".>", "op." + bucket + ".>"},
			Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld, Replicas: 1,
			MaxMsgsPerSubject: 1, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1,
			AllowAtomicPublish: true, AllowMsgTTL: true, AllowRollup: true,
		},
		created: time.Now(), messages: map[string]*message{}, batches: map[string]*batch{}, changed: make(chan struct{}),
	}
}

// Info is the state of the stream, with the subjects that match the filter unless that is "".
func (s *Server) Info(filter string) *jetstream.StreamInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	info := &jetstream.StreamInfo{Config: s.cfg, Created: s.created, State: jetstream.StreamState{
		Msgs: uint64(len(s.messages)), LastSeq: s.last,
	}}
	if filter != "" {
		info.State.Subjects = map[string]uint64{}
		for subject := range s.messages {
			if matches(filter, subject) {
				info.State.Subjects[subject] = 1
			}
		}
	}
	return info
}

// Messages are those that match the filter, in the order of the stream.
func (s *Server) Messages(filter string) []link.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	var all []link.Delivery
	for subject, m := range s.messages {
		if matches(filter, subject) {
			all = append(all, m.delivery())
		}
	}
	slices.SortFunc(all, func(a, b link.Delivery) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return all
}

// Remove takes a message away, as a purge of its subject does: no marker stays.
func (s *Server) Remove(subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.messages, subject)
}

// Changed is closed at the next write.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (m *message) delivery() link.Delivery {
	return link.Delivery{Subject: m.subject, Data: m.data, Header: m.header, Sequence: m.seq, Time: m.time}
}

// Consumer is a place in the stream.
type Consumer struct {
	server  *Server
	filters []string
	at      uint64 // The sequence that was delivered last.
}

// Consume returns the place at which a consumer begins. Errors: filters that overlap, as the server says it.
func (s *Server) Consume(cfg jetstream.ConsumerConfig) (*Consumer, error) {
	if cfg.AckPolicy != jetstream.AckNonePolicy || cfg.Durable != "" {
		panic("memserver: a consumer with acknowledgements")
	}
	for i, a := range cfg.FilterSubjects {
		for j, b := range cfg.FilterSubjects {
			if i != j && matches(a, b) {
				return nil, &jetstream.APIError{Code: 400, ErrorCode: 10138, Description: "consumer subject filters cannot overlap"}
			}
		}
	}
	c := &Consumer{server: s, filters: cfg.FilterSubjects}
	switch cfg.DeliverPolicy {
	case jetstream.DeliverAllPolicy:
	case jetstream.DeliverByStartSequencePolicy:
		c.at = max(cfg.OptStartSeq, 1) - 1
	case jetstream.DeliverLastPolicy, jetstream.DeliverNewPolicy, jetstream.DeliverByStartTimePolicy, jetstream.DeliverLastPerSubjectPolicy:
		panic(fmt.Sprintf("memserver: deliver policy %v", cfg.DeliverPolicy))
	}
	return c, nil
}

// Pending is how many messages it has to deliver.
func (c *Consumer) Pending() int {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	_, n := c.next()
	return n
}

// At is the sequence that was delivered last.
func (c *Consumer) At() uint64 { return c.at }

// Next takes the next message. It does not wait: false says that there is none now.
func (c *Consumer) Next() (link.Delivery, bool) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	m, n := c.next()
	if m == nil {
		return link.Delivery{}, false
	}
	c.at = m.seq
	d := m.delivery()
	d.Pending = uint64(n - 1)
	return d, true
}

// next finds the next message, and how many there are.
func (c *Consumer) next() (first *message, n int) {
	c.server.expire()
	for subject, m := range c.server.messages {
		if m.seq <= c.at || !slices.ContainsFunc(c.filters, func(f string) bool { return matches(f, subject) }) {
			continue
		}
		if n++; first == nil || m.seq < first.seq {
			first = m
		}
	}
	return first, n
}

// expire removes what has lived its time.
func (s *Server) expire() {
	now := time.Now()
	if s.expires.IsZero() || now.Before(s.expires) {
		return
	}
	s.expires = time.Time{}
	for subject, m := range s.messages {
		switch {
		case m.expires.IsZero():
		case !now.Before(m.expires):
			delete(s.messages, subject)
		default:
			s.expiring(m.expires)
		}
	}
}

// expiring notes that a message goes at a time.
func (s *Server) expiring(at time.Time) {
	if s.expires.IsZero() || at.Before(s.expires) {
		s.expires = at
	}
}

// matches says whether a subject, or a filter, matches the filter.
func matches(filter, subject string) bool {
	for {
		f, frest, fmore := strings.Cut(filter, ".")
		t, trest, tmore := strings.Cut(subject, ".")
		switch {
		case f == ">":
			return true
		case f != "*" && f != t, fmore != tmore:
			return false
		case !fmore:
			return true
		}
		filter, subject = frest, trest
	}
}
