package workers_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/workers"
)

// asWorker makes this program a worker that does nothing, in a folder.
const asWorker = "SCORIA_TEST_WORKER_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asWorker); dir != "" {
		m, err := workers.Join(dir, "child")
		if err != nil {
			fmt.Fprintln(os.Stdout, err)
			os.Exit(1)
		}
		fmt.Fprintln(os.Stdout, "joined")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until it is killed
		_ = m.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func join(t *testing.T, dir, worker string) *workers.Member {
	t.Helper()
	m, err := workers.Join(dir, worker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func requireEnded(t *testing.T, m *workers.Member, want ...string) {
	t.Helper()
	if got, err := m.Ended(); err != nil || !slices.Equal(got, want) {
		t.Errorf("Ended() = %v, %v, want %v", got, err, want)
	}
}

func TestAKilledProcessHasEndedAndAStoppedOneHasNot(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "workers")
	m := join(t, dir, "me")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), asWorker+"="+dir)
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "joined\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	requireEnded(t, m)
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	requireEnded(t, m)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(time.Millisecond) {
		ended, err := m.Ended()
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("Ended() = %v, %v after the child was killed", ended, err)
		}
		if len(ended) == 1 {
			break
		}
	}
	requireEnded(t, m, "child")
	for range 2 {
		if err := m.Forget("child"); err != nil {
			t.Error(err)
		}
	}
	requireEnded(t, m)
}

// Who forgets what it takes for ended meets who joins under that name: whoever has joined stands in the folder.
func TestNobodyIsForgottenWhoIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := join(t, dir, "me")
	if err := m.Forget("me"); err != nil {
		t.Error(err)
	}
	requireEnded(t, join(t, dir, "other"))
	stop := make(chan struct{})
	var forgetting sync.WaitGroup
	for range 2 {
		forgetting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := m.Forget("late"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 300 {
		late := join(t, dir, "late")
		if _, err := os.Stat(filepath.Join(dir, "late")); err != nil {
			t.Errorf("the file of a worker that has joined: %v", err)
		}
		if err := late.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	forgetting.Wait()
}
