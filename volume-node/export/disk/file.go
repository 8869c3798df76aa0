package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// file is a Backing on a regular file or a block device.
type file struct {
	f      *os.File
	fd     int
	device bool
	noTry  atomic.Bool // the file system cannot say whether data is in memory
}

// OpenFile is the Opener of real volumes. Anything but a regular file or a block device is refused.
func OpenFile(path string, readOnly bool) (Backing, error) {
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	// O_NONBLOCK: opening a FIFO by mistake must not wait for its other end. It means nothing for files.
	f, err := os.OpenFile(path, flag|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	mode := info.Mode()
	device := mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0
	if !device && !mode.IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("%s is neither a regular file nor a block device: %w", path, os.ErrInvalid)
	}
	return &file{f: f, fd: int(f.Fd()), device: device}, nil
}

func (b *file) ReadAt(p []byte, off int64) error {
	n, err := b.f.ReadAt(p, off)
	if errors.Is(err, io.EOF) { // of a device that was read up to its end, or of a file that was cut
		if n == len(p) {
			return nil
		}
		return fmt.Errorf("%s ends at byte %d: it became smaller while it was exported: %w", b.f.Name(), off+int64(n), io.ErrUnexpectedEOF)
	}
	return err
}

func (b *file) TryReadAt(p []byte, off int64) bool {
	if b.noTry.Load() {
		return false
	}
	n, err := unix.Preadv2(b.fd, [][]byte{p}, off, unix.RWF_NOWAIT)
	if err == nil {
		return n == len(p)
	}
	if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		b.noTry.Store(true)
	}
	return false
}

func (b *file) WriteAt(p []byte, off int64) error {
	_, err := b.f.WriteAt(p, off)
	return err
}

func (b *file) Sync() error {
	return again(func() error { return unix.Fdatasync(b.fd) })
}

func (b *file) Punch(off, n int64) error {
	return b.allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (b *file) Zero(off, n int64) error {
	return b.allocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (b *file) allocate(mode uint32, off, n int64) error {
	if n == 0 {
		return nil
	}
	err := again(func() error { return unix.Fallocate(b.fd, mode, off, n) })
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENODEV):
		return errors.ErrUnsupported
	case b.device && errors.Is(err, unix.EINVAL): // devices refuse ranges that are not whole sectors
		return errors.ErrUnsupported
	}
	return err
}

func (b *file) Extents(off, n int64, yield func(bytes int64, hole bool) bool) {
	end := off + n
	if b.device { // cannot say
		yield(n, false)
		return
	}
	for off < end {
		data, err := unix.Seek(b.fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no data from here on
			yield(end-off, true)
			return
		}
		if err != nil { // a file system without holes
			yield(end-off, false)
			return
		}
		if data = min(data, end); data > off {
			if !yield(data-off, true) {
				return
			}
			off = data
			continue
		}
		hole, err := unix.Seek(b.fd, off, unix.SEEK_HOLE)
		if err != nil || hole <= off { // changed at this moment
			hole = end
		}
		hole = min(hole, end)
		if !yield(hole-off, false) {
			return
		}
		off = hole
	}
}

func (b *file) Prefetch(off, n int64) {
	_ = unix.Fadvise(b.fd, off, n, unix.FADV_WILLNEED) // a hint
}

func (b *file) Bytes() (int64, error) {
	if b.device {
		return b.f.Seek(0, io.SeekEnd)
	}
	info, err := b.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (b *file) Close() error { return b.f.Close() }

// again calls f until it is not interrupted by a signal.
func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
