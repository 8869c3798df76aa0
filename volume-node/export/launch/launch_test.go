package launch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/export/launch"
)

func start(t *testing.T, script string) (*launch.Process, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := launch.Start(launch.Command{Path: "/bin/sh", Args: []string{"-c", script}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return p, log
}

func end(t *testing.T, p *launch.Process) error {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); <-time.After(time.Millisecond) {
		if ended, err := p.Reap(); ended {
			return err
		}
	}
	t.Fatal("the process does not end")
	return nil
}

func TestReapTellsHowAProcessEnded(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{"exit 0": "", "exit 3": "exit status 3", "kill -9 $$": "killed"} {
		p, _ := start(t, script)
		err := end(t, p)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", script, err, want)
		}
		if ended, again := p.Reap(); !ended || (again == nil) != (err == nil) {
			t.Errorf("%s: second Reap: %v, %v", script, ended, again)
		}
	}
}

func TestOutputGoesToTheLog(t *testing.T) {
	t.Parallel()
	p, log := start(t, "echo out; echo err >&2; pwd; ls /proc/self/fd | wc -l")
	if err := end(t, p); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(text))
	if len(lines) != 4 || lines[0] != "out" || lines[1] != "err" || lines[2] != "/" || len(lines[3]) != 1 {
		t.Errorf("log: %q, want both outputs, the directory / and no more files than the standard ones", lines)
	}
}

func TestLargeLogIsPutAside(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(log, 17<<20); err != nil {
		t.Fatal(err)
	}
	p, err := launch.Start(launch.Command{Path: "/bin/sh", Args: []string{"-c", "echo new"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := end(t, p); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(log); err != nil || string(text) != "new\n" {
		t.Errorf("log: %d bytes, %v", len(text), err)
	}
	if info, err := os.Stat(log + ".1"); err != nil || info.Size() != 17<<20 {
		t.Errorf("old log: %v, %v", info, err)
	}
}

func TestMissingProgramIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := launch.Start(launch.Command{Path: "/missing", Log: filepath.Join(t.TempDir(), "log")}); err == nil {
		t.Error("started")
	}
}
