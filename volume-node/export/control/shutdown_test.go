package control_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/export/control"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
	"github.com/scoria-storage/scoria/volume-node/export/launch"
)

func TestShutdownEndsTheServerAndKeepsExports(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := n.client(t)
	r := request(t)
	conn, err := c.Export(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	h, err := exporttest.DialNBD(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.WriteAt([]byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	other := n.client(t) // has started nothing
	if err := other.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := control.Running(n.paths(t)); ok {
		t.Error("the server runs after Shutdown")
	}
	<-h.Ended()
	if err := other.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown without a server: %v", err)
	}
	l, err := c.List(t.Context())
	if err != nil || len(l) != 1 || l[0].Connection != conn {
		t.Errorf("List after the next start: %+v, %v", l, err)
	}
}

// A client that is told to end while the server that it started has not got its lock yet leaves none behind.
func TestShutdownEndsAServerThatHasJustBegun(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := control.New(control.Config{StateDir: n.state, Start: func(p ctl.Paths) (*launch.Process, error) {
		defer cancel()
		return n.start(p)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(ctx); err != nil {
		t.Fatal(err)
	}
	limit, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	if err := c.Shutdown(limit); err != nil {
		t.Fatal(err)
	}
	if pid, ok := control.Running(n.paths(t)); ok {
		t.Errorf("server %d runs", pid)
	}
	if n.starts != 1 {
		t.Errorf("%d servers were started, want 1", n.starts)
	}
}

// A server that has its lock and has not written who it is yet, nor listens, is asked again.
func TestShutdownAsksAgainWhoHasNotSaidWhoItIs(t *testing.T) {
	t.Parallel()
	n := &node{state: exporttest.ShortDir(t)}
	p := n.paths(t)
	if err := p.Prepare(); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(p.Lock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", p.Control)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1)
	var answering sync.WaitGroup
	defer answering.Wait()
	defer l.Close()
	answering.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
			select {
			case asked <- struct{}{}:
			default:
			}
		}
	})
	client, ended := n.client(t), make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		ended <- client.Shutdown(ctx)
	}()
	<-asked
	server := exec.Command("sleep", "100")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill() }()
	if _, err := fmt.Fprintln(lock, server.Process.Pid); err != nil {
		t.Fatal(err)
	}
	answering.Go(func() {
		_ = server.Wait()
		_ = unix.Flock(int(lock.Fd()), unix.LOCK_UN)
	})
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestSIGTERMEndsTheServer(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := n.client(t)
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(n.pid(t), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server ends", func() bool { _, ok := control.Running(n.paths(t)); return !ok })
	text, err := os.ReadFile(n.paths(t).Log)
	if err != nil || strings.Contains(string(text), "level=ERROR") {
		t.Errorf("the log has errors (%v): %s", err, text)
	}
}
