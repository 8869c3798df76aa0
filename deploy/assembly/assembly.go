// Package assembly puts processes together: `scoria up`, an API node, a volume node. Tests boot the same ones.
//
// Nouns: an assembly is one process with its settings; its data directory holds everything that must outlive it; the reserve is a file
// there that holds room on the disk for what frees room.
//
// Invariants:
//   - An assembly says that it is ready only when all of its parts are.
//   - Up, APINode and VolumeNode return when every part has ended: the store after its users, the server last.
//   - One process uses a data directory at a time; one of a newer format is left alone.
//   - `scoria up` goes on when its disk is full: it accepts what frees room, answers reads, and accepts all again when there is room.
//
// It parses no flags: that is internal/cli.
package assembly

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlockprom"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/withdraw"
)

// SettingError is a setting that is wrong.
type SettingError struct {
	Name, Value, Want string
}

// Error names the setting, its value and what is wanted.
func (e *SettingError) Error() string {
	return fmt.Sprintf("setting %s: value %q: %s", e.Name, e.Value, e.Want)
}

// Common is what all assemblies have.
type Common struct {
	// Log is where the process logs; nil: nowhere.
	Log *slog.Logger
	// Ready is told once, when the process is ready.
	Ready func(Served)
	// Release is the version of the program.
	Release string
}

// Served is where a process listens, free ports chosen.
type Served struct {
	// URL is that of its /readyz, Metrics that of its /metrics, both without the path.
	URL, Metrics string
	// NATS is that of the embedded server; empty: there is none, or it is for this process only.
	NATS string
}

func (c *Common) fill() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Ready == nil {
		c.Ready = func(Served) {}
	}
	if c.Release == "" {
		c.Release = "unknown"
	}
}

// natsOptions make a connection that never gives up, and that is given up for another one when nothing comes over it for 10 to 15 s: a
// server that was stopped, or a network that swallows everything, does not end it.
func natsOptions(name string, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(200 * time.Millisecond), nats.RetryOnFailedConnect(false),
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("connection to NATS is back", "server", c.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("NATS says", "subject", subject, "error", err)
		}),
	}
}

// Redacted is a list of URLs of NATS servers without what is secret in it: it may be shown to everybody.
func Redacted(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		at := strings.LastIndexByte(part, '@')
		if at < 0 {
			continue
		}
		begin := 0
		if scheme := strings.Index(part[:at], "://"); scheme >= 0 {
			begin = scheme + len("://")
		}
		parts[i] = part[:begin] + "xxxxx" + part[at:]
	}
	return strings.Join(parts, ",")
}

// dial connects to one of the servers.
func dial(urls, name string, log *slog.Logger) (*nats.Conn, error) {
	nc, err := nats.Connect(urls, natsOptions(name, log)...)
	if bad, ok := errors.AsType[*url.Error](err); ok {
		return nil, &SettingError{"nats", Redacted(urls), bad.Err.Error()} // the text of the error itself has the secret
	}
	if err != nil {
		return nil, fmt.Errorf("setting nats: value %q: %w: is the server running, and is this its address?", Redacted(urls), err)
	}
	return nc, nil
}

// open makes or verifies the stream, and the lock library on it.
func open(ctx context.Context, nc *nats.Conn, replicas int, node string, reg prometheus.Registerer, log *slog.Logger, mayPurge func(context.Context) error) (*kvtx.Store, *kvlock.Locker, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, err
	}
	store, err := kvtx.Ensure(ctx, js, kvtx.Config{Replicas: replicas}, kvtx.WithLogger(log), kvtx.WithPurgeGate(mayPurge))
	if err != nil {
		if errors.Is(err, kvtx.ErrStream) {
			return nil, nil, fmt.Errorf("%w; Scoria does not change a stream that is there: set it back, or use another NATS account", err)
		}
		return nil, nil, noJetStream(fewServers(err, replicas), nc)
	}
	info, err := store.Stream().Info(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	era, err := kvlock.EraOf(info.Config.Metadata)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	metrics := kvlockprom.New()
	reg.MustRegister(metrics)
	return store, kvlock.New(store, kvlock.WithEra(era), kvlock.WithLogger(log), kvlock.WithObserver(metrics), kvlock.WithLeft(withdraw.Into(node))), nil
}

// Codes of nats-server for a stream that wants more servers than there are: it is alone, or one of too few (server/errors.json).
const (
	codeAlone   jetstream.ErrorCode = 10074
	codeNoPeers jetstream.ErrorCode = 10005
)

// fewServers says of a stream that could not be made for want of servers what to do.
func fewServers(err error, replicas int) error {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && (api.ErrorCode == codeAlone || api.ErrorCode == codeNoPeers) {
		return &SettingError{"replicas", strconv.Itoa(replicas), fmt.Sprintf(
			"the stream has its copies on as many NATS servers of one cluster, and fewer answer (%s): name a cluster of %d with --nats, or give --replicas 1", api.Description, replicas)}
	}
	return err
}

// noJetStream says of a server without JetStream, or an account that may not use it, what to do.
func noJetStream(err error, nc *nats.Conn) error {
	var advice string
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		advice = "allow JetStream for the account that Scoria connects with"
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		advice = "start the server with JetStream, in its configuration file: jetstream { store_dir: DIR, sync_interval: always }"
	default:
		return err
	}
	return &SettingError{"nats", nc.ConnectedUrlRedacted(), "the NATS server there has no JetStream, which keeps everything: " + advice}
}
