// Package natstest boots a real nats-server inside a test.
//
// A Server keeps its JetStream files in a folder of the test and syncs every
// write, as a server in production does, so that a Restart shows what really was
// durable. It listens on a free port of the loopback; its connections reconnect
// for as long as the test lasts.
//
// Invariants: what a Server, a connection or a store started has ended when its
// test ends; no two Servers share a folder or a port; Restart keeps both.
//
// This is the only package below kvlock that imports nats-server outside of its
// test files. It is for tests; a program embeds the server itself.
package natstest

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// bootLimit is how long a server may take until it accepts connections: long,
// because test machines are slow and share their disks.
const bootLimit = 60 * time.Second

// Server is one nats-server of a test. Its methods are called by the test's own
// goroutine.
type Server struct {
	opts server.Options
	srv  *server.Server
}

// Start boots a server with JetStream on files and sync always in a folder of
// the test, and stops it when the test ends. change may change its options.
func Start(t testing.TB, change ...func(*server.Options)) *Server {
	t.Helper()
	s := &Server{opts: server.Options{
		ServerName: "natstest",
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		JetStream:  true,
		StoreDir:   t.TempDir(),
		SyncAlways: true,
		NoSigs:     true,
		NoLog:      true,
	}}
	for _, c := range change {
		c(&s.opts)
	}
	s.boot(t)
	s.opts.Port = s.srv.Addr().(*net.TCPAddr).Port // so that Restart comes back under the same URL
	t.Cleanup(s.Stop)
	return s
}

// URL is what a client connects to; it is the same after a Restart.
func (s *Server) URL() string { return s.srv.ClientURL() }

// Conn returns a new connection, closed when t ends. It survives a Restart.
func (s *Server) Conn(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.URL(), append([]nats.Option{
		nats.Name(t.Name()),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(10 * time.Millisecond),
		nats.ReconnectJitter(5*time.Millisecond, 5*time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatalf("natstest: connect to %s: %v", s.URL(), err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// JetStream returns a JetStream context on a connection of its own.
func (s *Server) JetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(s.Conn(t))
	if err != nil {
		t.Fatalf("natstest: JetStream: %v", err)
	}
	return js
}

// Store returns a store on the default bucket with a connection of its own, as another process has it. It makes the
// stream if it is missing, and is closed when t ends.
func (s *Server) Store(t testing.TB, opts ...kvtx.Option) *kvtx.Store {
	t.Helper()
	store, err := kvtx.Ensure(t.Context(), s.JetStream(t), kvtx.Config{}, opts...)
	if err != nil {
		t.Fatalf("natstest: open the store: %v", err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("natstest: close the store: %v", err)
		}
	})
	return store
}

// Stop ends the server and waits for that. A stopped server is started again
// with Restart.
func (s *Server) Stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// Restart stops the server, if it runs, and starts it again on the same files and
// the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	s.boot(t)
}

func (s *Server) boot(t testing.TB) {
	t.Helper()
	opts := s.opts // the server changes the options that it is given
	srv, err := server.NewServer(&opts)
	if err != nil {
		t.Fatalf("natstest: configure nats-server: %v", err)
	}
	s.srv = srv
	srv.Start()
	if !srv.ReadyForConnections(bootLimit) {
		t.Fatalf("natstest: nats-server accepts no connections after %v", bootLimit)
	}
}
