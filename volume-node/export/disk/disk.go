// Package disk is the file layer of exports: the file or block device of a volume, opened for hosts.
//
// Nouns. A [Backing] is the open file, one method for each thing the kernel does. A [Disk] is a backing with the rules of
// an export: how large it is for hosts, whether they may write, when a sync counts. A [Gate] belongs to a volume and is
// shared by all its disks: writes pass through it, a hold closes it.
//
// Invariants:
//
//   - When Sync returns nil, every write, discard and zeroing of this disk that had returned before Sync was called is on
//     stable storage. One sync of the kernel may serve many callers, but never one that came after it began.
//   - A failed sync is final: the kernel reports it once and may have dropped the pages, so every later Sync of the
//     disk fails, too, whoever asks.
//   - While the gate is closed nothing reaches the backing; when Gate.Close has returned, nothing is on its way either.
//   - A disk that is read-only never changes its backing.
//
// What it does not do: it does not check offsets against the size (the server knows the size that each client was told),
// and it does not count who still uses it: close it when nobody does.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
)

// Backing is the open file. Methods are safe for concurrent use, Close is not.
type Backing interface {
	// ReadAt fills p, or fails: what lies beyond the end of the file was lost, and is not zeroes.
	ReadAt(p []byte, off int64) error
	// TryReadAt does the same if that takes no waiting for a device, and else says false.
	TryReadAt(p []byte, off int64) bool
	WriteAt(p []byte, off int64) error
	// Sync brings the file's data to stable storage.
	Sync() error
	// Punch frees a range, which then reads as zeroes; errors.ErrUnsupported if the file system cannot.
	Punch(off, n int64) error
	// Zero makes a range read as zeroes and keeps its space; errors.ErrUnsupported if the file system cannot.
	Zero(off, n int64) error
	// Extents yields the range of n bytes from off on piece by piece, in order, until all is told or yield says false. A
	// hole reads as zeroes and takes no space. What cannot be told counts as data.
	Extents(off, n int64, yield func(bytes int64, hole bool) bool)
	// Prefetch asks the kernel to read a range ahead.
	Prefetch(off, n int64)
	// Bytes is the size of the file or device.
	Bytes() (int64, error)
	Close() error
}

// Opener opens the file of a volume. It is where tests put themselves between a disk and the kernel.
type Opener func(path string, readOnly bool) (Backing, error)

// ErrReadOnly: a change was asked of a read-only disk.
var ErrReadOnly error = syscall.EPERM

// Disk is an open volume as hosts see it. It is safe for concurrent use but for Close.
type Disk struct {
	backing  Backing
	gate     *Gate
	readOnly bool
	bytes    atomic.Int64

	mu       sync.Mutex
	turn     sync.Cond
	syncing  bool
	started  uint64 // syncs begun
	finished uint64 // the youngest sync that ended; syncs end in the order they began, one at a time
	fault    error  // of the sync that failed; never cleared
}

// Open opens path for hosts, who see its first bytes bytes. The gate is the volume's.
func Open(open Opener, path string, bytes int64, readOnly bool, gate *Gate) (*Disk, error) {
	b, err := open(path, readOnly)
	if err != nil {
		return nil, err
	}
	size, err := b.Bytes()
	if err == nil && size < bytes {
		err = &SizeError{Path: path, Have: size, Want: bytes}
	}
	if err != nil {
		_ = b.Close() // nothing was written
		return nil, err
	}
	d := &Disk{backing: b, gate: gate, readOnly: readOnly}
	d.turn.L = &d.mu
	d.bytes.Store(bytes)
	return d, nil
}

// SizeError: the file is smaller than what hosts are to see.
type SizeError struct {
	Path       string
	Have, Want int64
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("%s has %d bytes, fewer than the %d to export", e.Path, e.Have, e.Want)
}

// Is makes it match fs.ErrInvalid.
func (e *SizeError) Is(target error) bool { return target == fs.ErrInvalid }

// Size is what new clients are told.
func (d *Disk) Size() int64 { return d.bytes.Load() }

// ReadOnly says whether hosts may only read.
func (d *Disk) ReadOnly() bool { return d.readOnly }

// Grow raises the size that new clients are told; the file must have it already.
func (d *Disk) Grow(bytes int64) error {
	size, err := d.backing.Bytes()
	if err != nil {
		return err
	}
	if size < bytes {
		return &SizeError{Path: "the volume's file", Have: size, Want: bytes}
	}
	for {
		old := d.bytes.Load()
		if bytes <= old || d.bytes.CompareAndSwap(old, bytes) {
			return nil
		}
	}
}

// ReadAt fills p from off.
func (d *Disk) ReadAt(p []byte, off int64) error { return d.backing.ReadAt(p, off) }

// TryReadAt fills p if the data is in memory.
func (d *Disk) TryReadAt(p []byte, off int64) bool { return d.backing.TryReadAt(p, off) }

// WriteAt writes p. It waits while the volume is held, and gives up with the cause of ctx if that ends first.
func (d *Disk) WriteAt(ctx context.Context, p []byte, off int64) error {
	return d.change(ctx, func() error { return d.backing.WriteAt(p, off) })
}

// Trim tells that a range is no longer needed. Where the file system cannot free it, nothing happens.
func (d *Disk) Trim(ctx context.Context, off, n int64) error {
	err := d.change(ctx, func() error { return d.backing.Punch(off, n) })
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// zeroes is what a range is overwritten with where the file system has nothing faster.
var zeroes = make([]byte, 1<<20)

// WriteZeroes makes a range read as zeroes; with keep its space stays. With fast it fails with errors.ErrUnsupported
// rather than writing zeroes.
func (d *Disk) WriteZeroes(ctx context.Context, off, n int64, keep, fast bool) error {
	err := d.change(ctx, func() error {
		if keep {
			return d.backing.Zero(off, n)
		}
		return d.backing.Punch(off, n)
	})
	if fast || !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	for n > 0 { // each piece passes the gate on its own, so that a hold never waits for all of them
		p := zeroes[:min(n, int64(len(zeroes)))]
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.WriteAt(ctx, p, off); err != nil {
			return err
		}
		off += int64(len(p))
		n -= int64(len(p))
	}
	return nil
}

func (d *Disk) change(ctx context.Context, do func() error) error {
	if d.readOnly {
		return ErrReadOnly
	}
	if err := d.gate.Enter(ctx); err != nil {
		return err
	}
	defer d.gate.Leave()
	return do()
}

// Sync returns when everything that was written before it was called is on stable storage.
func (d *Disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	// A sync that runs already may have passed over what the caller wrote; the next one to start covers it.
	need := d.started + 1
	for d.finished < need && d.fault == nil {
		if d.syncing {
			d.turn.Wait()
			continue
		}
		d.syncing = true
		d.started++
		n := d.started
		d.mu.Unlock()
		err := d.backing.Sync()
		d.mu.Lock()
		d.syncing = false
		d.finished = n
		if err != nil {
			d.fault = fmt.Errorf("an earlier sync of the volume failed, what was written may be lost: %w", err)
		}
		d.turn.Broadcast()
	}
	return d.fault
}

// Fault is the error of a failed sync, nil if none failed.
func (d *Disk) Fault() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fault
}

// Extents tells which parts of a range are holes; see [Backing].
func (d *Disk) Extents(off, n int64, yield func(bytes int64, hole bool) bool) {
	d.backing.Extents(off, n, yield)
}

// Prefetch asks for a range to be read ahead.
func (d *Disk) Prefetch(off, n int64) { d.backing.Prefetch(off, n) }

// Close closes the file. Nobody may use the disk any more.
func (d *Disk) Close() error { return d.backing.Close() }
