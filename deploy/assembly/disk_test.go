package assembly

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/deploy/embednats"
	"github.com/scoria-storage/scoria/integration/harness"
)

// fakeServer is a server that its test breaks.
type fakeServer struct {
	mu     sync.Mutex
	broken error
	starts int
	fails  error // of the next start
}

func (f *fakeServer) Broken() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}

func (f *fakeServer) Restart(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
	f.broken = nil
	return f.fails
}

func (f *fakeServer) breaks(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
}

func (f *fakeServer) started() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts
}

// watched is a disk of 16 MiB that is being watched.
type watched struct {
	*disk
	srv      *fakeServer
	underWay atomic.Int64
	gaveUp   chan error
	log      lines
}

// lines are what was logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}

func watchSmall(t *testing.T) *watched {
	t.Helper()
	w := &watched{srv: &fakeServer{}, gaveUp: make(chan error, 1)}
	dir, log := harness.Tmpfs(t, "16m"), slog.New(slog.NewTextHandler(&w.log, nil))
	var err error
	if w.disk, err = openDisk(dir, log); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	started := make(chan func() int, 1)
	started <- func() int { return int(w.underWay.Load()) }
	watching.Go(func() { w.watch(ctx, w.srv, started, func(err error) { w.gaveUp <- err }) })
	t.Cleanup(func() { cancel(); watching.Wait() })
	return w
}

func (w *watched) fill(t *testing.T, leave int64) { harness.Fill(t, w.path("fill"), leave) }

func (w *watched) empty(t *testing.T) {
	t.Helper()
	if err := os.Remove(w.path("fill")); err != nil {
		t.Fatal(err)
	}
}

// grow makes a file system in memory larger.
func grow(t *testing.T, dir, size string) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size="+size); err != nil {
		t.Fatal(err)
	}
}

func (w *watched) path(name string) string { return filepath.Join(w.dir, name) }

func (w *watched) hasReserve() bool {
	_, err := os.Stat(w.path(reserve))
	return err == nil
}

// A full disk makes the process unready in words, and room makes it ready again.
func TestAFullDiskIsSaidAndForgotten(t *testing.T) {
	t.Parallel()
	w := watchSmall(t)
	if err := w.Short(); err != nil {
		t.Fatal(err)
	}
	w.fill(t, 100<<10)
	text := w.Short().Error()
	for _, want := range []string{w.dir, "tmpfs on ", "KiB free", "make room on the disk until 9.0 MiB are free"} {
		if !strings.Contains(text, want) {
			t.Errorf("said %q, want %q in it", text, want)
		}
	}
	harness.Eventually(t, 20*time.Second, "it is logged", func() bool { return w.log.has("storage is full") })
	if !w.hasReserve() {
		t.Error("the reserve was given up although nothing needed it")
	}
	w.empty(t)
	if err := w.Short(); err != nil {
		t.Error(err)
	}
	harness.Eventually(t, 20*time.Second, "it is logged", func() bool { return w.log.has("storage has room again") })
}

// What frees room gets the reserve, and so do operations under way; it is made again when there is room, and only then what needs room goes on.
func TestTheReserveIsForWhatFreesRoom(t *testing.T) {
	t.Parallel()
	for name, need := range map[string]func(*watched){
		"asked for":        func(w *watched) { w.Spare() },
		"for what is left": func(w *watched) { w.underWay.Store(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := watchSmall(t)
			w.Spare()
			if !w.hasReserve() {
				t.Error("the reserve was given up although there was room")
			}
			w.fill(t, 100<<10)
			need(w)
			harness.Eventually(t, 20*time.Second, "the reserve is given up", func() bool { return !w.hasReserve() })
			harness.Eventually(t, 20*time.Second, "there is room for a start", func() bool { return harness.Free(t, w.dir) >= startBytes })
			if w.Short() == nil {
				t.Error("what needs room is accepted from the reserve")
			}
			w.empty(t)
			w.underWay.Store(0)
			harness.Eventually(t, 20*time.Second, "there is room again", func() bool { return w.Short() == nil && w.hasReserve() })
		})
	}
}

// Room is there as soon as it is made, whatever is under way, and what is refused is refused for what is free at that moment.
func TestRoomIsMeasuredWhenItIsNeeded(t *testing.T) {
	t.Parallel()
	for name, makeRoom := range map[string]func(*testing.T, *watched){
		"the disk is emptied": func(t *testing.T, w *watched) { t.Helper(); w.empty(t) },
		"the disk grows":      func(t *testing.T, w *watched) { t.Helper(); grow(t, w.dir, "200m") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := watchSmall(t)
			w.fill(t, 100<<10)
			w.underWay.Store(1) // and stays so
			harness.Eventually(t, 20*time.Second, "the reserve is given up", func() bool { return harness.Free(t, w.dir) >= startBytes })
			if err := w.Short(); err == nil || !strings.Contains(err.Error(), " MiB free") || !strings.Contains(err.Error(), "until 9.0 MiB are free") {
				t.Errorf("refused with %v, want how much is free and how much must be", err)
			}
			makeRoom(t, w)
			if err := w.Short(); err != nil || !w.hasReserve() {
				t.Errorf("%d bytes are free, reserve %v: refused with %v", harness.Free(t, w.dir), w.hasReserve(), err)
			}
		})
	}
}

// Of a disk that will never do no room is asked, but that it grows; then it does.
func TestADiskThatIsTooSmallIsSaidToBe(t *testing.T) {
	t.Parallel()
	d, err := openDisk(harness.Tmpfs(t, "8m"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Short(); err == nil || !strings.Contains(err.Error(), "is too small: it has 8.0 MiB, and 9.0 MiB must be free: make it larger") {
		t.Errorf("refused with %v, want how large it must be", err)
	}
	grow(t, d.dir, "16m")
	if err := d.Short(); err != nil {
		t.Errorf("refused with %v after it has grown", err)
	}
}

// The server needs a pause between its starts only where its writes fail although there is room.
func TestABrokenServerDoesNotWaitForRoomThatIsThere(t *testing.T) {
	t.Parallel()
	w := watchSmall(t)
	w.fill(t, 100<<10)
	w.srv.breaks(errors.New("no space left"))
	w.Spare()
	harness.Eventually(t, 20*time.Second, "it is started again", func() bool { return w.srv.started() == 1 })
	w.srv.breaks(errors.New("no space left"))
	begin := time.Now()
	harness.Eventually(t, 20*time.Second, "it is noticed", func() bool { return w.broken.get() != nil })
	w.empty(t)
	harness.Eventually(t, 20*time.Second, "it is started again", func() bool { return w.srv.started() == 2 && w.Short() == nil })
	if took := time.Since(begin); took >= restartPause {
		t.Errorf("it took %s", took)
	}
}

// The reserve is given up for a server where what is free is not enough alone.
func TestABrokenServerIsStartedInTheReserve(t *testing.T) {
	t.Parallel()
	w := watchSmall(t)
	w.fill(t, fullBytes+1<<20)
	w.srv.breaks(errors.New("no space left"))
	harness.Eventually(t, 20*time.Second, "it is started again", func() bool { return w.srv.started() == 1 && w.Short() == nil })
}

// A server that a full disk has broken is started again as soon as there is room for that, and not before.
func TestABrokenServerIsStartedAgainWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	w := watchSmall(t)
	w.fill(t, 100<<10)
	w.srv.breaks(errors.New("no space left"))
	harness.Eventually(t, 20*time.Second, "it is noticed", func() bool { return w.broken.get() != nil })
	if n := w.srv.started(); n != 0 {
		t.Fatalf("started %d times on a full disk", n)
	}
	w.Spare()
	harness.Eventually(t, 20*time.Second, "it is started again", func() bool { return w.srv.started() == 1 })
	w.empty(t)
	harness.Eventually(t, 20*time.Second, "all is well", func() bool { return w.Short() == nil && w.log.has("storage has room again") })
	w.srv.breaks(errors.New("an error of the device"))
	harness.Eventually(t, 20*time.Second, "it is started again", func() bool { return w.srv.started() == 2 })
	w.srv.breaks(errors.New("an error of the device"))
	harness.Eventually(t, 20*time.Second, "it is said", func() bool {
		err := w.Short()
		return err != nil && strings.Contains(err.Error(), "an error of the device")
	})
	harness.Eventually(t, 20*time.Second, "it is started again after a pause", func() bool { return w.srv.started() == 3 && w.Short() == nil })
}

// With a server that hangs the process ends, so that it is started again.
func TestAServerThatHangsEndsTheProcess(t *testing.T) {
	t.Parallel()
	w := watchSmall(t)
	w.srv.breaks(embednats.ErrHangs)
	select {
	case err := <-w.gaveUp:
		if !strings.Contains(err.Error(), "start again") || w.srv.started() != 0 {
			t.Errorf("gave up with %v after %d starts, want what to do after none", err, w.srv.started())
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}

// A start takes the reserve where it needs it, and is refused in words where that is not enough.
func TestAStartNeedsRoom(t *testing.T) {
	t.Parallel()
	dir, log := harness.Tmpfs(t, "16m"), slog.New(slog.DiscardHandler)
	first, err := openDisk(dir, log)
	if err != nil || first.Short() != nil {
		t.Fatal(err, first.Short())
	}
	harness.Fill(t, filepath.Join(dir, "fill"), 0)
	second, err := openDisk(dir, log)
	if err != nil {
		t.Fatalf("start with the reserve of the last one: %v", err)
	}
	if free := harness.Free(t, dir); free < startBytes || second.Short() == nil {
		t.Errorf("%d bytes free, short %v: want the reserve given up, and said", free, second.Short())
	}
	harness.Fill(t, filepath.Join(dir, "fill"), 0)
	if _, err := openDisk(dir, log); err == nil || !strings.Contains(err.Error(), "make room") || !strings.Contains(err.Error(), dir) {
		t.Errorf("start on a full disk = %v, want what to do", err)
	}
}
