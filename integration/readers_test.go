package integration

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// piped starts the binary with standard output and error in one pipe, as `scoria … 2>&1 | READER` does, and returns the reader's end.
func piped(t *testing.T, args ...string) (cmd *exec.Cmd, reader *os.File, ended <-chan error) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(harness.Binary(t), args...)
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close() // the process has its own
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = reader.Close()
	})
	return cmd, reader, done
}

// readUntil reads lines until one begins so.
func readUntil(t *testing.T, r io.Reader, prefix string) {
	t.Helper()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			return
		}
	}
	t.Fatalf("no line that begins with %q: %v", prefix, lines.Err())
}

func awaitEnd(t *testing.T, what string, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(60 * time.Second):
		t.Fatalf("%s does not end", what)
		return nil
	}
}

// A process that stays loses the reader of its log: `scoria up 2>&1 | head`. It goes on, and ends as always.
func TestAProcessThatStaysOutlivesTheReaderOfItsLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state := filepath.Join(dir, "node")
	t.Cleanup(func() { harness.EndExportServer(t, state) })
	listen, natsListen := harness.FreeAddr(t), harness.FreeAddr(t)
	up, log, ended := piped(t, "up", "--data", dir, "--listen", listen, "--nats-listen", natsListen, "--metrics", "127.0.0.1:0", "--log-level", "debug")
	readUntil(t, log, "ready ")
	node, nodeLog, nodeEnded := piped(t, "volume-node", "--nats", "nats://"+natsListen, "--name", "n2", "--state", t.TempDir(), "--backend", "other=null",
		"--metrics", "127.0.0.1:0", "--log-level", "debug")
	readUntil(t, nodeLog, "ready ")
	api := &harness.API{URL: "http://" + listen, Project: "demo"}
	harness.Eventually(t, 10*time.Second, "the export server runs", func() bool { return harness.ExportServerPID(state) != 0 })
	for _, reader := range []*os.File{log, nodeLog} {
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // each makes lines that nobody reads
		api.Delete(t, "/volumes/"+api.Create(t, M{"size": 1}))
	}
	for what, p := range map[string]struct {
		cmd   *exec.Cmd
		ended <-chan error
	}{"up": {up, ended}, "volume-node": {node, nodeEnded}} {
		select {
		case err := <-p.ended:
			t.Fatalf("%s ended with its reader: %v", what, err)
		default:
		}
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := awaitEnd(t, what, p.ended); err != nil {
			t.Errorf("%s after SIGTERM: %v", what, err)
		}
	}
	if pid := harness.ExportServerPID(state); pid != 0 {
		t.Errorf("export server %d runs on", pid)
	}
}

// A command for people whose reader has gone ends at once, and says nothing: `scoria volume list | head`.
func TestACommandForPeopleEndsQuietlyWithItsReader(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null")
	s.Create(t, M{"size": 1})
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	defer writer.Close()
	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), harness.Binary(t), "volume", "list", "--endpoint", s.URL)
	cmd.Stdout, cmd.Stderr = writer, &said
	_ = cmd.Run()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGPIPE || said.Len() > 0 {
		t.Errorf("ended with %v and said %q, want SIGPIPE and no word", cmd.ProcessState, said.String())
	}
}

// Whatever ends `up`, if it can be caught, ends its export server too.
func TestUpEndsItsExportServer(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"terminal closed": syscall.SIGHUP, "interrupt": syscall.SIGINT, "terminated": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.Up(t)
			state := filepath.Join(s.Dir, "node")
			harness.Eventually(t, 10*time.Second, "the export server runs", func() bool { return harness.ExportServerPID(state) != 0 })
			s.Process().Signal(t, sig)
			select {
			case <-s.Process().Ended():
			case <-time.After(60 * time.Second):
				t.Fatalf("up does not end after %v", sig)
			}
			if pid, status := harness.ExportServerPID(state), s.Process().Status(); pid != 0 || status != 0 {
				t.Errorf("after %v: status %d, export server %d", sig, status, pid)
			}
		})
	}
}

// Under nohup a closed terminal is no reason to end.
func TestUnderNohupUpGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { harness.EndExportServer(t, filepath.Join(dir, "node")) })
	listen := harness.FreeAddr(t)
	script := "trap '' HUP; exec " + strconv.Quote(harness.Binary(t)) + ` "$@"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", "up", "--data", dir, "--listen", listen, "--nats-listen", "", "--metrics", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM) }()
	readUntil(t, out, "ready ")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	api := &harness.API{URL: "http://" + listen, Project: "demo"}
	for range 3 {
		api.Create(t, M{"size": 1})
	}
}
