package control_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/control"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
	"github.com/scoria-storage/scoria/volume-node/export/launch"
	"github.com/scoria-storage/scoria/volume-node/export/server"
)

// The test's binary is an export server when these are set.
const (
	envState = "SCORIA_TEST_EXPORT_SERVER"
	envHold  = "SCORIA_TEST_EXPORT_HOLD_LIMIT"
	// With this one it is a process that starts a server and waits to be killed.
	envStarter = "SCORIA_TEST_EXPORT_STARTER"
)

func TestMain(m *testing.M) {
	state, starter := os.Getenv(envState), os.Getenv(envStarter)
	switch {
	case state != "": // comes first: the starter's servers inherit its environment
		serve(state)
	case starter != "":
		n := &node{state: starter}
		c, err := control.New(control.Config{StateDir: starter, Start: n.start})
		if err == nil {
			err = c.Run(context.Background())
		}
		slog.Error("starter ended", "error", err)
		os.Exit(1)
	default:
		goleak.VerifyTestMain(m)
	}
}

func serve(state string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	limit, err := time.ParseDuration(os.Getenv(envHold))
	if err == nil {
		err = server.Run(ctx, server.Config{StateDir: state, HoldLimit: limit, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	}
	if err != nil {
		slog.Error("export server", "error", err)
		os.Exit(1)
	}
}

// node is a state directory with clients whose servers are processes.
type node struct {
	state  string
	mu     sync.Mutex
	starts int
}

const holdLimit = 2 * time.Second

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{state: exporttest.ShortDir(t)}
	t.Cleanup(func() {
		c := n.client(t)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			text, _ := os.ReadFile(n.paths(t).Log)
			t.Logf("log of the export server:\n%s", text)
		}
	})
	return n
}

func (n *node) paths(t *testing.T) ctl.Paths {
	t.Helper()
	p, err := ctl.Find(n.state)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (n *node) start(p ctl.Paths) (*launch.Process, error) {
	n.mu.Lock()
	n.starts++
	n.mu.Unlock()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	env := append(os.Environ(), envState+"="+p.State, envHold+"="+holdLimit.String())
	return launch.Start(launch.Command{Path: self, Env: env, Log: p.Log})
}

func (n *node) client(t *testing.T) *control.Client {
	t.Helper()
	c, err := control.New(control.Config{StateDir: n.state, Start: n.start})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// pid is the process that holds the node's lock.
func (n *node) pid(t *testing.T) int {
	t.Helper()
	pid, ok := control.Running(n.paths(t))
	if !ok || pid <= 1 {
		t.Fatalf("no export server runs (%d)", pid)
	}
	return pid
}

// kill kills the server and waits until it is gone. Another one may have taken its place by then.
func (n *node) kill(t *testing.T) {
	t.Helper()
	pid := n.pid(t)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is dead", func() bool { now, ok := control.Running(n.paths(t)); return !ok || now != pid })
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func request(t *testing.T) export.Request {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return export.Request{
		Attachment: "a-1", Volume: "v-1", Operation: "op", Fence: export.Fence{Era: 1, Rev: 1}, Path: path, Bytes: 1 << 20,
	}
}

func TestServerProcessConforms(t *testing.T) {
	t.Parallel()
	exporttest.Run(t, func(t *testing.T) *exporttest.Bench {
		n := newNode(t)
		return &exporttest.Bench{Exporter: n.client(t), HoldLimit: holdLimit, Kill: n.kill}
	})
}

func TestOneServerForManyClients(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	var all sync.WaitGroup
	for range 8 {
		c := n.client(t)
		all.Go(func() {
			if _, err := c.List(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n.starts != 1 {
		t.Errorf("%d servers were started, want 1", n.starts)
	}
}

func TestRunStartsADeadServerAgain(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := n.client(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	r := request(t)
	conn, err := c.Export(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		n.kill(t)
		eventually(t, "a host can connect again without anybody's call", func() bool {
			h, err := exporttest.DialNBD(conn)
			if err == nil {
				_ = h.Close()
			}
			return err == nil
		})
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// The process that started the server is killed while a host writes: the host does not notice.
func TestServerOutlivesWhoStartedIt(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	starter := exec.Command(self)
	starter.Env = append(os.Environ(), envStarter+"="+n.state)
	starter.Stderr = os.Stderr
	if err := starter.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server runs", func() bool { _, ok := control.Running(n.paths(t)); return ok })
	c := n.client(t)
	conn, err := c.Export(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	h, err := exporttest.DialNBD(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	pid := n.pid(t)
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session of the server is %d (%v), want one of its own (%d)", sid, err, pid)
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		_ = starter.Process.Kill()
		_ = starter.Wait()
	}()
	for dead := false; !dead; {
		select {
		case <-killed:
			dead = true // and write once more
		default:
		}
		if err := h.WriteFUA([]byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if now := n.pid(t); now != pid || n.starts != 0 {
		t.Errorf("server %d after the kill, %d before; %d started by others", now, pid, n.starts)
	}
}

func TestStoppedServerIsReportedAndNotReplaced(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	if _, err := n.client(t).List(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := n.pid(t)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Kill(pid, unix.SIGCONT) }()
	eventually(t, "the server is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := n.client(t).List(ctx)
	if !errors.Is(err, export.ErrUnavailable) {
		t.Errorf("List: %v, want %v", err, export.ErrUnavailable)
	}
	if n.starts != 1 {
		t.Errorf("%d servers were started, want 1", n.starts)
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.paths(t)
	if err := os.WriteFile(p.Table, []byte("not a directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(p.Table)
	_, err := n.client(t).List(t.Context())
	if !errors.Is(err, export.ErrUnavailable) || !strings.Contains(err.Error(), p.Table) {
		t.Errorf("List: %v, want the reason, which names %s", err, p.Table)
	}
}

// A client's process dies while it holds a volume: the connection goes, and so does the hold, long before its limit.
func TestHoldEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	l := exporttest.Start(t, func(c *server.Config) { c.HoldLimit = time.Hour })
	r := request(t)
	conn, err := l.Export(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	hold, err := l.Hold(t.Context(), r.Volume)
	if err != nil {
		t.Fatal(err)
	}
	control.Sever(hold)
	h, err := exporttest.DialNBD(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.WriteAt([]byte("x"), 0); err != nil {
		t.Error(err)
	}
	if err := hold.Release(); !errors.Is(err, export.ErrHoldLost) {
		t.Errorf("Release: %v, want %v", err, export.ErrHoldLost)
	}
}

func TestLongStateDirectoryHasShortSockets(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	n := &node{state: dir}
	c := n.client(t)
	r := request(t)
	conn, err := c.Export(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(conn.Socket) > 107 {
		t.Errorf("socket %s has %d bytes", conn.Socket, len(conn.Socket))
	}
	h, err := exporttest.DialNBD(conn)
	if err != nil {
		t.Fatal(err)
	}
	_ = h.Close()
	n.kill(t)
	again, err := c.Export(t.Context(), r)
	if err != nil || again != conn {
		t.Errorf("connection %+v (%v) after a restart, want %+v", again, err, conn)
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
