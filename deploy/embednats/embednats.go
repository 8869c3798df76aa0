// Package embednats runs a NATS server with JetStream inside the process, for `scoria up` and for tests.
//
// Nouns: a Server is one running server; its URL is where others connect, Connect is for the own process. A server whose stream
// met an error when it wrote is broken: it answers no write any more (nats-server 2.15.2), also when the disk has room again, until
// it is started again. A Cluster is several servers on one disk, for measuring.
//
// Invariants, of a Server:
//   - JetStream keeps its data in files and syncs them before it acknowledges (sync always), so that what was
//     acknowledged survives a loss of power.
//   - The server is the only one on its directory.
//   - Connections find the server again after a Restart: those of this process as well as those over the network.
//   - It does not start on records that cannot be read or that are missing as far as that can be known (DamageError), unless it is told to:
//     the server itself would drop them, and what follows, for good.
//   - The server sets no limit of its own to what it stores: the disk is the limit.
//
// It makes no cluster that stands more than one server does: three servers in independent failure domains are configured with NATS' own means.
package embednats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
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
	// Hang is how long the server may leave the question whether it is broken without an answer; 0: 15 s. A disk may stall for seconds.
	Hang time.Duration
	// AcceptLoss starts the server on what is damaged, too, and logs what is lost.
	AcceptLoss bool
}

// ErrHangs: the server does not answer any more, not even whether it is broken, and can neither be started again nor ended: only the end of
// the process helps. nats-server 2.15.2 locks itself up when a purge meets a full disk.
var ErrHangs = errors.New("the embedded NATS server hangs")

// ErrInUse: another process listens on the address.
var ErrInUse = errors.New("address is in use")

// Server is a running server.
type Server struct {
	cfg Config
	log *slog.Logger
	// srv is the present one; its address is the first one's.
	srv   atomic.Pointer[server.Server]
	hangs atomic.Bool // for good
}

// Start starts a server and waits until it is ready. A nil log discards. Errors: ErrInUse, *DamageError, or what the server says of
// its directory.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("the embedded NATS server needs a directory")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: log}
	if err := s.boot(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// noLimit is what JetStream may store. Without it the server takes three quarters of what is free at its start for a limit, and on a
// disk that was nearly full then it refuses deletions, too, however much room there is later.
const noLimit = 1 << 60

// boot starts a server and waits until it is ready.
func (s *Server) boot(ctx context.Context) error {
	opts := &server.Options{
		ServerName: s.cfg.Name, JetStream: true, StoreDir: s.cfg.Dir, SyncAlways: true, JetStreamMaxStore: noLimit,
		NoSigs: true, NoSystemAccount: false, DisableShortFirstPing: true,
	}
	if err := listen(ctx, opts, s.cfg.Listen); err != nil {
		return err
	}
	streams, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	lines := &logger{log: s.log}
	srv.SetLoggerV2(lines, false, false, false)
	srv.Start()
	err = s.ready(ctx, srv, lines)
	if err == nil {
		err = complete(srv, streams)
	}
	if err != nil {
		end(srv)
		return err
	}
	if !opts.DontListen {
		s.cfg.Listen = srv.Addr().String() // where any free port was asked for, the next one takes this one
	}
	s.srv.Store(srv)
	return nil
}

// inspect finds the streams in the directory, and refuses what is damaged.
func (s *Server) inspect(ctx context.Context) ([]*kept, error) {
	streams, damage, err := inspect(s.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	if len(damage) > 0 && !s.cfg.AcceptLoss {
		return nil, &DamageError{damage}
	}
	for _, found := range damage {
		s.log.ErrorContext(ctx, "loss of data accepted", "error", found)
	}
	s.cfg.AcceptLoss = false // for one time
	return streams, nil
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

func (s *Server) ready(ctx context.Context, srv *server.Server, lines *logger) error {
	limit := s.cfg.Ready
	if limit <= 0 {
		limit = time.Minute
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if text := lines.fatal.Load(); text != nil {
			return fmt.Errorf("the embedded NATS server cannot start (directory %s): %s", s.cfg.Dir, *text)
		}
		if srv.ReadyForConnections(time.Millisecond) && srv.JetStreamEnabled() {
			return nil
		}
		if !srv.Running() {
			return fmt.Errorf("the embedded NATS server ended at its start; its log lines say why (directory %s)", s.cfg.Dir)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return fmt.Errorf("the embedded NATS server is not ready after %s (directory %s)", limit, s.cfg.Dir)
		case <-tick.C:
		}
	}
}

// URL is where other processes connect; empty if the server does not listen.
func (s *Server) URL() string {
	srv := s.srv.Load()
	if srv.Addr() == nil {
		return ""
	}
	return srv.ClientURL()
}

// Connect connects this process without a socket.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append([]nats.Option{nats.InProcessServer(s)}, opts...)...)
}

// InProcessConn is a connection to the present server, for Connect and for what it does when it connects again.
func (s *Server) InProcessConn() (net.Conn, error) { return s.srv.Load().InProcessConn() }

// Broken says why the server does not write any more, or returns nil. Only a Restart helps, and not even that if the error is ErrHangs.
func (s *Server) Broken() error {
	var err error
	if hangs := s.within(func(srv *server.Server) { err = broken(srv) }); hangs != nil {
		return hangs
	}
	return err
}

// within asks the server, unless that takes for ever.
func (s *Server) within(ask func(*server.Server)) error {
	if s.hangs.Load() {
		return ErrHangs
	}
	srv, answered := s.srv.Load(), make(chan struct{})
	go func() { // nobody waits for it if the server hangs
		defer close(answered)
		ask(srv)
	}()
	for range 2 { // a process that was stopped for a while finds the time over, but not twice
		select {
		case <-answered:
			return nil
		case <-time.After(cmp.Or(s.cfg.Hang, 15*time.Second) / 2):
		}
	}
	s.hangs.Store(true)
	return ErrHangs
}

func broken(srv *server.Server) error {
	if !srv.Running() || !srv.JetStreamEnabled() {
		return errors.New("the embedded NATS server has stopped JetStream, as it does when it may not write to its directory")
	}
	for _, e := range srv.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if strings.Contains(e.Error, "write error") {
			return fmt.Errorf("the embedded NATS server writes no more: %s", e.Error)
		}
	}
	return nil
}

// Restart starts the server again on the same directory and address. Connections are lost and come back by themselves, as after the
// death of a server. It must not be called by two at a time, nor beside Shutdown. After an error there is no server, until a later
// Restart makes one; after ErrHangs none can.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.within(end); err != nil {
		return err
	}
	return s.boot(ctx)
}

// Shutdown ends the server and waits until its files are closed. One that hangs is left behind.
func (s *Server) Shutdown() {
	if err := s.within(end); err != nil {
		s.log.Error("NATS server left behind", "error", err)
	}
}

func end(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

// logger gives the server's lines to slog. What the server calls a notice is of no interest at the usual level.
type logger struct {
	log   *slog.Logger
	fatal atomic.Pointer[string] // why the server gave up
}

func (l *logger) line(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats server", "line", fmt.Sprintf(format, v...))
	}
}

func (l *logger) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.line(slog.LevelWarn, format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.line(slog.LevelError, format, v) }
func (l *logger) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *logger) Tracef(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }

// Fatalf is for a server that cannot start: the caller of Start hears of it.
func (l *logger) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.fatal.Store(&text)
}
