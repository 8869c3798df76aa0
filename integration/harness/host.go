package harness

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"syscall"

	"github.com/scoria-storage/scoria/volume-node/export/nbd/nbdtest"
)

// ErrConnection: the host has no connection, or it has just ended; a new one may be had.
var ErrConnection = errors.New("no connection")

// Host is a host with a volume: one NBD connection that is made again on demand. It knows nothing but the URI.
type Host struct {
	URI            string
	socket, export string

	mu     sync.Mutex
	client *nbdtest.Client
}

// NewHost is a host for a URI such as nbd+unix:///NAME?socket=PATH. It connects with the first request.
func NewHost(uri string) (*Host, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	h := &Host{URI: uri, socket: u.Query().Get("socket"), export: strings.TrimPrefix(u.Path, "/")}
	if u.Scheme != "nbd+unix" || h.socket == "" || h.export == "" {
		return nil, fmt.Errorf("URI %q: want nbd+unix:///NAME?socket=PATH", uri)
	}
	return h, nil
}

// Connect connects, if the host is not connected.
func (h *Host) Connect() (*nbdtest.Client, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil {
		select {
		case <-h.client.Ended():
			_ = h.client.Close()
			h.client = nil
		default:
			return h.client, nil
		}
	}
	c, err := nbdtest.Dial(h.socket, h.export)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	h.client = c
	return c, nil
}

// Write writes blocks and flushes.
func (h *Host) Write(blocks Content) error {
	c, err := h.Connect()
	if err != nil {
		return err
	}
	for n, tag := range blocks {
		if err := c.WriteAt(Block(n, tag), n*BlockBytes); err != nil {
			return outcome(fmt.Sprintf("write of block %d", n), err)
		}
	}
	return outcome("flush", c.Flush())
}

// outcome is the error of a request: what the server answered, or one that matches ErrConnection.
func outcome(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, answered := errors.AsType[syscall.Errno](err); answered && errors.Unwrap(err) == nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrConnection, err)
}

// Read reads one block's tag.
func (h *Host) Read(n int64) (uint64, error) {
	c, err := h.Connect()
	if err != nil {
		return 0, err
	}
	b := make([]byte, BlockBytes)
	if err := c.ReadAt(b, n*BlockBytes); err != nil {
		return 0, outcome(fmt.Sprintf("read of block %d", n), err)
	}
	return Tag(n, b)
}

// Close gives the connection up.
func (h *Host) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil {
		_ = h.client.Close()
		h.client = nil
	}
}
