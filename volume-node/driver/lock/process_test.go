package lock

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/volume-node/driver"
)

// orderKey holds what a process that the test binary starts of itself is to do.
const orderKey = "LOCK_TEST_ORDER"

// order is one of them: take a lock, say so, and let it go when standard input ends.
type order struct {
	Class     driver.LockClass
	Dir, URL  string
	Name      string
	Operation string
	Fence     driver.Fence
	// Child passes the lock to a child process, which sleeps.
	Child bool
}

const asChild = "sleep" // in place of an order

func say(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) }

func TestMain(m *testing.M) {
	switch text := os.Getenv(orderKey); text {
	case "":
		os.Exit(m.Run())
	case asChild:
		<-time.After(time.Hour) // it is ended before
	default:
		if err := obey(text); err != nil {
			say("error:", err)
			os.Exit(1)
		}
	}
}

func obey(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	l, end, err := open(o.Class, o.Dir, o.URL)
	if err != nil {
		return err
	}
	defer end()
	held, err := l.Acquire(context.Background(), o.Name, Claim{Operation: o.Operation, Fence: o.Fence, Waiting: func(string) { say("waits") }})
	if err != nil {
		return err
	}
	if err := held.Durable(); err != nil {
		return err
	}
	if o.Child {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), orderKey+"="+asChild)
		child.ExtraFiles = []*os.File{descriptor(held)}
		if err := child.Start(); err != nil {
			return err
		}
		say("child", child.Process.Pid)
	}
	say("holds")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := held.Release(); err != nil {
		return err
	}
	say("released")
	return nil
}

// process is one that obeys an order.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string
}

func start(t *testing.T, o order) *process {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), orderKey+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin, lines: make(chan string, 64)}
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return p
}

// expect returns the next line, which begins so.
func (p *process) expect(t *testing.T, want string) string {
	t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok || !strings.HasPrefix(line, want) {
			t.Fatalf("process said %q (%t), want %q", line, ok, want)
		}
		return strings.TrimSpace(strings.TrimPrefix(line, want))
	case <-time.After(30 * time.Second):
		t.Fatalf("process did not say %q", want)
		return ""
	}
}

// letGo has the process release its lock.
func (p *process) letGo(t *testing.T) {
	t.Helper()
	_ = p.stdin.Close()
	p.expect(t, "released")
}

// Two processes want the locks of two operations. Of class node they want one thing's, in one folder; of class pool two things', in the
// folders of two nodes.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	for _, class := range []driver.LockClass{driver.LockNone, driver.LockNode, driver.LockPool} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			one, two := w.operation(t, "op-1"), w.operation(t, "op-2")
			first := order{Class: class, Dir: t.TempDir(), URL: w.url, Name: "v1", Operation: one.Operation, Fence: one.Fence}
			second := first
			second.Operation, second.Fence = two.Operation, two.Fence
			if class == driver.LockPool {
				second.Dir, second.Name = t.TempDir(), "v2"
			}
			p := start(t, first)
			p.expect(t, "holds")
			q := start(t, second)
			if class != driver.LockNone {
				q.expect(t, "waits")
				p.letGo(t)
			}
			q.expect(t, "holds")
			q.letGo(t)
			if class == driver.LockNone {
				p.letGo(t)
			}
			kvlocktest.RequireFree(t, w.locks, kvlock.NamedKey("pool.shared"))
			kvlocktest.RequireSound(t, w.locks)
		})
	}
}

// A process is killed, and a child that it passed its lock to lives on and may still be writing: nobody gets the lock before the child is
// dead. On other nodes the operation's next worker must have given the pool back, too.
func TestAChildThatOutlivesItsParentHasTheLock(t *testing.T) {
	t.Parallel()
	for _, class := range []driver.LockClass{driver.LockNode, driver.LockPool} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			old := w.operation(t, "op-1")
			first := order{Class: class, Dir: t.TempDir(), URL: w.url, Name: "v1", Operation: old.Operation, Fence: old.Fence, Child: true}
			p := start(t, first)
			child, err := strconv.Atoi(p.expect(t, "child"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
			p.expect(t, "holds")
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = p.cmd.Wait()

			now := w.takeOver(t, "op-1", "second") // the operation goes on elsewhere on the node
			next := first
			next.Fence, next.Child = now.Fence, false
			q := start(t, next)
			q.expect(t, "waits")
			var other *process
			if class == driver.LockPool {
				c := w.operation(t, "op-2")
				other = start(t, order{Class: class, Dir: t.TempDir(), URL: w.url, Name: "v2", Operation: c.Operation, Fence: c.Fence})
				other.expect(t, "waits")
			}
			if err := syscall.Kill(child, 0); err != nil {
				t.Fatalf("the child has ended before: %v", err)
			}
			if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			q.expect(t, "holds")
			q.letGo(t)
			if other != nil {
				other.expect(t, "holds")
				other.letGo(t)
			}
			kvlocktest.RequireFree(t, w.locks, kvlock.NamedKey("pool.shared"))
		})
	}
}
