package assembly

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	apinode "github.com/scoria-storage/scoria/api-node"
	"github.com/scoria-storage/scoria/deploy/embednats"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/records"
	volumenode "github.com/scoria-storage/scoria/volume-node"
)

// DefaultNATSListen is where the embedded NATS server listens.
const DefaultNATSListen = "127.0.0.1:4222"

// Names in the data directory.
const (
	natsDir  = "nats"
	stateDir = "node"
	// VolumesDir is the folder of the file backend that `up` has where none is named.
	VolumesDir = "volumes"
)

// UpConfig is the configuration of everything in one process.
type UpConfig struct {
	Common
	// Data is the directory that everything is kept in.
	Data string
	// Listen is HOST:PORT of HTTP, NATSListen of NATS; an empty NATSListen: NATS is for this process only.
	Listen, NATSListen string
	Limits             records.Limits
	// AttachWait is how long changes of attachments wait for their operation.
	AttachWait time.Duration
	// Volume is the volume node; its State and its Backends may be empty.
	Volume VolumeConfig
	// Inside is told what runs, once it is ready, by programs that have the assembly in their own process.
	Inside func(Running)
}

// Running is what an assembly offers to the program around it.
type Running struct {
	URL   string
	Store *kvtx.Store
	Conn  *nats.Conn
}

func (c *UpConfig) node(d *dataDir) (volumenode.Config, error) {
	v := c.Volume
	if v.State == "" {
		v.State = d.sub(stateDir)
	}
	if len(v.Backends) == 0 {
		v.Backends = []string{"local=file:path=" + d.sub(VolumesDir)}
	}
	cfg, err := v.node(c.Release, c.Log)
	cfg.EndExports = true
	return cfg, err
}

// Up runs everything until ctx ends.
func Up(ctx context.Context, cfg UpConfig) (err error) {
	cfg.fill()
	if cfg.Data == "" {
		return &SettingError{"data", "", "want a directory that everything is kept in"}
	}
	if err := checkWait(cfg.AttachWait); err != nil {
		return err
	}
	if err := checkListens(listen{"listen", cfg.Listen}, listen{"nats-listen", cfg.NATSListen}, listen{"metrics", cfg.Volume.Metrics}); err != nil {
		return err
	}
	d, err := openDataDir(cfg.Data, cfg.Release)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	nodeCfg, err := cfg.node(d)
	if err != nil {
		return err
	}
	disk, err := openDisk(d.path, cfg.Log)
	if err != nil {
		return err
	}
	srv, err := startNATS(ctx, d, nodeCfg.Name, &cfg)
	if err == nil {
		defer srv.Shutdown()
		err = runAll(ctx, srv, disk, nodeCfg, &cfg)
	}
	return fullError(unlessTold(ctx, err))
}

// unlessTold is the error, or nil where a part only says that the process was told to end.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, nats.ErrConnectionClosed)) {
		return nil
	}
	return err
}

func startNATS(ctx context.Context, d *dataDir, name string, cfg *UpConfig) (*embednats.Server, error) {
	accepted := d.accepted()
	srv, err := embednats.Start(ctx, embednats.Config{Dir: d.sub(natsDir), Listen: cfg.NATSListen, Name: name, AcceptLoss: accepted}, cfg.Log)
	if errors.Is(err, embednats.ErrInUse) {
		return nil, fmt.Errorf("NATS: another process listens on %s; end it, or give another address with --nats-listen", cfg.NATSListen)
	}
	if err != nil {
		return nil, diskError(lossAdvice(d, err))
	}
	if accepted {
		if err := afterLoss(ctx, d, srv); err != nil {
			srv.Shutdown()
			return nil, diskError(err)
		}
	}
	return srv, nil
}

// runAll runs the nodes and watches the disk from the start on.
func runAll(ctx context.Context, srv *embednats.Server, disk *disk, nodeCfg volumenode.Config, cfg *UpConfig) error {
	nc, err := srv.Connect(natsOptions("scoria up", cfg.Log)...)
	if err != nil {
		return fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	defer nc.Close()
	started := make(chan func() int, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	watching.Go(func() { disk.watch(running, srv, started, end) })
	ended := make(chan struct{})
	watching.Go(func() { disk.watchEnd(running, srv, ended, nc.Close) })
	err = runNodes(running, nc, srv.URL(), disk, nodeCfg, cfg, started)
	close(ended)
	switch {
	case running.Err() != nil && ctx.Err() == nil:
		return context.Cause(running)
	case err == nil || ctx.Err() != nil || IsSetting(err) || saysFull(err) || disk.full() == nil:
		return err
	}
	return fmt.Errorf("%w: %w", err, disk.startError())
}

// runNodes runs both nodes on one connection and one store: their commits are made together. When all has started, started gets what says
// how many operations are under way.
func runNodes(ctx context.Context, nc *nats.Conn, natsURL string, disk *disk, nodeCfg volumenode.Config, cfg *UpConfig, started chan<- func() int) (err error) {
	registry := newRegistry(cfg.Release)
	store, locks, err := open(ctx, nc, 1, nodeCfg.Name, registry, cfg.Log, func(context.Context) error { return disk.Short() })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := answerRoom(nc, disk.Short); err != nil {
		return err
	}
	readiness := newReadiness("the nodes are starting")
	notReady := func() error { return cmp.Or(readiness.get(), disk.Short()) }
	m, err := serveMetrics(cfg.Volume.Metrics, registry, notReady)
	if err != nil {
		return err
	}
	defer m.Close()
	api, err := apinode.New(apinode.Config{Listen: cfg.Listen, Limits: cfg.Limits, AttachWait: cfg.AttachWait, Release: cfg.Release, NotReady: notReady, Disk: disk}, nc, store, locks, registry, cfg.Log)
	if err != nil {
		return err
	}
	volume, err := newVolumeNode(ctx, nodeCfg, volumenode.Deps{Store: store, Locks: locks, Log: cfg.Log}, registry)
	if err != nil {
		return errors.Join(err, api.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := whenClosed(ctx, both(ctx, api.Started(), volume.Ready()), func() {
		started <- volume.Running
		readiness.set("")
		cfg.Ready(Served{URL: api.URL(), Metrics: m.URL(), NATS: natsURL})
		if cfg.Inside != nil {
			cfg.Inside(Running{URL: api.URL(), Store: store, Conn: nc})
		}
	})
	defer stop()
	var parts sync.WaitGroup
	var errs [2]error
	parts.Go(func() { errs[0] = api.Run(ctx); cancel() })
	parts.Go(func() { errs[1] = volume.Run(ctx); cancel() })
	parts.Wait()
	return errors.Join(unlessTold(ctx, errs[0]), unlessTold(ctx, errs[1]))
}

// both is closed when both are, or not at all if ctx ends before.
func both(ctx context.Context, a, b <-chan struct{}) <-chan struct{} {
	all := make(chan struct{})
	go func() {
		for _, ch := range []<-chan struct{}{a, b} {
			select {
			case <-ch:
			case <-ctx.Done():
				return
			}
		}
		close(all)
	}()
	return all
}
