package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/export/ctl"
)

// ErrRunning: another export server has this state directory.
var ErrRunning = errors.New("an export server of this directory is running")

// lockWait is how long a server that starts waits for one that is just ending.
const lockWait = 2 * time.Second

// Run is the export server: it serves until ctx ends or it is told to shut down, then cuts hosts off, syncs what
// they wrote, and returns nil. After its own death the next Run brings everything back under the same connections.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	paths, err := ctl.Find(cfg.StateDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(paths.State, 0o700); err != nil {
		return err
	}
	lock, err := acquire(ctx, paths.Lock)
	if err != nil {
		return err
	}
	quiet := true
	defer func() {
		if quiet { // else requests are still under way, and the lock stays until the process is gone
			_ = unix.Close(lock)
		}
	}()
	if err := paths.Prepare(); err != nil {
		return err
	}
	s, err := newServer(cfg, paths)
	if err != nil {
		return err
	}
	err = s.run(ctx)
	quiet = !errors.Is(err, errNotEnded)
	return err
}

// run serves both sockets. The control socket comes last: who reaches it reaches everything.
func (s *Server) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	data, err := listen(s.paths.NBD)
	if err != nil {
		return errors.Join(err, s.finally())
	}
	defer os.Remove(s.paths.NBD)
	all.Go(func() {
		if err := s.nbd.Serve(data); err != nil {
			stop(fmt.Errorf("socket of hosts: %w", err))
		}
	})
	control, err := listen(s.paths.Control)
	if err != nil {
		err = errors.Join(err, s.finally())
		all.Wait()
		return err
	}
	defer os.Remove(s.paths.Control)
	c := newControl(ctx, s, func() { stop(errShutdown) })
	all.Go(func() {
		if err := c.serve(control); err != nil {
			stop(fmt.Errorf("control socket: %w", err))
		}
	})
	s.log.Info("export server ready", "socket", s.paths.NBD, "control", s.paths.Control, "pid", os.Getpid())
	if s.cfg.Ready != nil {
		s.cfg.Ready(s.paths)
	}
	s.housekeep(ctx)
	cause := context.Cause(ctx)
	s.log.Info("export server ends", "reason", cause)
	c.close()
	err = s.finally()
	if !errors.Is(err, errNotEnded) {
		all.Wait()
	}
	if errors.Is(cause, context.Canceled) || errors.Is(cause, errShutdown) {
		cause = nil
	}
	return errors.Join(cause, err)
}

var (
	errShutdown = errors.New("told to shut down")
	errNotEnded = errors.New("not ended")
)

// housekeep forgets volumes that are gone, until ctx ends.
func (s *Server) housekeep(ctx context.Context) {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.forget(now)
		}
	}
}

// finally ends the data plane in bounded time.
func (s *Server) finally() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), s.cfg.StopLimit,
		fmt.Errorf("%w after %v", errNotEnded, s.cfg.StopLimit))
	defer cancel()
	return s.close(ctx)
}

// acquire locks the lock file and writes the process's ID into it. It returns a bare descriptor: nothing but the caller
// or the end of the process may close it.
func acquire(ctx context.Context, path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, fmt.Errorf("lock file %s: %w", path, err)
	}
	for deadline := time.Now().Add(lockWait); ; {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			holder, _ := os.ReadFile(path) // for the message only
			err = fmt.Errorf("%w: process %s", ErrRunning, strings.TrimSpace(string(holder)))
			break
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if err == nil {
		err = unix.Ftruncate(fd, 0)
	}
	if err == nil {
		_, err = unix.Pwrite(fd, []byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("lock file %s: %w", path, err)
	}
	return fd, nil
}

// listen makes a socket for this user alone. The caller holds the lock of the state directory, so that whatever has the
// name is left over from a server that died.
func listen(path string) (net.Listener, error) {
	tmp := ctl.NewName(path)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it has another name by then
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}
