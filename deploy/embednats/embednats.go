// Package embednats runs a NATS server with JetStream inside the process, for `scoria up` and for tests.
//
// Nouns: a Server is one running server; its URL is where others connect, Connect is for the own process.
//
// Invariants:
//   - JetStream keeps its data in files and syncs them before it acknowledges (sync always), so that what was
//     acknowledged survives a loss of power.
//   - The server is the only one on its directory.
//
// It makes no cluster: three servers in independent failure domains are configured with NATS' own means.
package embednats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Config of the server. Dir is needed.
type Config struct {
	// Dir is where JetStream keeps its files.
	Dir string
	// Listen is HOST:PORT for other processes; empty: only this process can connect. Port 0 takes a free one.
	Listen string
	// Name of the server, as others see it.
	Name string
	// Ready bounds the wait for the server to be ready; 0: 60 s. A large stream takes seconds to recover.
	Ready time.Duration
}

// ErrInUse: another process listens on the address.
var ErrInUse = errors.New("address is in use")

// Server is a running server.
type Server struct {
	srv *server.Server
}

// Start starts a server and waits until it is ready. A nil log discards. Errors: ErrInUse, or what the server says of its
// directory.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("the embedded NATS server needs a directory")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	opts := &server.Options{
		ServerName: cfg.Name, JetStream: true, StoreDir: cfg.Dir, SyncAlways: true,
		NoSigs: true, NoSystemAccount: false, DisableShortFirstPing: true,
	}
	if err := listen(ctx, opts, cfg.Listen); err != nil {
		return nil, err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	srv.SetLoggerV2(&logger{log: log}, false, false, false)
	srv.Start()
	s := &Server{srv: srv}
	if err := s.ready(ctx, cfg); err != nil {
		s.Shutdown()
		return nil, err
	}
	return s, nil
}

func listen(ctx context.Context, opts *server.Options, addr string) error {
	if addr == "" {
		opts.DontListen = true
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("NATS address %q: want HOST:PORT: %w", addr, err)
	}
	opts.Host = host
	if opts.Port, err = strconv.Atoi(port); err != nil || opts.Port < 0 || opts.Port > 65535 {
		return fmt.Errorf("NATS address %q: port %q is not a number from 0 to 65535", addr, port)
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
		return nil
	}
	probe, err := new(net.ListenConfig).Listen(ctx, "tcp", addr) // the server itself only logs that it cannot listen
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%w: %s", ErrInUse, addr)
		}
		return fmt.Errorf("NATS address %q: %w", addr, err)
	}
	return probe.Close()
}

func (s *Server) ready(ctx context.Context, cfg Config) error {
	limit := cfg.Ready
	if limit <= 0 {
		limit = time.Minute
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.srv.ReadyForConnections(time.Millisecond) && s.srv.JetStreamEnabled() {
			return nil
		}
		if !s.srv.Running() {
			return fmt.Errorf("the embedded NATS server ended at its start; its log lines say why (directory %s)", cfg.Dir)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return fmt.Errorf("the embedded NATS server is not ready after %s (directory %s)", limit, cfg.Dir)
		case <-tick.C:
		}
	}
}

// URL is where other processes connect; empty if the server does not listen.
func (s *Server) URL() string {
	if s.srv.Addr() == nil {
		return ""
	}
	return s.srv.ClientURL()
}

// Connect connects this process without a socket.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append([]nats.Option{nats.InProcessServer(s.srv)}, opts...)...)
}

// ErrStopped: the server has stopped JetStream by itself.
var ErrStopped = errors.New("the embedded NATS server has stopped JetStream, which it does when it cannot write to its directory")

// Watch returns ErrStopped once the server has stopped JetStream: it does so for good when a write fails, as on a full disk, and only
// a new start helps. It returns nil when ctx ends.
func (s *Server) Watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if !s.srv.JetStreamEnabled() && s.srv.Running() {
				return ErrStopped
			}
		}
	}
}

// watchEvery is how often Watch looks.
const watchEvery = 500 * time.Millisecond

// Shutdown ends the server and waits until its files are closed.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// logger gives the server's lines to slog. What the server calls a notice is of no interest at the usual level.
type logger struct{ log *slog.Logger }

func (l *logger) line(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats server", "line", fmt.Sprintf(format, v...))
	}
}

func (l *logger) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.line(slog.LevelWarn, format, v) }
func (l *logger) Fatalf(format string, v ...any)  { l.line(slog.LevelError, format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.line(slog.LevelError, format, v) }
func (l *logger) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *logger) Tracef(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
