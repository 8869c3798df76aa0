package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
)

// helloLimit is how long a server that is well may take to say who it is.
const helloLimit = 2 * time.Second

// Run keeps a server running until ctx ends, which leaves the server as it is. It returns nil.
func (c *Client) Run(ctx context.Context) error {
	defer c.Close()
	for wait := time.Duration(0); ctx.Err() == nil; {
		begun := time.Now()
		if err := c.ensure(ctx); err != nil {
			if ctx.Err() == nil {
				c.log.Error("no export server: hosts cannot reach their volumes", "error", err)
			}
		} else if c.watch(ctx); ctx.Err() == nil {
			c.log.Warn("export server ended; it is started again", "took", time.Since(begun))
		}
		if time.Since(begun) > time.Minute {
			wait = 0
		}
		sleep(ctx, wait)
		wait = min(max(2*wait, 20*time.Millisecond), 5*time.Second)
	}
	return nil
}

// watch returns when the server ends, or ctx.
func (c *Client) watch(ctx context.Context) {
	resp, err := c.post(ctx, ctl.CallWatch, ctl.Done{})
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}

// hello asks whether a server answers.
func (c *Client) hello(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	resp, err := c.post(ctx, ctl.CallHello, ctl.Done{})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return answer(resp, &ctl.Hello{})
}

// ensure returns when a server answers; it starts one where none runs.
func (c *Client) ensure(ctx context.Context) error {
	if err := c.hello(ctx); err == nil {
		return nil
	}
	select {
	case c.starting <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.starting }()
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.StartLimit, fmt.Errorf("not ready after %v", c.cfg.StartLimit))
	defer cancel()
	if err := c.start(ctx); err != nil {
		return fmt.Errorf("%w: %w", export.ErrUnavailable, err)
	}
	return nil
}

// start starts a server under the lock that all clients of the state directory share. The caller has c.starting.
func (c *Client) start(ctx context.Context) error {
	paths, err := ctl.Find(c.cfg.StateDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(paths.State, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(paths.Starter, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := flock(ctx, lock, unix.LOCK_EX); err != nil {
		return fmt.Errorf("another process is starting the export server: %w", err)
	}
	started := false
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := c.hello(ctx)
		if err == nil {
			if started {
				c.log.Info("export server started", "pid", c.process.PID(), "path", paths.Log)
			}
			return nil
		}
		if c.process != nil {
			if ended, how := c.process.Reap(); ended {
				c.process = nil
				if started {
					return fmt.Errorf("the export server did not start: %w; see %s: %s", how, paths.Log, lastLine(paths.Log))
				}
			}
		}
		// While another holds the state directory (it starts, ends or hangs), a new server could do nothing.
		busy, pid := c.running(paths)
		if c.process == nil && !started && !busy {
			if c.process, err = c.cfg.Start(paths); err != nil {
				return fmt.Errorf("start of the export server: %w", err)
			}
			started = true
		}
		if !sleep(ctx, wait) {
			if busy {
				return fmt.Errorf("the export server (process %d) does not answer: %w; see %s", pid, context.Cause(ctx), paths.Log)
			}
			return fmt.Errorf("export server: %w; see %s", context.Cause(ctx), paths.Log)
		}
	}
}

// running says whether a server holds the lock of the state directory, and which process it says it is.
func (c *Client) running(p ctl.Paths) (bool, int) {
	f, err := os.Open(p.Lock)
	if err != nil {
		return false, 0
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return false, 0
	}
	data, _ := io.ReadAll(io.LimitReader(f, 32))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return true, pid
}

// PID is the process of the server that has the state directory; 0 if none has it.
func (c *Client) PID() int {
	paths, err := ctl.Find(c.cfg.StateDir)
	if err != nil {
		return 0
	}
	_, pid := c.running(paths)
	return pid
}

// Shutdown ends the server and returns when it has let go of all volumes and of the state directory. Exports stay in its
// table: the next server has them. No server: success. Stop Run before, or it starts a new one.
func (c *Client) Shutdown(ctx context.Context) error {
	paths, err := ctl.Find(c.cfg.StateDir)
	if err != nil {
		return err
	}
	asked := false
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		busy, pid := c.running(paths)
		if !busy {
			return c.reap(ctx)
		}
		if !asked { // one that has just begun listens to nobody yet, and has not written who it is
			err := c.askToEnd(ctx)
			asked = err == nil || c.terminate(paths, pid, err)
		}
		if !sleep(ctx, wait) {
			return fmt.Errorf("export server (process %d) has not ended: %w", pid, context.Cause(ctx))
		}
	}
}

// terminate sends SIGTERM to a server that did not answer, and says whether there was one to send it to.
func (c *Client) terminate(paths ctl.Paths, pid int, silent error) bool {
	if pid <= 1 {
		return false
	}
	if busy, now := c.running(paths); !busy || now != pid { // it has gone meanwhile
		return false
	}
	if unix.Kill(pid, unix.SIGTERM) != nil {
		return false
	}
	c.log.Warn("export server does not answer; it gets SIGTERM", "pid", pid, "error", silent)
	return true
}

func (c *Client) askToEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	resp, err := c.post(ctx, ctl.CallShutdown, ctl.Done{})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return json.NewDecoder(resp.Body).Decode(&ctl.Hello{})
}

// reap ends the process that this client started and that has no lock: it has let it go and is about to end, or it has just begun and
// would take it.
func (c *Client) reap(ctx context.Context) error {
	select {
	case c.starting <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.starting }()
	for asked := false; c.process != nil; asked = true {
		if ended, _ := c.process.Reap(); ended {
			c.process = nil
			break
		}
		if !asked {
			_ = unix.Kill(c.process.PID(), unix.SIGTERM) // a child that was not waited for: the number is its own
		}
		if !sleep(ctx, time.Millisecond) {
			return fmt.Errorf("export server (process %d) has not ended: %w", c.process.PID(), context.Cause(ctx))
		}
	}
	return nil
}

// flock takes a file lock that others hold for short times.
func flock(ctx context.Context, f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// lastLine is what the server said last.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		_, _ = f.Seek(max(0, info.Size()-2048), io.SeekStart)
	}
	data, _ := io.ReadAll(io.LimitReader(f, 2048))
	text := strings.TrimSpace(string(data))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
