// Package control drives a node's export server from a volume node: an [export.Exporter] that speaks to the server's
// control socket, starts the server where none runs, and starts it again when it dies.
//
// Nouns. A [Client] is one process's way to the server; any number of processes may have one. [Client.Run] is the watch over
// the server. [Client.Shutdown] ends the server.
//
// Invariants:
//
//   - Of all clients of a state directory one at a time starts a server, and none while one answers.
//   - The server outlives the client's process, however that ends.
//   - A call is repeated while its context lasts if the server dies under it; all calls but the release of a hold may be
//     repeated. A release whose answer is lost reports the hold as lost.
//
// What it does not do: it does not upgrade a server that runs; an older one answers what it knows.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
	"github.com/scoria-storage/scoria/volume-node/export/launch"
)

// Config of a Client. StateDir must be set.
type Config struct {
	// StateDir is that of the export server.
	StateDir string
	// StartLimit is how long a server may take until it answers. Default 15 s.
	StartLimit time.Duration
	// Start starts a server. Default Self.
	Start func(ctl.Paths) (*launch.Process, error)
	// Log. Default: nothing is logged.
	Log *slog.Logger
}

// Self starts this program's own export server: the command export-server of the same binary.
func Self(p ctl.Paths) (*launch.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return launch.Start(launch.Command{Path: self, Args: []string{"export-server", "--state", p.State}, Log: p.Log})
}

// Client speaks to the export server of a state directory. It is safe for concurrent use.
type Client struct {
	cfg  Config
	log  *slog.Logger
	http *http.Client

	starting chan struct{}   // a lock: whoever has it may start a server and touch process
	process  *launch.Process // the one that this client started last; nil: none, or it has ended
}

var _ export.Exporter = (*Client)(nil)

// New returns a client. It touches nothing yet. Close ends it.
func New(cfg Config) (*Client, error) {
	if cfg.StateDir == "" {
		return nil, errors.New("StateDir: a directory is needed")
	}
	if cfg.StartLimit < 0 {
		return nil, fmt.Errorf("StartLimit: %v is negative", cfg.StartLimit)
	}
	if cfg.StartLimit == 0 {
		cfg.StartLimit = 15 * time.Second
	}
	if cfg.Start == nil {
		cfg.Start = Self
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	paths, err := ctl.Find(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	cfg.StateDir = paths.State
	c := &Client{cfg: cfg, log: cfg.Log, starting: make(chan struct{}, 1)}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			paths, err := ctl.Find(cfg.StateDir) // the first server may have chosen the place of its sockets since
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{}).DialContext(ctx, "unix", paths.Control)
		},
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true,
	}}
	return c, nil
}

// Close gives up idle connections. The server lives on; so may the client be used on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Export makes a volume reachable; see [export.Exporter].
func (c *Client) Export(ctx context.Context, r export.Request) (export.Connection, error) {
	return call[export.Connection](ctx, c, ctl.CallExport, r)
}

// Unexport cuts a host off; see [export.Exporter].
func (c *Client) Unexport(ctx context.Context, r export.Removal) error {
	_, err := call[ctl.Done](ctx, c, ctl.CallUnexport, r)
	return err
}

// List returns all exports; see [export.Exporter].
func (c *Client) List(ctx context.Context) ([]export.Exported, error) {
	l, err := call[ctl.List](ctx, c, ctl.CallList, ctl.Done{})
	return l.Exports, err
}

// Resize raises the size that new clients see; see [export.Exporter].
func (c *Client) Resize(ctx context.Context, volume string, bytes int64) error {
	_, err := call[ctl.Done](ctx, c, ctl.CallResize, ctl.Resize{Volume: volume, Bytes: bytes})
	return err
}

// call makes a call that may be repeated, until it is answered or ctx ends or no server can be had.
func call[Out any](ctx context.Context, c *Client, path string, in any) (Out, error) {
	var out Out
	err := c.persist(ctx, func() error {
		out = *new(Out)
		resp, err := c.post(ctx, path, in)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return answer(resp, &out)
	})
	return out, err
}

// errLost: the server could not be reached or went away; the call may be repeated.
var errLost = errors.New("no answer from the export server")

// persist repeats do while it fails with errLost, each time with a server that answers.
func (c *Client) persist(ctx context.Context, do func() error) error {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := do()
		if !errors.Is(err, errLost) {
			return err
		}
		if ctx.Err() == nil {
			err = c.ensure(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w", export.ErrUnavailable, context.Cause(ctx))
			}
			return err
		}
		if !sleep(ctx, wait) { // a server that dies under each call must not be asked in a loop
			return fmt.Errorf("%w: %w", export.ErrUnavailable, context.Cause(ctx))
		}
	}
}

// post sends a call. What the server did not answer is errLost.
func (c *Client) post(ctx context.Context, path string, in any) (*http.Response, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://export"+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return resp, nil
}

// answer reads a whole answer.
func answer(resp *http.Response, out any) error {
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	if resp.StatusCode != http.StatusOK {
		return problem(resp.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("answer of the export server: %w", err)
	}
	return nil
}

func problem(status int, data []byte) error {
	var p ctl.Problem
	if err := json.Unmarshal(data, &p); err != nil || p.Code == "" {
		return fmt.Errorf("export server: status %d: %.200q", status, data)
	}
	return p.Err()
}

// hold is a hold at the server: a call that stays open.
type hold struct {
	client *Client
	token  string
	body   io.Closer
	cancel context.CancelFunc
	once   sync.Once
	err    error
}

// Hold holds a volume; see [export.Exporter]. The hold ends, too, if this process does.
func (c *Client) Hold(ctx context.Context, volume string) (export.Hold, error) {
	var h *hold
	err := c.persist(ctx, func() (err error) {
		h, err = c.hold(ctx, volume)
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (c *Client) hold(ctx context.Context, volume string) (*hold, error) {
	open, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the hold outlasts the caller's context
	detach := context.AfterFunc(ctx, cancel)
	resp, err := c.post(open, ctl.CallHold, ctl.Volume{Volume: volume})
	if err != nil {
		cancel()
		return nil, err
	}
	give := func(err error) (*hold, error) {
		cancel()
		_ = resp.Body.Close()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return give(answer(resp, nil))
	}
	var held ctl.Held
	if err := json.NewDecoder(resp.Body).Decode(&held); err != nil {
		return give(fmt.Errorf("%w: %w", errLost, err))
	}
	if !detach() {
		return give(fmt.Errorf("%w: %w", errLost, context.Cause(ctx)))
	}
	return &hold{client: c, token: held.Token, body: resp.Body, cancel: cancel}, nil
}

// releaseLimit is how long a release may take; a hold lasts no longer anyway.
const releaseLimit = 10 * time.Second

// Release ends the hold and says whether it was in force until then.
func (h *hold) Release() error {
	h.once.Do(func() {
		defer h.cancel()
		defer h.body.Close()
		ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
		defer cancel()
		resp, err := h.client.post(ctx, ctl.CallRelease, ctl.Held{Token: h.token})
		if err == nil {
			defer resp.Body.Close()
			err = answer(resp, &ctl.Done{})
		}
		if err != nil && !errors.Is(err, export.ErrHoldLost) {
			err = fmt.Errorf("%w: %w", export.ErrHoldLost, err)
		}
		h.err = err
	})
	return h.err
}

// sleep waits; false: ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
