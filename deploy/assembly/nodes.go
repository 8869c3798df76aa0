package assembly

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	apinode "github.com/scoria-storage/scoria/api-node"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/pulse"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagaprom"
	volumenode "github.com/scoria-storage/scoria/volume-node"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/operations"
)

// IsSetting reports whether the error is about a setting that is wrong.
func IsSetting(err error) bool { return SettingOf(err) != "" }

// SettingOf is the name of the setting that the error says is wrong; empty if it is about something else.
func SettingOf(err error) string {
	if e, ok := errors.AsType[*SettingError](err); ok {
		return e.Name
	}
	if e, ok := errors.AsType[*volumenode.SettingError](err); ok {
		return e.Name
	}
	return ""
}

// VolumeConfig is what an assembly with a volume node has.
type VolumeConfig struct {
	// Name of the node; empty: the one that the state directory keeps, else the name of the host.
	Name string
	// State is the node's state directory.
	State string
	// Backends are texts such as local=file:path=DIR.
	Backends []string
	// Metrics is HOST:PORT.
	Metrics string
	Workers int
	Lease   time.Duration
}

// node makes the configuration of package volumenode.
func (v *VolumeConfig) node(release string, log *slog.Logger) (volumenode.Config, error) {
	name, err := v.nodeName(log)
	if err != nil {
		return volumenode.Config{}, err
	}
	cfg := volumenode.Config{Name: name, StateDir: v.State, Workers: v.Workers, Lease: v.Lease, Release: release}
	for _, text := range v.Backends {
		spec, err := driver.ParseSpec(text)
		if err != nil {
			return cfg, &SettingError{"backend", text, err.Error()}
		}
		cfg.Backends = append(cfg.Backends, spec)
	}
	return cfg, cfg.Validate()
}

// newVolumeNode makes the node with its metrics. deps lack its observers.
func newVolumeNode(ctx context.Context, cfg volumenode.Config, deps volumenode.Deps, reg prometheus.Registerer) (*volumenode.Node, error) {
	sagas := sagaprom.New(operations.Registry(operations.Env{}).Shapes())
	reg.MustRegister(sagas)
	deps.Saga = []saga.Option{saga.WithObserver(sagas.Observe)}
	node, err := volumenode.New(ctx, cfg, deps)
	if err != nil {
		return nil, fullError(err)
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "scoria_volumenode_operations_running", Help: "Operations that this process runs at the moment.",
	}, func() float64 { return float64(node.Running()) }))
	return node, nil
}

// APINodeConfig is the configuration of a process that is an API node.
type APINodeConfig struct {
	Common
	// NATS is the URL of the servers.
	NATS string
	// Listen and Metrics are HOST:PORT.
	Listen, Metrics string
	Limits          records.Limits
	// AttachWait is how long changes of attachments wait for their operation.
	AttachWait time.Duration
	// Replicas of the stream, if this node makes it.
	Replicas int
}

// APINode runs an API node until ctx ends.
func APINode(ctx context.Context, cfg APINodeConfig) (err error) {
	cfg.fill()
	if err := checkWait(cfg.AttachWait); err != nil {
		return err
	}
	if err := checkListens(listen{"listen", cfg.Listen}, listen{"metrics", cfg.Metrics}); err != nil {
		return err
	}
	registry := newRegistry(cfg.Release)
	p, err := connect(ctx, cfg.NATS, cfg.Replicas, "scoria api-node", "api", registry, cfg.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	node, err := apinode.New(apinode.Config{Listen: cfg.Listen, Limits: cfg.Limits, AttachWait: cfg.AttachWait, Release: cfg.Release}, p.nc, p.store, p.locks, registry, cfg.Log)
	if err != nil {
		return err
	}
	m, err := serveMetrics(cfg.Metrics, registry, node.Ready)
	if err != nil {
		return errors.Join(err, node.Close())
	}
	defer m.Close()
	stop := whenClosed(ctx, node.Started(), func() { cfg.Ready(Served{URL: node.URL(), Metrics: m.URL()}) })
	defer stop()
	return node.Run(ctx)
}

// VolumeNodeConfig is the configuration of a process that is a volume node.
type VolumeNodeConfig struct {
	Common
	// NATS is the URL of the servers.
	NATS   string
	Volume VolumeConfig
	// Replicas of the stream, if this node makes it.
	Replicas int
}

// VolumeNode runs a volume node until ctx ends.
func VolumeNode(ctx context.Context, cfg VolumeNodeConfig) (err error) {
	cfg.fill()
	nodeCfg, err := cfg.Volume.node(cfg.Release, cfg.Log)
	if err != nil {
		return err
	}
	if err := checkListens(listen{"metrics", cfg.Volume.Metrics}); err != nil {
		return err
	}
	registry := newRegistry(cfg.Release)
	p, err := connect(ctx, cfg.NATS, cfg.Replicas, "scoria volume-node "+nodeCfg.Name, nodeCfg.Name, registry, cfg.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	readiness := newReadiness("the volume node is starting")
	answers := pulse.New(p.nc, p.store, nil)
	ctx, stopBeat := beat(ctx, answers)
	defer stopBeat()
	m, err := serveMetrics(cfg.Volume.Metrics, registry, func() error { return cmp.Or(readiness.get(), answers.Ready()) })
	if err != nil {
		return err
	}
	defer m.Close()
	node, err := newVolumeNode(ctx, nodeCfg, volumenode.Deps{Store: p.store, Locks: p.locks, Log: cfg.Log}, registry)
	if err != nil {
		return err
	}
	stop := whenClosed(ctx, node.Ready(), func() {
		readiness.set("")
		cfg.Ready(Served{URL: m.URL(), Metrics: m.URL()})
	})
	defer stop()
	err = node.Run(ctx)
	readiness.set("the volume node is ending")
	if replaced := context.Cause(ctx); replaced != nil && !errors.Is(replaced, context.Canceled) {
		return replaced
	}
	return err
}

// beat runs the pulse. The context that it returns ends with ctx, with stop, which waits, or with the stream being another one: its cause.
func beat(ctx context.Context, p *pulse.Pulse) (with context.Context, stop func()) {
	with, end := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.Run(with); err != nil {
			end(err)
		}
	})
	return with, func() { end(nil); running.Wait() }
}

// part is the connection and what stands on it.
type part struct {
	nc    *nats.Conn
	store *kvtx.Store
	locks *kvlock.Locker
}

func connect(ctx context.Context, url string, replicas int, name, node string, reg prometheus.Registerer, c Common) (*part, error) {
	if url == "" {
		return nil, &SettingError{"nats", "", "want the URL of the NATS servers, such as nats://127.0.0.1:4222"}
	}
	if replicas != 0 && replicas != 1 && replicas != 3 && replicas != 5 {
		return nil, &SettingError{"replicas", fmt.Sprint(replicas), "want 1, 3 or 5 copies"}
	}
	nc, err := dial(url, name, c.Log)
	if err != nil {
		return nil, err
	}
	store, locks, err := open(ctx, nc, replicas, node, reg, c.Log, askRoom(nc))
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &part{nc, store, locks}, nil
}

func (p *part) close() error {
	err := p.store.Close()
	p.nc.Close()
	return err
}

func checkWait(attachWait time.Duration) error {
	if attachWait != 0 && (attachWait < time.Second || attachWait > time.Hour) {
		return &SettingError{"attach-wait", attachWait.String(), "want a time from 1s to 1h"}
	}
	return nil
}

// whenClosed calls do once ch is closed, unless ctx or the returned stop come first. stop waits.
func whenClosed(ctx context.Context, ch <-chan struct{}, do func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ch:
			do()
		case <-ctx.Done():
		}
	}()
	return func() { cancel(); <-done }
}
