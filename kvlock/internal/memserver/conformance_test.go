package memserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
	"github.com/scoria-storage/scoria/kvlock/internal/memserver"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// TestConformance holds the server in memory to what a real one does: each fact on which kvtx, and the simulation of it, stand.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) link.Server{
		"nats-server": realServer,
		"memory":      func(*testing.T) link.Server { return memserver.New(kvtx.DefaultBucket).Conn() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			verified(t, server)
			for i, c := range facts {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.holds(&probe{t: t, server: server, space: "k" + strconv.Itoa(i)})
				})
			}
		})
	}
}

// stays is a server that a store does not close.
type stays struct{ link.Server }

func (stays) Close() {}

// verified opens a store on the server: it is one that a store can use.
func verified(t *testing.T, server link.Server) {
	t.Helper()
	s, err := kvtx.OpenOn(t.Context(), stays{server}, kvtx.Config{}, kvtx.Chance{
		Jitter: func(d time.Duration) time.Duration { return d }, Turn: func(context.Context) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func realServer(t *testing.T) link.Server {
	js := natstest.Start(t).JetStream(t)
	s, err := kvtx.Ensure(t.Context(), js, kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	server, err := link.Over(js.Conn(), s.Stream(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

const (
	wrongSequence = 10071
	noMessage     = 10037
	incomplete    = 10176
)

// facts each use keys of their own.
var facts = []struct {
	name  string
	holds func(p *probe)
}{
	{"a write is made exactly if its expectation holds", func(p *probe) {
		p.refused(p.write("a", "1", 7), wrongSequence)
		first := p.made(p.write("a", "1", 0))
		p.refused(p.write("a", "2", 0), wrongSequence)
		p.refused(p.write("a", "2", first+1000), wrongSequence)
		second := p.made(p.write("a", "2", first))
		if second <= first {
			p.t.Errorf("revision %d after %d", second, first)
		}
		if m := p.read("a"); m.value() != "2" || m.Seq != second || m.header(nats.ExpectedLastSubjSeqHdr) != strconv.FormatUint(first, 10) {
			p.t.Errorf("read %+v, want value 2 at %d, which replaced %d", m, second, first)
		}
	}},
	{"the same write again is refused", func(p *probe) {
		p.made(p.write("a", "1", 0))
		p.refused(p.write("a", "1", 0), wrongSequence)
	}},
	{"a delete marker is not nothing", func(p *probe) {
		first := p.made(p.write("a", "1", 0))
		marker := p.made(p.marker("a", first, time.Hour))
		if m := p.read("a"); m.header("KV-Operation") != "PURGE" || m.Seq != marker || len(m.Data) > 0 {
			p.t.Errorf("read %+v, want the marker at %d", m, marker)
		}
		p.refused(p.write("a", "2", 0), wrongSequence)
		p.made(p.write("a", "2", marker))
	}},
	{"when a marker or a value has lived its time there is nothing, and no trace", func(p *probe) {
		marker := p.made(p.marker("a", p.made(p.write("a", "1", 0)), time.Second))
		value := p.write("b", "1", 0)
		value.Header.Set(nats.MsgTTLHdr, "1s")
		p.made(value)
		p.gone("a")
		p.gone("b")
		p.refused(p.write("a", "2", marker), wrongSequence)
		p.made(p.write("a", "2", 0))
		p.made(p.write("b", "2", 0))
	}},
	{"a batch is made as a whole, with revisions in its order", func(p *probe) {
		old := p.made(p.write("b", "0", 0))
		a := p.answer(p.call(p.batch("one", p.write("a", "1", 0), p.write("b", "2", old), p.publish("c"))...))
		if a.Error != nil || a.Count != 3 || a.Batch != p.space+"one" {
			p.t.Fatalf("answer %+v", a)
		}
		for i, key := range []string{"a", "b"} {
			if m := p.read(key); m.Seq != a.Seq-2+uint64(i) {
				p.t.Errorf("%s is at %d, want %d", key, m.Seq, a.Seq-2+uint64(i))
			}
		}
	}},
	{"a batch of which one expectation does not hold is refused as a whole", func(p *probe) {
		p.made(p.write("b", "0", 0))
		p.refused(p.last(p.batch("one", p.write("a", "1", 0), p.write("b", "2", 0), p.write("c", "3", 0))), wrongSequence)
		p.absent("a")
		p.absent("c")
		if m := p.read("b"); m.value() != "0" {
			p.t.Errorf("b is %q", m.value())
		}
	}},
	{"a batch may expect something of what it does not write", func(p *probe) {
		rev := p.made(p.write("a", "0", 0))
		check := func(carrier string, expect uint64) *nats.Msg {
			m := p.write(carrier, "", expect)
			m.Header.Set("Nats-Expected-Last-Subject-Sequence-Subject", p.subject("a"))
			m.Header.Set(nats.MsgTTLHdr, "1h0m0s")
			return m
		}
		p.refused(p.last(p.batch("one", check("chk.0", rev+1), p.write("b", "1", 0))), wrongSequence)
		p.made(p.last(p.batch("two", check("chk.0", rev), p.write("b", "1", 0))))
		p.made(p.last(p.batch("three", check("chk.0", rev), p.write("c", "1", 0)))) // its carrier is there already
		if m := p.read("a"); m.Seq != rev {
			p.t.Errorf("a is at %d, want %d", m.Seq, rev)
		}
	}},
	{"a copy of a batch under another name is refused", func(p *probe) {
		p.made(p.last(p.batch("one", p.write("a", "1", 0), p.write("b", "1", 0))))
		p.refused(p.last(p.batch("two", p.write("a", "1", 0), p.write("b", "1", 0))), wrongSequence)
	}},
	{"a copy of a batch under the same name is refused", func(p *probe) {
		p.made(p.last(p.batch("one", p.write("a", "1", 0), p.write("b", "1", 0))))
		p.refused(p.last(p.batch("one", p.write("a", "1", 0), p.write("b", "1", 0))), wrongSequence)
	}},
	{"nobody sees a batch whose commit has not come", func(p *probe) {
		msgs := p.batch("one", p.write("a", "1", 0), p.write("b", "1", 0))
		if m := p.call(msgs[0]); len(m.Data) > 0 {
			p.t.Errorf("the first message is answered with %s", m.Data)
		}
		p.absent("a")
		p.made(msgs[1])
		p.read("a")
	}},
	{"a batch of which a message was lost is refused, and later ones of it have no effect", func(p *probe) {
		msgs := p.batch("one", p.write("a", "1", 0), p.write("b", "1", 0), p.write("c", "1", 0))
		p.call(msgs[0])
		p.refused(msgs[2], incomplete)
		p.refused(msgs[1], incomplete)
		for _, key := range []string{"a", "b", "c"} {
			p.absent(key)
		}
	}},
	{"a batch whose begin was lost is refused", func(p *probe) {
		p.refused(p.batch("one", p.write("a", "1", 0), p.write("b", "1", 0))[1], incomplete)
		p.absent("b")
	}},
	{"a read finds the last message of a pattern", func(p *probe) {
		p.absent("x.>")
		p.made(p.write("x.a", "1", 0))
		p.made(p.write("x.b", "2", 0))
		if m := p.read("x.*"); m.value() != "2" {
			p.t.Errorf("the last one is %q", m.value())
		}
	}},
	{"what is not in the stream is heard by nobody", func(p *probe) {
		_, err := p.server.Call(p.t.Context(), &nats.Msg{Subject: "elsewhere." + p.space})
		if !errors.Is(err, link.ErrUnheard) {
			p.t.Errorf("error %v, want %v", err, link.ErrUnheard)
		}
	}},
	{"the stream tells its subjects", func(p *probe) {
		rev := p.made(p.write("a", "1", 0))
		p.made(p.write("b.c", "1", 0))
		info, err := p.server.Info(p.t.Context(), p.subject(">"))
		if err != nil || len(info.State.Subjects) != 2 || info.State.Subjects[p.subject("b.c")] != 1 || info.State.LastSeq <= rev {
			p.t.Errorf("info %+v, %v", info, err)
		}
	}},
	{"a consumer gets each subject's last message in the order of the stream", func(p *probe) {
		a := p.made(p.write("a", "1", 0))
		b := p.made(p.write("b", "1", 0))
		p.made(p.write("a", "2", a))
		p.made(p.marker("b", b, time.Hour))
		p.made(p.write("c", "1", 0))
		c := p.consume(0, ">")
		if c.Empty() {
			p.t.Error("it is said to be empty")
		}
		if got, want := p.next(c, 3), []string{"a 2 2", "b  1", "c 1 0"}; !slices.Equal(got, want) {
			p.t.Errorf("delivered %q, want %q", got, want)
		}
	}},
	{"a consumer goes on with what is written later", func(p *probe) {
		c := p.consume(0, "a", "b.*")
		if !c.Empty() {
			p.t.Error("it is not empty")
		}
		if drained, err := c.Drained(p.t.Context(), ^uint64(0)); err != nil || !drained {
			p.t.Errorf("drained %v, %v", drained, err)
		}
		p.made(p.write("c", "1", 0))
		p.made(p.write("b.x", "1", 0))
		p.made(p.last(p.batch("one", p.write("a", "1", 0), p.write("b.y", "1", 0))))
		got := p.next(c, 3)
		for i := range got {
			got[i] = got[i][:strings.LastIndexByte(got[i], ' ')] // how many are behind it depends on the moment
		}
		if want := []string{"b.x 1", "a 1", "b.y 1"}; !slices.Equal(got, want) {
			p.t.Errorf("delivered %q, want %q", got, want)
		}
		last := p.read("b.y").Seq
		for moment, drained := p.t.Context(), false; !drained; {
			var err error
			if drained, err = c.Drained(moment, last); err != nil {
				p.t.Fatal(err)
			}
		}
		if drained, err := c.Drained(p.t.Context(), last-1); err != nil || drained {
			p.t.Errorf("drained up to the one before the last: %v, %v", drained, err)
		}
	}},
	{"a consumer begins where it is told", func(p *probe) {
		p.made(p.write("a", "1", 0))
		from := p.made(p.write("b", "1", 0))
		p.made(p.write("c", "1", 0))
		if got, want := p.next(p.consume(from, ">"), 2), []string{"b 1 1", "c 1 0"}; !slices.Equal(got, want) {
			p.t.Errorf("delivered %q, want %q", got, want)
		}
	}},
	{"a consumer with filters that overlap is refused", func(p *probe) {
		_, err := p.server.Consume(p.t.Context(), p.config(0, "a.*", "a.b"))
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.Code != 400 {
			p.t.Errorf("error %v, want one of code 400", err)
		}
	}},
}

// probe asks a server about keys of its own.
type probe struct {
	t      *testing.T
	server link.Server
	space  string
}

func (p *probe) subject(key string) string {
	return "$KV." + kvtx.DefaultBucket + "." + p.space + "." + key
}

func (p *probe) write(key, value string, expect uint64) *nats.Msg {
	return &nats.Msg{Subject: p.subject(key), Data: []byte(value), Header: nats.Header{
		nats.ExpectedLastSubjSeqHdr: []string{strconv.FormatUint(expect, 10)},
	}}
}

func (p *probe) marker(key string, expect uint64, life time.Duration) *nats.Msg {
	m := p.write(key, "", expect)
	m.Header.Set("KV-Operation", "PURGE")
	m.Header.Set(nats.MsgTTLHdr, life.String())
	return m
}

func (p *probe) publish(name string) *nats.Msg {
	return &nats.Msg{Subject: "op." + kvtx.DefaultBucket + "." + p.space + "." + name, Header: nats.Header{}}
}

func (p *probe) batch(name string, msgs ...*nats.Msg) []*nats.Msg {
	for i, m := range msgs {
		m.Header["Nats-Batch-Id"] = []string{p.space + name}
		m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		if i == len(msgs)-1 {
			m.Header["Nats-Batch-Commit"] = []string{"1"}
		}
	}
	return msgs
}

func (p *probe) call(msgs ...*nats.Msg) *nats.Msg {
	p.t.Helper()
	m, err := p.server.Call(p.t.Context(), msgs...)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// last sends all messages but the last one, which it returns.
func (p *probe) last(msgs []*nats.Msg) *nats.Msg {
	p.t.Helper()
	for _, m := range msgs[:len(msgs)-1] {
		p.call(m)
	}
	return msgs[len(msgs)-1]
}

type answer struct {
	Stream string
	Seq    uint64
	Batch  string
	Count  int
	Error  *struct {
		Code    int
		ErrCode int `json:"err_code"`
	}
}

func (p *probe) answer(m *nats.Msg) answer {
	p.t.Helper()
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		p.t.Fatalf("answer %q: %v", m.Data, err)
	}
	if a.Stream != "KV_"+kvtx.DefaultBucket {
		p.t.Errorf("answer of stream %q", a.Stream)
	}
	return a
}

func (p *probe) made(m *nats.Msg) uint64 {
	p.t.Helper()
	a := p.answer(p.call(m))
	if a.Error != nil || a.Seq == 0 {
		p.t.Fatalf("%s: %+v, want it made", m.Subject, a.Error)
	}
	return a.Seq
}

func (p *probe) refused(m *nats.Msg, code int) {
	p.t.Helper()
	if a := p.answer(p.call(m)); a.Error == nil || a.Error.Code != 400 || a.Error.ErrCode != code {
		p.t.Errorf("%s: answer %+v, %+v, want code %d", m.Subject, a, a.Error, code)
	}
}

type stored struct {
	Subject string
	Seq     uint64
	Hdrs    []byte
	Data    []byte
	Time    time.Time
}

func (s *stored) value() string { return string(s.Data) }

func (s *stored) header(name string) string {
	h, _ := nats.DecodeHeadersMsg(s.Hdrs)
	return h.Get(name)
}

func (p *probe) find(key string) (*stored, int) {
	p.t.Helper()
	m := p.call(&nats.Msg{
		Subject: jetstream.DefaultAPIPrefix + "STREAM.MSG.GET.KV_" + kvtx.DefaultBucket, Data: fmt.Appendf(nil, `{"last_by_subj":%q}`, p.subject(key)),
	})
	var r struct {
		Message *stored
		Error   *struct {
			ErrCode int `json:"err_code"`
		}
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		p.t.Fatal(err)
	}
	if r.Error != nil {
		return r.Message, r.Error.ErrCode
	}
	return r.Message, 0
}

func (p *probe) read(key string) *stored {
	p.t.Helper()
	m, code := p.find(key)
	if m == nil {
		p.t.Fatalf("%s is absent: code %d", key, code)
	}
	return m
}

func (p *probe) absent(key string) {
	p.t.Helper()
	if m, code := p.find(key); m != nil || code != noMessage {
		p.t.Errorf("%s is %+v, code %d, want nothing", key, m, code)
	}
}

func (p *probe) gone(key string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for {
		if m, _ := p.find(key); m == nil {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("%s is still there", key)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *probe) config(from uint64, keys ...string) jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, MaxDeliver: 1}
	if from > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	for _, key := range keys {
		cfg.FilterSubjects = append(cfg.FilterSubjects, p.subject(key))
	}
	return cfg
}

func (p *probe) consume(from uint64, keys ...string) link.Consumer {
	p.t.Helper()
	c, err := p.server.Consume(p.t.Context(), p.config(from, keys...))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// next takes n messages: key, value and how many are behind.
func (p *probe) next(c link.Consumer, n int) []string {
	p.t.Helper()
	var got []string
	for range n {
		d, err := c.Next(p.t.Context())
		if err != nil {
			p.t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %d", strings.TrimPrefix(d.Subject, p.subject("")), d.Data, d.Pending))
	}
	return got
}
