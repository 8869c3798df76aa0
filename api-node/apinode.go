// Package apinode puts an API node together: read side, admission, HTTP and messages on one stream.
//
// Nouns: an API node serves HTTP and messages; it keeps no state of its own, any number may run beside each other.
//
// Invariants:
//   - It is ready only while its read side has caught up with the stream and is being fed.
//   - Nobody waits long for a stream that is known not to answer: what would change something is refused before anything is
//     submitted, what asks the stream ends with the reason, and what is read from memory says how old it may be.
//   - Run returns when every goroutine of the node has ended; requests that were taken are answered first.
//
// It does not make the stream: that is package deploy.
package apinode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/auth"
	"github.com/scoria-storage/scoria/api-node/ingest"
	"github.com/scoria-storage/scoria/api-node/rest"
	"github.com/scoria-storage/scoria/api-node/serving"
	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/pulse"
	"github.com/scoria-storage/scoria/messages/records"
)

// Config of an API node. The zero value of a field is its default.
type Config struct {
	// Listen is HOST:PORT of the HTTP server. Default: 127.0.0.1:8776.
	Listen string
	// Limits of projects without their own. Default: admit.DefaultLimits.
	Limits records.Limits
	// Zone is the availability zone of volumes and backends that name none. Default: nova.
	Zone string
	// PublicEndpoint replaces scheme, host and prefix in links.
	PublicEndpoint string
	// AttachWait is how long changes of attachments wait for their operation. Default: 60 s.
	AttachWait time.Duration
	// Window is how long ended operations are remembered. Default: kvlock.DefaultRetention.
	Window  time.Duration
	Release string
	// NotReady says why the process around the node is not ready, or nil.
	NotReady func() error
	// Disk is where the stream is kept, if that is known: what needs room is refused when it is full.
	Disk admit.Disk
}

// DefaultListen is where the HTTP server listens.
const DefaultListen = "127.0.0.1:8776"

func (c *Config) fill() {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Limits == (records.Limits{}) {
		c.Limits = admit.DefaultLimits
	}
	if c.Zone == "" {
		c.Zone = admit.DefaultZone
	}
	if c.Window == 0 {
		c.Window = kvlock.DefaultRetention
	}
}

// Node is an API node that listens.
type Node struct {
	cfg      Config
	nc       *nats.Conn
	log      *slog.Logger
	listener net.Listener
	view     *view.View
	admit    *admit.Admitter
	ingest   *ingest.Ingest
	api      *rest.API
	pulse    *pulse.Pulse
	serving  atomic.Bool
	// caughtUp is closed when messages and HTTP are served and the view has caught up.
	caughtUp chan struct{}
}

// New makes a node and listens; Run serves. The store, the lock library and the connection stay the caller's. Errors: the
// address is in use, or a setting that is named.
func New(cfg Config, nc *nats.Conn, store *kvtx.Store, locks *kvlock.Locker, metrics prometheus.Registerer, log *slog.Logger) (*Node, error) {
	cfg.fill()
	v := view.New(store, log, view.WithLimits(cfg.Limits))
	n := &Node{cfg: cfg, nc: nc, log: log, view: v, caughtUp: make(chan struct{})}
	n.pulse = pulse.New(nc, store, cfg.NotReady)
	serves := serving.New(&verify.Nodes{Conn: nc, Timeout: servingGlance}, v.Nodes)
	n.admit = admit.New(store, locks, v, admit.Defaults{Limits: cfg.Limits, Zone: cfg.Zone}, log, admit.WithDisk(cfg.Disk), admit.WithStream(n.pulse),
		admit.WithFences(&fences{nc, v}), admit.WithServing(serves), admit.WithAsker(&verify.Nodes{Conn: nc, Timeout: servingLimit}))
	n.ingest = ingest.New(ingest.Config{Window: cfg.Window}, n.admit, v, log)
	var err error
	n.api, err = rest.New(rest.Config{
		Reader: v, Submitter: n.admit, Auth: auth.NoAuth{}, Verifier: verify.New(store, &verify.Nodes{Conn: nc}), Serving: serves, Ready: n.Ready, Stream: n.pulse, Log: log,
		OnRequest: requestMetrics(metrics), Release: cfg.Release, PublicEndpoint: cfg.PublicEndpoint, AttachWait: cfg.AttachWait, Zone: cfg.Zone,
	})
	if err != nil {
		return nil, err
	}
	if n.listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", cfg.Listen); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listen: another process listens on %s; end it, or give another address with --listen", cfg.Listen)
		}
		return nil, fmt.Errorf("listen: %q: %w", cfg.Listen, err)
	}
	return n, nil
}

// URL is where the node serves HTTP.
func (n *Node) URL() string { return "http://" + n.listener.Addr().String() }

// Ready says why the node cannot serve, or nil.
func (n *Node) Ready() error {
	select {
	case <-n.view.CaughtUp():
	default:
		return errors.New("the read side has not caught up with the stream yet")
	}
	if !n.serving.Load() {
		return errors.New("the node is starting or ending")
	}
	if n.cfg.NotReady != nil {
		if err := n.cfg.NotReady(); err != nil {
			return err
		}
	}
	return n.pulse.Ready()
}

// servingLimit bounds the wait for a process that is asked what it serves, where something is decided by it; servingGlance where it is shown,
// with what else is known.
const (
	servingLimit  = 2 * time.Second
	servingGlance = 500 * time.Millisecond
)

// Close gives up a node that was not run.
func (n *Node) Close() error { return n.listener.Close() }

// Started is closed when the node serves for the first time.
func (n *Node) Started() <-chan struct{} { return n.caughtUp }

// Run serves until ctx ends or a part fails, and returns when all parts have ended. The view ends last: answers need it.
func (n *Node) Run(ctx context.Context) error {
	serve, stop := context.WithCancel(ctx)
	defer stop()
	feed, stopFeed := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFeed()
	var parts, feeding sync.WaitGroup
	var errs [3]error
	feeding.Go(func() { errs[0] = n.view.Run(feed); stop() })
	var replaced error
	feeding.Go(func() {
		if replaced = n.pulse.Run(feed); replaced != nil {
			stop()
		}
	})
	parts.Go(func() { errs[1] = n.api.Serve(serve, n.listener); stop() })
	parts.Go(func() { errs[2] = n.takeMessages(serve); stop() })
	parts.Go(func() { n.admit.KeepDeadlines(serve, n.waiting) })
	parts.Wait()
	n.serving.Store(false)
	stopFeed()
	feeding.Wait()
	errs[0] = cmp.Or(replaced, errs[0]) // the read side hears of it in its own way
	for i, err := range errs {
		if errors.Is(err, context.Canceled) {
			errs[i] = nil
		}
	}
	return errors.Join(errs[:]...)
}

// waiting are the operations that wait in line until a time.
func (n *Node) waiting() []admit.Waiter {
	var all []admit.Waiter
	for _, op := range n.view.Waiting() {
		all = append(all, admit.Waiter{Operation: op.ID, Deadline: op.Deadline})
	}
	return all
}

// takeMessages begins when the view has caught up: before that the node would not find what it is asked for.
func (n *Node) takeMessages(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.view.CaughtUp():
	}
	events, err := n.nc.Subscribe(messages.EventAll, func(msg *nats.Msg) {
		var u messages.Update
		if messages.Decode(msg.Data, &u) == nil {
			n.view.Hear(u)
		}
	})
	if err != nil {
		return err
	}
	defer func() { _ = events.Unsubscribe() }()
	defer n.serving.Store(false)
	return n.ingest.Run(ctx, n.nc, func() {
		n.serving.Store(true)
		n.api.Open()
		close(n.caughtUp)
	})
}
