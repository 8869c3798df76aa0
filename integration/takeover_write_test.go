package integration

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// sluice is a TCP proxy before the NATS server. Closed, it keeps what clients say until it is opened.
type sluice struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup

	mu     sync.Mutex
	opened *sync.Cond
	closed bool
	ended  bool
	conns  []net.Conn
}

func newSluice(t *testing.T, target string) *sluice {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sluice{listener: l, target: strings.TrimPrefix(target, "nats://")}
	s.opened = sync.NewCond(&s.mu)
	s.work.Go(s.accept)
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		s.ended = true
		for _, c := range s.conns {
			c.Close()
		}
		s.opened.Broadcast()
		s.mu.Unlock()
		s.work.Wait()
	})
	return s
}

func (s *sluice) url() string { return "nats://" + s.listener.Addr().String() }

func (s *sluice) set(closed bool) {
	s.mu.Lock()
	s.closed = closed
	s.opened.Broadcast()
	s.mu.Unlock()
}

// pass waits until the sluice is open.
func (s *sluice) pass() {
	s.mu.Lock()
	for s.closed && !s.ended {
		s.opened.Wait()
	}
	s.mu.Unlock()
}

func (s *sluice) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", s.target)
		if err != nil {
			client.Close()
			continue
		}
		s.mu.Lock()
		if s.conns = append(s.conns, client, server); s.ended {
			client.Close()
			server.Close()
		}
		s.mu.Unlock()
		s.work.Go(func() { carry(server, client, s.pass) })
		s.work.Go(func() { carry(client, server, func() {}) })
	}
}

func carry(to, from net.Conn, pass func()) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if pass(); n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// A process has done its driver call and is stopped past its lease with the write that says so on its way. The other one takes the operation
// over and ends it; a host writes. Then the first one goes on, and its write arrives: it is refused, and the process stops with the operation.
func TestAProcessThatSleptBeforeItsWriteIsRefused(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	h := newHouse(t, t.TempDir(), "reflink=never,delay=300ms")
	way := newSluice(t, h.nats)
	victim := h.start(t, "--nats", way.url())
	c := h.newRevert(t, rnd, 64)
	id := h.begin(t, "/volumes/"+c.volume+"/action", M{"revert": M{"snapshot_id": c.snapshot}})
	harness.Eventually(t, time.Minute, "the process is within the delay of its call", func() bool {
		op := operation(t, h.API, id)
		return op.Step == "revert" && op.Epoch == 1
	})
	way.set(true)
	harness.Eventually(t, time.Minute, "the process has done its call and let the file go", func() bool {
		have, _, err := harness.ReadContent(h.file(c.volume))
		return err == nil && c.original.Differs(have) == "" && !harness.Locks(victim.PID(), h.lock(c.volume))
	})
	victim.freeze(t)
	if op := operation(t, h.API, id); op.Ended || op.Epoch != 1 || op.Worker != victim.name || op.Step != "revert" {
		t.Fatalf("the operation of the process that is stopped: %+v, want its step not yet written as done", op)
	}

	heir := h.start(t)
	op := h.MustEnd(t, id)
	if op.Epoch < 2 || op.Worker != heir.name {
		t.Errorf("the operation: %+v, want it ended by %s in a later epoch", op, heir.name)
	}
	later, file := h.goesOn(t, rnd, c)
	was := operation(t, h.API, id)

	victim.thaw(t)
	way.set(false)
	harness.Eventually(t, 30*time.Second, "the write of the process that slept is refused", func() bool {
		return victim.runs(t, "volume.revert", "fenced") == 1
	})
	victim.saysOvertaken(t, id, "what was granted in epoch 1 is stale") // the record refused it, not the file lock
	h.same(t, c, later, file)
	if now := operation(t, h.API, id); now != was {
		t.Errorf("the operation is now %+v, was %+v", now, was)
	}
	h.clean(t)
	h.same(t, c, later, file)
}

// saysOvertaken waits until the log says that the worker stopped with the operation, and who refused it.
func (w *worker) saysOvertaken(t *testing.T, id, by string) {
	t.Helper()
	want := []string{`msg="operation was taken over by another worker: this one stops"`, "operation=" + id, by}
	harness.Eventually(t, 30*time.Second, "the log says that it was overtaken", func() bool {
		for line := range strings.Lines(w.Log()) {
			if containsAll(line, want) {
				return true
			}
		}
		return false
	})
}
