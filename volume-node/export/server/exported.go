package server

import (
	"sync"

	"github.com/scoria-storage/scoria/volume-node/export/disk"
	"github.com/scoria-storage/scoria/volume-node/export/nbd"
)

// exported is an export of this server with its disk, which is open unless it could not be opened yet.
type exported struct {
	attachment, volume string
	path               string
	readOnly           bool
	opener             disk.Opener
	gate               *disk.Gate

	// mu is held shared while the disk is used other than by clients (those are gone before it is closed).
	mu      sync.RWMutex
	bytes   int64
	disk    *disk.Disk // nil: not open
	err     error      // why not
	leaving bool       // it is being removed; it does not open again
	failed  bool       // its last sync failed and that was told
}

func (s *Server) newExported(v *volume, e entry) *exported {
	return &exported{
		attachment: e.Attachment, volume: v.id, path: e.Path, readOnly: e.ReadOnly, bytes: e.Bytes,
		opener: s.cfg.Open, gate: &v.gate,
	}
}

// open opens the disk if it is not.
func (x *exported) open() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.disk != nil || x.leaving {
		return nil
	}
	x.disk, x.err = disk.Open(x.opener, x.path, x.bytes, x.readOnly, x.gate)
	return x.err
}

// device is the disk for a client that comes.
func (x *exported) device() (nbd.Device, error) {
	if err := x.open(); err != nil {
		return nil, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.disk == nil {
		return nil, nbd.ErrClosed
	}
	return x.disk, nil
}

// grow raises the size for new clients.
func (x *exported) grow(bytes int64) error {
	if err := x.open(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.disk == nil {
		return nbd.ErrClosed
	}
	if err := x.disk.Grow(bytes); err != nil {
		return err
	}
	x.bytes = max(x.bytes, bytes)
	return nil
}

// sync brings what hosts wrote to stable storage.
func (x *exported) sync() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.disk == nil || x.readOnly {
		return nil
	}
	return x.disk.Sync()
}

// fault is why hosts cannot use the export.
func (x *exported) fault() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.disk == nil {
		return x.err
	}
	return x.disk.Fault()
}

func (x *exported) leave() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.leaving = true
}

func (x *exported) isLeaving() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.leaving
}

// close syncs and closes the disk when no client uses it. A failed sync is told once: nothing that could be repeated would
// bring the data back, so the next call goes on.
func (x *exported) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.disk == nil {
		return nil
	}
	if !x.readOnly && !x.failed {
		if err := x.disk.Sync(); err != nil {
			x.failed = true
			return err
		}
	}
	err := x.disk.Close()
	x.disk = nil
	if x.readOnly || x.failed {
		return nil
	}
	return err
}
