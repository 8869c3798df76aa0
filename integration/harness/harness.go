// Package harness runs the real binary for tests: starts it, kills it, asks it over HTTP.
//
// Nouns: a Process is one start of the binary; a Stack is `scoria up` on a data directory and ports of its own, which can be
// killed and started again; an API speaks to it as a client does.
//
// Invariants: every process that a test started has ended when the test ends, export servers included; only processes that
// the test started are signalled, by their ID.
package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var binary struct {
	once sync.Once
	path string
	err  error
}

// Binary is the program under test: $SCORIA_BIN, or one that is built from the tree, once for each test program.
func Binary(t testing.TB) string {
	t.Helper()
	binary.once.Do(func() {
		if binary.path = os.Getenv("SCORIA_BIN"); binary.path != "" {
			return
		}
		dir, err := os.MkdirTemp("", "scoria-bin-")
		if err != nil {
			binary.err = err
			return
		}
		binary.path = filepath.Join(dir, "scoria")
		cmd := exec.Command("go", "build", "-o", binary.path, "github.com/scoria-storage/scoria")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// Process is one start of the binary.
type Process struct {
	cmd    *exec.Cmd
	ready  chan string
	done   chan struct{}
	err    error
	stdout *tail
	stderr *tail
}

// Start starts the binary. The process is killed at the end of the test if it still runs.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	return StartEnv(t, nil, args...)
}

// StartEnv is Start with more environment variables, each NAME=VALUE.
func StartEnv(t testing.TB, env []string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(Binary(t), args...)
	cmd.Env = append(os.Environ(), env...)
	p := &Process{cmd: cmd, ready: make(chan string, 1), done: make(chan struct{}), stdout: &tail{}, stderr: &tail{}}
	cmd.Stderr = p.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(p.stdout, lines.Text())
			if url, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				p.ready <- url
			}
		}
		p.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%v, process %d, last lines:\n%s", args[0], cmd.Process.Pid, p.stderr)
		}
	})
	return p
}

// Ready waits until the process says that it is ready, and returns its URL.
func (p *Process) Ready(t testing.TB) string {
	t.Helper()
	select {
	case url := <-p.ready:
		return url
	case <-p.done:
		t.Fatalf("the process ended before it was ready: %v\n%s", p.err, p.stderr)
	case <-time.After(60 * time.Second):
		t.Fatalf("the process is not ready\n%s", p.stderr)
	}
	return ""
}

// PID is the process's ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is the end of what the process wrote to standard error.
func (p *Process) Log() string { return p.stderr.String() }

// Output is the end of what the process wrote to standard output.
func (p *Process) Output() string { return p.stdout.String() }

// Signal sends a signal to the process.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// IsReady reports whether the process has said that it is ready.
func (p *Process) IsReady() bool { return len(p.ready) > 0 }

// HasEnded reports whether the process has ended.
func (p *Process) HasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Status is the exit status of a process that has ended; -1 after a signal.
func (p *Process) Status() int { return p.cmd.ProcessState.ExitCode() }

// Stop ends the process with SIGTERM and waits; the error is that of its exit status.
func (p *Process) Stop(t testing.TB) error {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(60 * time.Second):
		t.Fatalf("the process did not end after SIGTERM\n%s", p.stderr)
		return nil
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailBytes = 64 << 10

func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(b)
	if over := l.buf.Len() - tailBytes; over > 0 {
		l.buf.Next(over)
	}
	return len(b), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Stack is `scoria up` on a data directory of its own.
type Stack struct {
	*API
	Dir                   string
	Listen, NATS, Metrics string
	args                  []string
	proc                  *Process
}

// Up starts a stack and waits until it is ready. Its export server is ended with the test.
func Up(t testing.TB, args ...string) *Stack {
	t.Helper()
	return UpIn(t, t.TempDir(), args...)
}

// UpIn is Up on the directory.
func UpIn(t testing.TB, dir string, args ...string) *Stack {
	t.Helper()
	s := &Stack{Dir: dir, Listen: FreeAddr(t), NATS: FreeAddr(t), Metrics: FreeAddr(t), args: args}
	s.API = &API{URL: "http://" + s.Listen, Project: "demo"}
	t.Cleanup(func() { EndExportServer(t, filepath.Join(dir, "node")) })
	s.Start(t)
	return s
}

// Start starts the process, again after a Kill or Stop, and waits until it is ready.
func (s *Stack) Start(t testing.TB) {
	t.Helper()
	s.proc = Start(t, append([]string{"up", "--data", s.Dir, "--listen", s.Listen, "--nats-listen", s.NATS, "--metrics", s.Metrics, "--name", "n1"}, s.args...)...)
	s.proc.Ready(t)
}

// Use gives the next starts these flags in place of those that it had.
func (s *Stack) Use(args ...string) { s.args = args }

// Process is the present start.
func (s *Stack) Process() *Process { return s.proc }

// Kill ends the process with SIGKILL. Its export server goes on.
func (s *Stack) Kill() { s.proc.Kill() }

// Stop ends the process with SIGTERM.
func (s *Stack) Stop(t testing.TB) {
	t.Helper()
	if err := s.proc.Stop(t); err != nil {
		t.Fatalf("end after SIGTERM: %v\n%s", err, s.proc.stderr)
	}
}

// NATSURL is the URL of the stack's NATS server.
func (s *Stack) NATSURL() string { return "nats://" + s.NATS }

// FreeAddr is an address that nothing listens on.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ExportServerPID is the process ID of the export server of a state directory; 0 if none runs.
func ExportServerPID(stateDir string) int {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", p.Name(), "cmdline"))
		if err != nil {
			continue
		}
		args := strings.Split(string(line), "\x00")
		if len(args) >= 4 && args[1] == "export-server" && args[3] == stateDir {
			return pid
		}
	}
	return 0
}

// EndExportServer ends the export server of a state directory that the test's processes started.
func EndExportServer(t testing.TB, stateDir string) {
	t.Helper()
	pid := ExportServerPID(stateDir)
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	Eventually(t, 10*time.Second, "the export server has ended", func() bool { return ExportServerPID(stateDir) != pid })
}

// Eventually waits until cond is true, and fails the test if it does not become so.
func Eventually(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("after %s still not: %s", limit, what)
		case <-tick.C:
		}
	}
}

// CLI runs a command for people against the stack and returns what it printed, and its exit status.
func (s *Stack) CLI(t testing.TB, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return s.API.CLI(t, args...)
}

// CLI runs a command for people and returns what it printed, and its exit status.
func (a *API) CLI(t testing.TB, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.Command(Binary(t), args...)
	cmd.Env = append(os.Environ(), "SCORIA_ENDPOINT="+a.URL, "SCORIA_PROJECT="+a.Project)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), 0
}

var _ io.Writer = (*tail)(nil)

// Seed is a random seed, or the one of $SCORIA_SEED.
func Seed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv("SCORIA_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("SCORIA_SEED=%q: want a number", text)
	}
	return n
}
