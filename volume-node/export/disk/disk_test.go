package disk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/scoria-storage/scoria/volume-node/export/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func TestGateLetsNobodyInWhileClosed(t *testing.T) {
	t.Parallel()
	var g disk.Gate
	var inside, closed, wrong, entries atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for ctx.Err() == nil && g.Enter(ctx) == nil {
				inside.Add(1)
				if closed.Load() != 0 {
					wrong.Add(1)
				}
				entries.Add(1)
				inside.Add(-1)
				g.Leave()
			}
		})
	}
	for range 3 {
		all.Go(func() {
			for ctx.Err() == nil {
				if g.Close(ctx) != nil {
					return
				}
				closed.Add(1)
				if inside.Load() != 0 {
					wrong.Add(1)
				}
				closed.Add(-1)
				g.Open()
			}
		})
	}
	eventually(t, "writers get through", func() bool { return entries.Load() > 1000 })
	stop()
	all.Wait()
	if n := wrong.Load(); n != 0 {
		t.Errorf("%d times somebody was inside a closed gate", n)
	}
	if err := g.Enter(t.Context()); err != nil { // nothing is left behind
		t.Error(err)
	}
	g.Leave()
}

func TestGateCloseGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	var g disk.Gate
	if err := g.Enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := g.Close(ctx); !errors.Is(err, cause) {
		t.Errorf("Close: %v, want %v", err, cause)
	}
	if err := g.Enter(t.Context()); err != nil { // it is open again
		t.Error(err)
	}
	g.Leave()
	g.Leave()
}

func TestWriterGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	var g disk.Gate
	if err := g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cut")
	ctx, cancel := context.WithCancelCause(t.Context())
	gave := make(chan error, 1)
	go func() { gave <- g.Enter(ctx) }()
	cancel(cause)
	if err := <-gave; !errors.Is(err, cause) {
		t.Errorf("Enter: %v, want %v", err, cause)
	}
	g.Open()
	if err := g.Close(t.Context()); err != nil { // nobody counts as inside
		t.Error(err)
	}
	g.Open()
}

// fake is a backing without a file.
type fake struct {
	disk.Backing
	sync   func() error
	punch  error
	writes atomic.Int64
}

func (f *fake) Sync() error            { return f.sync() }
func (f *fake) Punch(_, _ int64) error { return f.punch }
func (f *fake) Zero(_, _ int64) error  { return f.punch }
func (f *fake) Bytes() (int64, error)  { return 1 << 30, nil }
func (f *fake) Close() error           { return nil }
func (f *fake) WriteAt(p []byte, off int64) error {
	f.writes.Add(int64(len(p)))
	for _, b := range p {
		if b != 0 {
			return fmt.Errorf("%d at %d", b, off)
		}
	}
	return nil
}

func newDisk(t *testing.T, f *fake, readOnly bool) *disk.Disk {
	t.Helper()
	d, err := disk.Open(func(string, bool) (disk.Backing, error) { return f, nil }, "x", 1<<30, readOnly, &disk.Gate{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOneSyncServesAllThatCameBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		var syncs atomic.Int64
		d := newDisk(t, &fake{sync: func() error {
			syncs.Add(1)
			<-goOn
			return nil
		}}, false)
		var all sync.WaitGroup
		all.Go(func() { _ = d.Sync() })
		synctest.Wait() // the first sync runs
		var served atomic.Int64
		for range 10 {
			all.Go(func() {
				if err := d.Sync(); err != nil {
					t.Error(err)
				}
				served.Add(1)
			})
		}
		synctest.Wait()
		goOn <- struct{}{} // the first ends
		synctest.Wait()
		if n, s := syncs.Load(), served.Load(); n != 2 || s != 0 {
			t.Errorf("%d syncs and %d callers served when the first has ended, want 2 and 0", n, s)
		}
		close(goOn)
		all.Wait()
		if n := syncs.Load(); n != 2 {
			t.Errorf("%d syncs for one caller and then ten, want 2", n)
		}
	})
}

func TestFailedSyncIsFinal(t *testing.T) {
	t.Parallel()
	fail := error(syscall.EIO)
	d := newDisk(t, &fake{sync: func() error { err := fail; fail = nil; return err }}, false)
	for range 3 {
		if err := d.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("Sync: %v, want %v", err, syscall.EIO)
		}
	}
	if err := d.Fault(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Fault: %v", err)
	}
}

func TestZeroesAreWrittenWhereNothingIsFaster(t *testing.T) {
	t.Parallel()
	f := &fake{punch: errors.ErrUnsupported}
	d := newDisk(t, f, false)
	if err := d.WriteZeroes(t.Context(), 5, 5<<20+7, false, true); !errors.Is(err, errors.ErrUnsupported) || f.writes.Load() != 0 {
		t.Errorf("fast zeroes: %v, %d bytes written", err, f.writes.Load())
	}
	for _, keep := range []bool{true, false} {
		f.writes.Store(0)
		if err := d.WriteZeroes(t.Context(), 5, 5<<20+7, keep, false); err != nil || f.writes.Load() != 5<<20+7 {
			t.Errorf("zeroes: %v, %d bytes written", err, f.writes.Load())
		}
	}
	if err := d.Trim(t.Context(), 0, 1<<20); err != nil {
		t.Errorf("Trim: %v", err)
	}
}

func TestReadOnlyDiskRefusesChanges(t *testing.T) {
	t.Parallel()
	f := &fake{}
	d := newDisk(t, f, true)
	for name, err := range map[string]error{
		"write":  d.WriteAt(t.Context(), []byte{0}, 0),
		"trim":   d.Trim(t.Context(), 0, 1),
		"zeroes": d.WriteZeroes(t.Context(), 0, 1, true, false),
	} {
		if !errors.Is(err, disk.ErrReadOnly) {
			t.Errorf("%s: %v, want %v", name, err, disk.ErrReadOnly)
		}
	}
}

func TestOnlyFilesAndBlockDevicesAreOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, "/dev/null", filepath.Join(dir, "missing")} {
		if b, err := disk.OpenFile(path, true); err == nil {
			_ = b.Close()
			t.Errorf("%s was opened", path)
		}
	}
}

func TestFileOperations(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := disk.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p := []byte("xxxxxx")
	if err := b.ReadAt(p, 4); err != nil || string(p) != "456789" {
		t.Errorf("read up to the end: %q, %v", p, err)
	}
	if err := b.ReadAt(p, 8); !errors.Is(err, io.ErrUnexpectedEOF) || b.TryReadAt(p, 8) {
		t.Errorf("read across the end: %q, %v, want an error: what was there is lost", p, err)
	}
	if err := b.Punch(2, 3); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := b.Zero(5, 1); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := errors.Join(b.Punch(0, 0), b.Sync()); err != nil {
		t.Error(err)
	}
	if n, err := b.Bytes(); n != 10 || err != nil {
		t.Errorf("Bytes: %d, %v: zeroing must not change the size", n, err)
	}
	total := int64(0)
	b.Extents(0, 4096, func(n int64, _ bool) bool { total += n; return true })
	if total != 4096 {
		t.Errorf("extents cover %d bytes, want 4096", total)
	}
	if _, err := disk.Open(disk.OpenFile, path, 11, true, &disk.Gate{}); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("open with more bytes than the file has: %v", err)
	}
}
