package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// Errors of a Server.
var (
	ErrExists = errors.New("an export of this name exists")
	ErrClosed = errors.New("the server is closed")
	errCut    = errors.New("the export was removed")
)

// Export is a disk under a name.
type Export struct {
	Name        string
	Description string // for people
	// Open is called for each client that comes, and for each that asks how large the export is. Its error is told to the
	// client in words. The device must stay usable until Cut has returned.
	Open func() (Device, error)
}

// Config of a Server; the zero value is usable.
type Config struct {
	Log *slog.Logger // default: nothing is logged
	// MaxConnections bounds the clients of all exports together; more are turned away. Default 256.
	MaxConnections int
	// HandshakeLimit is how long a client may take until it uses an export. Default 30 s.
	HandshakeLimit time.Duration
}

// Server serves exports on any number of listeners. Close ends it.
type Server struct {
	cfg Config
	log *slog.Logger

	mu        sync.Mutex
	exports   map[string]*export
	conns     map[*conn]struct{}
	listeners map[net.Listener]struct{}
	closed    bool
	ending    chan struct{}  // closed with closed
	running   sync.WaitGroup // Serve calls and connections
}

// export is an Export and those who use it. Guarded by Server.mu.
type export struct {
	Export
	conns map[*conn]struct{}
	cut   bool          // nobody may come any more
	empty chan struct{} // closed when cut and the last client has gone
}

// NewServer returns a server without exports.
func NewServer(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 256
	}
	if cfg.HandshakeLimit == 0 {
		cfg.HandshakeLimit = 30 * time.Second
	}
	return &Server{
		cfg: cfg, log: cfg.Log,
		exports:   map[string]*export{},
		conns:     map[*conn]struct{}{},
		listeners: map[net.Listener]struct{}{},
		ending:    make(chan struct{}),
	}
}

// Serve takes clients from l until the server is closed, then returns nil. It closes l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = l.Close()
		return ErrClosed
	}
	s.listeners[l] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	defer l.Close()
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 0
			s.admit(nc)
			continue
		}
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// No descriptors or no memory: that may pass, and hosts that are connected go on meanwhile.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.log.Warn("cannot accept clients", "error", err, "retry_in", wait)
		select {
		case <-time.After(wait):
		case <-s.ending:
		}
	}
}

// admit starts a connection, or turns it away.
func (s *Server) admit(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	refuse := s.closed || len(s.conns) >= s.cfg.MaxConnections
	if !refuse {
		s.conns[c] = struct{}{}
		s.running.Add(1)
	}
	s.mu.Unlock()
	if refuse {
		s.log.Warn("client turned away: too many connections", "limit", s.cfg.MaxConnections)
		c.cancel(nil)
		_ = nc.Close()
		return
	}
	go func() {
		defer s.running.Done()
		c.run()
		s.mu.Lock()
		delete(s.conns, c)
		s.leave(c)
		s.mu.Unlock()
	}()
}

// Add makes an export available.
func (s *Server) Add(e Export) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.exports[e.Name] != nil {
		return fmt.Errorf("%w: %s", ErrExists, e.Name)
	}
	s.exports[e.Name] = &export{Export: e, conns: map[*conn]struct{}{}, empty: make(chan struct{})}
	return nil
}

// Cut removes an export. Clients are cut off: what they have asked for ends now, with an error where it waits; then their
// connections are closed. If ctx ends before all have gone, Cut returns its cause, nobody new gets in, and Cut may
// be called again. A missing export is a success.
func (s *Server) Cut(ctx context.Context, name string) error {
	s.mu.Lock()
	e := s.exports[name]
	if e == nil {
		s.mu.Unlock()
		return nil
	}
	if !e.cut {
		e.cut = true
		if len(e.conns) == 0 {
			close(e.empty)
		}
	}
	for c := range e.conns {
		c.cut()
	}
	s.mu.Unlock()
	select {
	case <-e.empty:
	case <-ctx.Done():
		return fmt.Errorf("clients of %s have requests under way: %w", name, context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exports[name] == e {
		delete(s.exports, name)
	}
	return nil
}

// Clients is the number of connections that use the export now.
func (s *Server) Clients(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.exports[name]; e != nil {
		return len(e.conns)
	}
	return 0
}

// Close takes no more clients, cuts off those that are there, and waits until all have gone or ctx ends; then it returns
// ctx's cause and may be called again.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.ending)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.cut()
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() { // ends with the last connection
		s.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("clients have requests under way: %w", context.Cause(ctx))
	}
}

// enter makes c a client of the export and opens it; unknown: nil. A connection uses one export at most.
func (s *Server) enter(c *conn, name string) (*export, Device, error) {
	s.mu.Lock()
	e := s.exports[name]
	if e == nil || e.cut || s.closed {
		s.mu.Unlock()
		return nil, nil, nil
	}
	e.conns[c] = struct{}{}
	c.export = e
	s.mu.Unlock()
	d, err := e.Open()
	if err != nil {
		s.mu.Lock()
		s.leave(c)
		s.mu.Unlock()
		return e, nil, err
	}
	return e, d, nil
}

// leave takes c out of its export. The caller holds s.mu.
func (s *Server) leave(c *conn) {
	e := c.export
	if e == nil {
		return
	}
	c.export = nil
	delete(e.conns, c)
	if e.cut && len(e.conns) == 0 {
		close(e.empty)
	}
}

// names lists the exports that clients may use.
func (s *Server) names() []Export {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Export, 0, len(s.exports))
	for _, e := range s.exports {
		if !e.cut {
			list = append(list, e.Export)
		}
	}
	slices.SortFunc(list, func(a, b Export) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return list
}
