package assembly

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A full disk makes the process unready in words, and room makes it ready again.
func TestAFullDiskIsSaidAndForgotten(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	full := newReadiness("")
	var watching sync.WaitGroup
	watching.Go(func() { watchDisk(ctx, dir, full, slog.New(slog.NewTextHandler(&log, nil))) })
	until := func(what string, ok func() bool) {
		t.Helper()
		limit := time.After(20 * time.Second)
		for !ok() {
			select {
			case <-limit:
				t.Fatalf("still not: %s", what)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 3500<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	until("full", func() bool { return full.get() != nil })
	if text := full.get().Error(); !strings.Contains(text, "make room") || !strings.Contains(text, dir) {
		t.Errorf("said %q", text)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	until("room again", func() bool { return full.get() == nil })
	cancel()
	watching.Wait()
	if text := log.String(); !strings.Contains(text, "storage is full") || !strings.Contains(text, "room again") {
		t.Errorf("logged %q", text)
	}
}
