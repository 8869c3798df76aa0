package nbd_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scoria-storage/scoria/volume-node/export/disk"
	"github.com/scoria-storage/scoria/volume-node/export/nbd"
	"github.com/scoria-storage/scoria/volume-node/export/nbd/nbdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched counts and, if told so, delays or fails what reaches a file.
type watched struct {
	disk.Backing
	syncs  atomic.Int64
	writes atomic.Int64
	onSync func() error // before the sync
	onIO   func()       // before a write
}

func (w *watched) Sync() error {
	if w.onSync != nil {
		if err := w.onSync(); err != nil {
			return err
		}
	}
	err := w.Backing.Sync()
	w.syncs.Add(1)
	return err
}

func (w *watched) WriteAt(p []byte, off int64) error {
	if w.onIO != nil {
		w.onIO()
	}
	err := w.Backing.WriteAt(p, off)
	w.writes.Add(1)
	return err
}

// bench is a server with one export "disk" on a file.
type bench struct {
	server *nbd.Server
	socket string
	path   string
	disk   *disk.Disk
	file   *watched
	gate   *disk.Gate
}

const mib = 1 << 20

// start makes a bench with a file of so many bytes.
func start(t testing.TB, bytes int64, readOnly bool, prepare ...func(*watched)) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd") // short: the path of a socket ends at 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bench{path: filepath.Join(dir, "volume"), socket: filepath.Join(dir, "s"), gate: &disk.Gate{}}
	if err := os.WriteFile(b.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(b.path, bytes); err != nil {
		t.Fatal(err)
	}
	open := func(path string, readOnly bool) (disk.Backing, error) {
		f, err := disk.OpenFile(path, readOnly)
		b.file = &watched{Backing: f}
		for _, p := range prepare {
			p(b.file)
		}
		return b.file, err
	}
	if b.disk, err = disk.Open(open, b.path, bytes, readOnly, b.gate); err != nil {
		t.Fatal(err)
	}
	b.server = nbd.NewServer(nbd.Config{})
	b.add(t, "disk")
	l, err := net.Listen("unix", b.socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := b.server.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = b.disk.Close()
	})
	return b
}

func (b *bench) add(t testing.TB, name string) {
	t.Helper()
	err := b.server.Add(nbd.Export{Name: name, Description: "a test", Open: func() (nbd.Device, error) { return b.disk, nil }})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) dial(t testing.TB, opts ...nbdtest.Option) *nbdtest.Client {
	t.Helper()
	c, err := nbdtest.Dial(b.socket, "disk", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// want fails unless err is the wanted one; nil: no error.
func want(t testing.TB, what string, err, wanted error) {
	t.Helper()
	if wanted == nil && err != nil || wanted != nil && !errors.Is(err, wanted) {
		t.Errorf("%s: got %v, want %v", what, err, wanted)
	}
}
