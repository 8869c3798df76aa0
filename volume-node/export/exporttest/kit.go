// Package exporttest is the conformance suite for exporters, and an export server for tests of what uses one.
//
// [Run] checks what package export promises, with real files and real hosts' requests. An exporter whose data plane is a
// process of its own gives the suite the means to kill it. [Start] runs an export server in the test's own process.
package exporttest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/control"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
	"github.com/scoria-storage/scoria/volume-node/export/disk"
	"github.com/scoria-storage/scoria/volume-node/export/launch"
	"github.com/scoria-storage/scoria/volume-node/export/nbd/nbdtest"
	"github.com/scoria-storage/scoria/volume-node/export/server"
)

// Host is a host that uses an export: one connection.
type Host interface {
	ReadAt(p []byte, off int64) error
	WriteAt(p []byte, off int64) error
	WriteFUA(p []byte, off int64) error // on stable storage when it returns
	Flush() error
	Bytes() int64
	Close() error
	Ended() <-chan struct{} // closed when the connection has ended
}

// Bench is an exporter under test.
type Bench struct {
	Exporter export.Exporter
	// Dial connects a host. Nil: by NBD.
	Dial func(export.Connection) (Host, error)
	// HoldLimit is after what time the exporter ends a hold by itself; at most a few seconds.
	HoldLimit time.Duration
	// Kill kills the data plane as kill −9 does. Nil: there is none apart from the exporter.
	Kill func(t *testing.T)
	// Syncs counts how often data was brought to stable storage. Nil: unknown.
	Syncs func() int64
}

// nbdHost is a host by NBD.
type nbdHost struct{ *nbdtest.Client }

func (h nbdHost) Bytes() int64 { return h.Size }

func (h nbdHost) WriteFUA(p []byte, off int64) error {
	return h.Do(nbdtest.Write, nbdtest.FUA, off, uint32(len(p)), p)
}

// DialNBD connects a host by NBD.
func DialNBD(c export.Connection) (Host, error) {
	client, err := nbdtest.Dial(c.Socket, c.Name)
	if err != nil {
		return nil, err
	}
	return nbdHost{client}, nil
}

// Local is an export server in the test's process.
type Local struct {
	*control.Client
	StateDir string
	syncs    atomic.Int64
}

// Syncs is how often a volume's data was brought to stable storage.
func (l *Local) Syncs() int64 { return l.syncs.Load() }

// Start runs an export server until the test ends, and returns a client of it. change may change its configuration.
func Start(t testing.TB, change ...func(*server.Config)) *Local {
	t.Helper()
	l := &Local{StateDir: ShortDir(t)}
	cfg := server.Config{StateDir: l.StateDir, Open: l.open}
	ready := make(chan struct{})
	cfg.Ready = func(ctl.Paths) { close(ready) }
	for _, f := range change {
		f(&cfg)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, cfg) }()
	client, err := control.New(control.Config{
		StateDir: l.StateDir,
		Start:    func(ctl.Paths) (*launch.Process, error) { return nil, errors.New("the test's export server has ended") },
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Client = client
	t.Cleanup(func() {
		client.Close()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("export server: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("export server did not start: %v", err)
	}
	return l
}

func (l *Local) open(path string, readOnly bool) (disk.Backing, error) {
	b, err := disk.OpenFile(path, readOnly)
	if err != nil {
		return nil, err
	}
	return countedBacking{b, &l.syncs}, nil
}

type countedBacking struct {
	disk.Backing
	syncs *atomic.Int64
}

func (b countedBacking) Sync() error {
	err := b.Backing.Sync()
	b.syncs.Add(1)
	return err
}

// ShortDir is a temporary directory whose path leaves room for a socket's name.
func ShortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ex")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// volumeFile makes the file of a volume.
func volumeFile(t testing.TB, bytes int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, bytes); err != nil {
		t.Fatal(err)
	}
	return path
}
