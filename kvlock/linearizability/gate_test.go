package linearizability

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// gate is a TCP proxy before one server.
type gate struct {
	target   string
	listener net.Listener
	lost     atomic.Int64 // Connections that were cut after an acknowledgement of a commit was lost.
	work     sync.WaitGroup

	mu    sync.Mutex
	pipes map[*pipe]struct{} // nil once it is closed.
}

// pipe is one connection through the gate.
type pipe struct {
	gate           *gate
	client, server net.Conn
	losing         atomic.Bool // It is cut where the server acknowledges the next commit.
}

func openGate(t *testing.T, target string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{target: target, listener: l, pipes: map[*pipe]struct{}{}}
	g.work.Go(g.accept)
	t.Cleanup(func() {
		l.Close()
		g.mu.Lock()
		for p := range g.pipes {
			p.cut()
		}
		g.pipes = nil
		g.mu.Unlock()
		g.work.Wait()
	})
	return g
}

func (g *gate) url() string { return "nats://" + g.listener.Addr().String() }

func (g *gate) accept() {
	for {
		client, err := g.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", g.target)
		if err != nil {
			client.Close()
			continue
		}
		p := &pipe{gate: g, client: client, server: server}
		g.mu.Lock()
		if g.pipes == nil {
			p.cut()
		} else {
			g.pipes[p] = struct{}{}
			g.work.Go(p.ask)
			g.work.Go(p.answer)
		}
		g.mu.Unlock()
	}
}

func (p *pipe) cut() {
	p.client.Close()
	p.server.Close()
}

func (p *pipe) end() {
	p.cut()
	p.gate.mu.Lock()
	delete(p.gate.pipes, p)
	p.gate.mu.Unlock()
}

// ask carries what the client says.
func (p *pipe) ask() {
	defer p.end()
	buf := make([]byte, 64<<10)
	for {
		n, err := p.client.Read(buf)
		if n > 0 {
			if _, err := p.server.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// answer carries what the server says, until an acknowledgement is to be lost.
func (p *pipe) answer() {
	defer p.end()
	buf := make([]byte, 64<<10)
	for {
		n, err := p.server.Read(buf)
		if p.losing.Load() && acknowledges(buf[:n]) {
			p.gate.lost.Add(1)
			return
		}
		if n > 0 {
			if _, err := p.client.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// acknowledges says that a commit was made: a refusal begins with its error.
func acknowledges(said []byte) bool {
	return bytes.Contains(said, []byte(`{"stream":"KV_`)) && bytes.Contains(said, []byte(`"seq":`))
}

// lose loses the next acknowledgement of each connection that there is, and cuts it there.
func (g *gate) lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.pipes {
		p.losing.Store(true)
	}
}
