package drivertest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// orderKey is the environment variable that makes a child process of a test binary.
const orderKey = "SCORIA_DRIVERTEST_ORDER"

// order is what a child is to do: open the storage, say "ready", wait for a line on standard input, make the steps, and
// say of each how it ended.
type order struct {
	Spec   string
	Steps  []Step
	At     int            // the point, counted from 1 over all steps, at which Signal meets the child; 0: none
	Signal syscall.Signal // sent by the child to itself
}

// What a child says.
const (
	saysReady  = "ready"
	saysDone   = "done"
	saysFenced = "fenced"
	saysError  = "error: "
)

// obey does what an order says and returns the exit status.
func obey(text string) int {
	if err := obeyOrder(text); err != nil {
		fmt.Println(saysError + err.Error())
		return 1
	}
	return 0
}

func obeyOrder(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	ctx := context.Background()
	var running atomic.Bool
	var met atomic.Int64
	d, err := opener(ctx, o.Spec, Env{Hook: func(string) error {
		if !running.Load() {
			return nil
		}
		if int(met.Add(1)) == o.At {
			return signalSelf(o.Signal)
		}
		return nil
	}})
	if err != nil {
		return err
	}
	fmt.Println(saysReady)
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	running.Store(true)
	for _, s := range o.Steps {
		switch err := s.do(ctx, d, s.call()); {
		case errors.Is(err, driver.ErrFenced):
			fmt.Println(saysFenced)
		case err != nil:
			return err
		default:
			fmt.Println(saysDone)
		}
	}
	return d.Close()
}

// signalSelf sends the signal to this very thread: sent to the process, it may meet another thread first, while this one
// goes on for a moment.
func signalSelf(signal syscall.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Tgkill(os.Getpid(), unix.Gettid(), signal)
}

// child is a running child process.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    *os.File
	lines *bufio.Scanner
}

// start starts a child and waits until it is ready.
func start(t *testing.T, o order) *child {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), orderKey+"="+string(text), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a stopped child does not notice that its test has gone
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = in
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
	})
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: cmd, in: out, lines: bufio.NewScanner(stdout)}
	if said := c.next(); said != saysReady {
		t.Fatalf("child said %q, want %q", said, saysReady)
	}
	return c
}

// next returns the next line that the child says; empty when it has ended.
func (c *child) next() string {
	if !c.lines.Scan() {
		return ""
	}
	return c.lines.Text()
}

// proceed lets the child make its steps.
func (c *child) proceed() {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in); err != nil {
		c.t.Fatal(err)
	}
}

// rest returns all that the child still says, and how it ended.
func (c *child) rest() (said []string, status syscall.WaitStatus) {
	c.t.Helper()
	for line := c.next(); line != ""; line = c.next() {
		said = append(said, line)
	}
	return said, c.wait()
}

func (c *child) wait() syscall.WaitStatus {
	c.t.Helper()
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// awaitStopOrEnd waits until the child has stopped itself, or has ended.
func (c *child) awaitStopOrEnd() (stopped bool) {
	c.t.Helper()
	for {
		var info siginfo
		err := waitid(c.cmd.Process.Pid, &info)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			c.t.Fatalf("wait for the child: %v", err)
		}
		return info.stopped()
	}
}

// killed reports whether a process ended by SIGKILL.
func killed(status syscall.WaitStatus) bool {
	return status.Signaled() && status.Signal() == syscall.SIGKILL
}

// shortLimit is the limit after which tests have the holder of a lock ended.
const shortLimit = 40 * time.Millisecond
