package serving_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/api-node/serving"
	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
)

const timeout = time.Second

// house is a server with what processes of volume nodes answer there.
type house struct {
	t    *testing.T
	conn *nats.Conn
}

func newHouse(t *testing.T) *house {
	t.Helper()
	return &house{t, natstest.Start(t).Conn(t)}
}

// says answers questions on the subject; nil: it takes them and is silent.
func (h *house) says(subject string, answer any) {
	h.t.Helper()
	_, err := h.conn.Subscribe(subject, func(m *nats.Msg) {
		if answer != nil {
			_ = m.Respond(messages.Encode(answer))
		}
	})
	if err == nil {
		err = h.conn.Flush()
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) runs(node string, processes ...string) {
	h.t.Helper()
	h.says(messages.NodeSubject(node, messages.NodeVerbProcesses), messages.Processes{V: 1, Processes: processes})
}

func (h *house) serves(node, process string, all ...messages.Serves) {
	h.t.Helper()
	h.says(messages.ProcessSubject(node, process, messages.NodeVerbServing), messages.Serving{V: 1, Backends: all})
}

func (h *house) ask(nodes ...records.Node) *serving.Round {
	h.t.Helper()
	return serving.Ask(h.t.Context(), &verify.Nodes{Conn: h.conn, Timeout: timeout}, nodes)
}

var (
	n1    = records.Node{Name: "n1", ID: "id-n1", Backends: []string{"local", "fake"}}
	n2    = records.Node{Name: "n2", ID: "id-n2", Backends: []string{"fake"}, Processes: map[string][]string{"old": {"fake"}}}
	local = records.Backend{Name: "local", Node: "id-n1"}
	fake  = records.Backend{Name: "fake"}
)

func TestEveryProcessIsAskedWhatItServes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.runs("n1", "p2", "p1")
	h.serves("n1", "p1", messages.Serves{Backend: "local", Away: "unmounted"}, messages.Serves{Backend: "fake"})
	h.serves("n1", "p2", messages.Serves{Backend: "local"})
	h.runs("n2", "old") // of an earlier release: it does not know the question
	r := h.ask(n1, n2)
	if a := r.Of(local); a.Nobody() || a.Unknown != "" || len(a.Processes) != 2 || a.Processes[0] != (serving.Process{Node: "n1", Process: "p1", Away: "unmounted"}) || a.Trouble("local") != "" {
		t.Errorf("local: %+v, trouble %q", a, a.Trouble("local"))
	}
	if a := r.Of(fake); len(a.Processes) != 2 || a.Processes[1] != (serving.Process{Node: "n2", Process: "old"}) || a.Unknown != "" {
		t.Errorf("fake: %+v", a)
	}
	if a := r.Of(records.Backend{Name: "none"}); !a.Nobody() || a.Trouble("none") != "no process of a volume node serves backend none: start one with --backend none=…" {
		t.Errorf("none: %+v, trouble %q", a, a.Trouble("none"))
	}
}

func TestWhoIsSilentIsNotCalledGone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if a := h.ask(n1, n2).Of(local); !a.Nobody() { // nobody has a connection
		t.Errorf("local: %+v, want nobody", a)
	}
	h.says(messages.NodeSubject("n1", messages.NodeVerbProcesses), nil)
	h.runs("n2", "hangs", "lost")
	h.says(messages.ProcessSubject("n2", "hangs", messages.NodeVerbServing), nil)
	r := h.ask(n1, n2)
	if a := r.Of(local); a.Nobody() || a.Unknown != "node n1 does not say which of its processes run: no answer within 1s" {
		t.Errorf("local: %+v", a)
	}
	a := r.Of(fake)
	for _, want := range []string{"node n1 does not say", "process hangs of node n2 runs and does not say what it serves: no answer within 1s", "process lost of node n2 runs and does not say what it serves: no answer: nobody listens"} {
		if !strings.Contains(a.Unknown, want) || a.Nobody() {
			t.Errorf("fake: %+v, want %q in it", a, want)
		}
	}
}

func TestAStorageThatIsAwayIsTrouble(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.runs("n1", "p1")
	h.serves("n1", "p1", messages.Serves{Backend: "local", Away: "unmounted"})
	a := h.ask(n1).Of(local)
	if want := "what backend local keeps is away, and waited for; process p1 says: unmounted"; a.Trouble("local") != want || a.Nobody() {
		t.Errorf("trouble %q, want %q", a.Trouble("local"), want)
	}
}

// slow counts how often it is asked, and answers when it may.
type slow struct {
	asked  atomic.Int32
	answer chan struct{}
}

func (s *slow) Processes(context.Context, string) ([]string, error) {
	s.asked.Add(1)
	<-s.answer
	return nil, verify.ErrNobody
}

func (s *slow) Serving(context.Context, string, string) ([]messages.Serves, error) {
	return nil, verify.ErrNobody
}

// TestWhoComesOftenIsNotHeldUp: what was answered lately is good enough, and asked for again meanwhile, once.
func TestWhoComesOftenIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask := &slow{answer: make(chan struct{})}
		s := serving.New(ask, func() []records.Node { return []records.Node{n1} })
		go func() { ask.answer <- struct{}{} }()
		first := s.Recent(t.Context()) // waits: nothing is known
		<-time.After(3 * time.Second)
		for range 3 {
			if s.Recent(t.Context()) != first {
				t.Error("it is another answer, although nobody has given one")
			}
		}
		synctest.Wait()
		if n := ask.asked.Load(); n != 2 {
			t.Errorf("it was asked %d times, want twice", n)
		}
		ask.answer <- struct{}{}
		synctest.Wait()
		if s.Recent(t.Context()) == first {
			t.Error("the new answer is not there")
		}
	})
}
