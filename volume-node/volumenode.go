// Package volumenode puts a volume node together: the backends of one node, the sagas that change them, the intake that
// runs them, and the way of hosts to their volumes.
//
// Nouns: a node is a name with an ID behind it that its state directory keeps; a worker is one start of one process of a
// node, and a node may have several at a time; a backend is a driver under a name that is known everywhere.
//
// Invariants:
//   - A node's name stands for one ID: a process with another state directory is refused in words.
//   - A backend of fencing class node is served by processes of one node only; another node that brings its name is
//     refused in words. Any node may serve a backend whose class is store.
//   - A backend's name stands for one storage, by its identity, and a storage has one name. A process that brings another
//     storage under the name, or the storage under another name, is refused in words, and makes nothing there.
//   - Every start of a process is a worker of its own: it never goes on with what an earlier start left as if it were
//     that one; it takes it over. It need not wait for the lease if the process has ended that left it, on this node.
//   - Who serves a backend answers questions before it registers it, and its registration always writes the backend's record: whoever forgets
//     a backend that nobody serves, on the revision of a record that was read before the question, forgets none that is.
//   - While the storage of a backend is away, steps on it wait; what is asked about it is told so.
//   - Pools are reported before the first dispatch is taken, so a reservation always finds its pool.
//   - Run returns when every goroutine has ended: intake first, what it uses afterwards.
//   - The export server outlives the node, unless the node is told to end it.
//
// It does not decide what is accepted and opens no port: metrics and readiness are offered to the assembly around it.
package volumenode

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/drivers"
	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/control"
	"github.com/scoria-storage/scoria/volume-node/intake"
	"github.com/scoria-storage/scoria/volume-node/operations"
	"github.com/scoria-storage/scoria/volume-node/workers"
)

// Config of a volume node.
type Config struct {
	// Name of the node, [A-Za-z0-9_-]{1,64}. Several processes of one node have the same name and state directory.
	Name string
	// StateDir keeps the node's ID, files of its worker processes, and the export server's table and sockets.
	StateDir string
	// Backends that this process serves; at least one.
	Backends []driver.Spec
	// Zone is the availability zone of the backends; empty: the default one.
	Zone string
	// Workers is how many operations of one backend are in work at a time, besides those that wait to try a step again; 0: 32.
	Workers int
	// Lease is how long an operation whose worker is silent waits for another worker; 0: 30 s, at least 1 s.
	Lease time.Duration
	// StopLimit is how long steps under way may go on at a stop; 0: 20 s.
	StopLimit time.Duration
	// EndExports ends the export server when the node stops: hosts lose their volumes until the next start.
	EndExports bool
	// Release of the program, for the node's record.
	Release string
}

// SettingError is a setting that is wrong.
type SettingError struct {
	Name, Value, Want string
}

// Error names the setting, its value and what is wanted.
func (e *SettingError) Error() string {
	return fmt.Sprintf("setting %s: value %q: %s", e.Name, e.Value, e.Want)
}

// Validate names the setting that is wrong, its value and what is wanted, with the unit. Errors: *SettingError.
func (c Config) Validate() error {
	bad := func(name string, value any, want string) error {
		return &SettingError{Name: name, Value: fmt.Sprint(value), Want: want}
	}
	if err := block.CheckToken(c.Name); err != nil {
		return bad("name", c.Name, err.Error())
	}
	switch {
	case strings.TrimSpace(c.StateDir) == "":
		return bad("state", c.StateDir, "want a directory that keeps the node's identity")
	case len(c.Backends) == 0:
		return bad("backend", "", "want at least one NAME=KIND[:key=value,…]")
	case c.Workers < 0 || c.Workers > 10_000:
		return bad("workers", c.Workers, "want 1 to 10000 operations at a time")
	case c.Lease != 0 && c.Lease < time.Second:
		return bad("lease", c.Lease, "want a time of at least 1s")
	case c.StopLimit < 0:
		return bad("stop-limit", c.StopLimit, "want a time of 0s or more")
	}
	seen := make(map[string]bool)
	for _, b := range c.Backends {
		if seen[b.Name] {
			return bad("backend", b.String(), "the name "+b.Name+" is used twice")
		}
		seen[b.Name] = true
		if err := block.CheckToken(b.Name); err != nil {
			return bad("backend", b.String(), err.Error())
		}
	}
	return nil
}

// Deps is what a node works with.
type Deps struct {
	Store *kvtx.Store
	Locks *kvlock.Locker
	Log   *slog.Logger // nil: discard
	// Kinds of backend; nil: all of Scoria's.
	Kinds driver.Registry
	// Exporter replaces the export server of the state directory, for tests and other ways to a host.
	Exporter export.Exporter
	// Observe, if set, is told of what becomes of deliveries. Saga are options of the executor, such as observers.
	Observe func(intake.Event)
	Saga    []saga.Option
}

// Node is one process of a volume node.
type Node struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	id      string
	worker  string
	member  *workers.Member // says to the node's other processes that this one lives
	served  []served
	exports *control.Client // nil: none needed, or another exporter is used
	export  export.Exporter
	env     operations.Env
	answers func() // ends the answers to questions; nil: none are given
	intake  *intake.Intake
	ready   chan struct{}
}

// New opens the node's backends and registers the node and them. Run starts it; without Run, Close gives up what was opened.
// Errors are sentences that say what to do; *SettingError if a setting is wrong.
func New(ctx context.Context, cfg Config, deps Deps) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Kinds == nil {
		deps.Kinds = drivers.Registry()
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{cfg: cfg, deps: deps, worker: cfg.Name + "-" + rand.Text()[:10], export: deps.Exporter, ready: make(chan struct{})}
	n.log = deps.Log.With("node", cfg.Name)
	if err := n.checkKinds(); err != nil {
		return nil, err
	}
	var err error
	if n.id, err = identity(cfg.StateDir, cfg.Name); err != nil {
		return nil, err
	}
	if n.member, err = workers.Join(filepath.Join(cfg.StateDir, workersFolder), n.worker); err != nil {
		return nil, fmt.Errorf("state directory %s: %w", cfg.StateDir, err)
	}
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// workersFolder is in the state directory.
const workersFolder = "workers"

func (n *Node) open(ctx context.Context) (err error) {
	if err := n.openBackends(ctx); err != nil {
		return err
	}
	if err := n.checkOneMachine(ctx); err != nil {
		return err
	}
	if n.answers, err = n.answer(); err != nil {
		return err
	}
	if err := n.register(ctx); err != nil {
		return err
	}
	if err := n.openExports(); err != nil {
		return err
	}
	n.env = operations.Env{
		Store: n.deps.Store, Locks: n.deps.Locks, Drivers: map[string]driver.Driver{}, Exporter: n.export, NodeName: n.cfg.Name, NodeID: n.id, Log: n.log,
	}
	for _, b := range n.served {
		n.env.Drivers[b.spec.Name] = b.Driver
	}
	registry := operations.Registry(n.env)
	n.intake, err = intake.New(intake.Config{
		Backends: n.names(), Worker: n.worker, Workers: n.cfg.Workers, Lease: n.cfg.Lease, StopLimit: n.cfg.StopLimit,
	}, intake.Deps{
		Store: n.deps.Store, Locks: n.deps.Locks, Registry: registry, Input: operations.Input, Log: n.log,
		Observe: n.deps.Observe, Saga: n.deps.Saga, Workers: n.member, Away: n.storageBack,
	})
	return err
}

// openExports makes the way to the export server, if a backend has anything to export.
func (n *Node) openExports() error {
	if n.export != nil || !n.keepsData() {
		return nil
	}
	c, err := control.New(control.Config{StateDir: n.cfg.StateDir, Log: n.log})
	if err != nil {
		return fmt.Errorf("export server: %w", err)
	}
	n.exports, n.export = c, c
	return nil
}

func (n *Node) keepsData() bool {
	for _, b := range n.served {
		if b.Info().Capabilities.KeepsData {
			return true
		}
	}
	return false
}

// Ready is closed when the node takes dispatches and answers questions.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Running is how many operations this process runs at the moment.
func (n *Node) Running() int { return n.intake.Running() }

// Run serves until ctx ends, and returns when every goroutine of the node has ended. It is called once.
func (n *Node) Run(ctx context.Context) error {
	defer func() { _ = n.Close() }()
	after, end := context.WithCancel(context.WithoutCancel(ctx)) // of what the intake uses: it ends after it
	defer end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	fences, err := n.answerFences(after)
	if err != nil {
		return err // before the export server is started: nobody would end it
	}
	var helpers sync.WaitGroup
	if n.exports != nil {
		helpers.Go(func() { _ = n.exports.Run(after) })
	}
	helpers.Go(func() { n.reportPools(ctx) })
	helpers.Go(func() { n.cleanup(ctx) })
	helpers.Go(func() { n.restoreExports(ctx) })
	helpers.Go(func() { n.serveWakes(ctx) })
	helpers.Go(func() {
		select {
		case <-n.intake.Ready():
			n.log.InfoContext(ctx, "volume node ready", "worker", n.worker)
			close(n.ready)
		case <-ctx.Done():
		}
	})
	err = n.intake.Run(ctx)
	cancel()
	fences()
	end()
	helpers.Wait()
	if n.exports != nil && n.cfg.EndExports {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		defer cancel()
		err = errors.Join(err, n.exports.Shutdown(limit))
	}
	return err
}

// serveWakes lets in who waits in lines that one commit could not finish.
func (n *Node) serveWakes(ctx context.Context) {
	for ctx.Err() == nil {
		if err := n.deps.Locks.ServeWakes(ctx); err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "wakes of waiting lines are not served, it is tried again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

// Close gives up the backends, and says that this worker has ended. Run does so itself.
func (n *Node) Close() error {
	var errs []error
	if n.answers != nil {
		n.answers()
		n.answers = nil
	}
	for _, b := range n.served {
		errs = append(errs, b.Close())
	}
	n.served = nil
	if n.exports != nil {
		n.exports.Close()
	}
	if n.member != nil {
		errs = append(errs, n.member.Close())
		n.member = nil
	}
	return errors.Join(errs...)
}
