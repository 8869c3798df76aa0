package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

const chunkBytes = 16 << 20 // between two looks whether the copy should go on; some 10 ms

// copyFrom gives tmp, which is empty and is to have bytes, the content of a source that has sourceBytes. It takes no lock
// on the source.
func (t task) copyFrom(tmp *os.File, bytes int64, source driver.Ref, sourceBytes int64) (err error) {
	folder := t.d.folder(source.Kind)
	src, st, err := folder.open(source.ID, unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("%s: %w", t.ref, err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if err := folder.expect(source.ID, st.Size, sourceBytes); err != nil {
		return fmt.Errorf("%s: %w", t.ref, err)
	}
	if st.Size > bytes {
		return fmt.Errorf("%s with %d bytes from %s with %d: %w", t.ref, bytes, source, st.Size, driver.ErrShrink)
	}
	if t.d.reflink {
		err := t.reflink(tmp, src)
		if err == nil {
			t.warnExtents(tmp, source)
			t.progress(st.Size, st.Size)
			return nil
		}
		if !noReflink(err) || t.d.opts.Reflink == ReflinkAlways {
			return fmt.Errorf("%s: reflink of %s: %w", t.ref, source, space(err))
		}
		if err := t.folder.truncate(tmp, 0); err != nil {
			return fmt.Errorf("%s: %w", t.ref, err)
		}
	}
	if t.call.Hold != nil {
		return fmt.Errorf("%s: %s is attached: %w", t.ref, source, driver.ErrBusyOpen)
	}
	if err := t.sparseCopy(tmp, src, st.Size); err != nil {
		return fmt.Errorf("%s: copy of %s: %w", t.ref, source, space(err))
	}
	return nil
}

// reflink shares the blocks of src with tmp. If hosts have the source open, their writes wait meanwhile.
func (t task) reflink(tmp, src *os.File) error {
	if err := t.proceed(); err != nil {
		return err
	}
	clone := func() error {
		if err := t.folder.hook("reflink"); err != nil {
			return err
		}
		return retry(func() error { return unix.IoctlFileClone(int(tmp.Fd()), int(src.Fd())) })
	}
	if t.call.Hold == nil {
		return clone()
	}
	release, err := t.call.Hold(t.ctx)
	if err != nil {
		return fmt.Errorf("hold its writes: %w", err)
	}
	err = clone()
	if releasing := release(); releasing != nil {
		// Not %w of both: that the clone has no support matters less than that the hold was lost.
		return fmt.Errorf("its writes were held: %w", releasing)
	}
	return err
}

// sparseCopy copies the parts of src that were written.
func (t task) sparseCopy(tmp, src *os.File, size int64) error {
	total, err := writtenBytes(src, size)
	if err != nil {
		return err
	}
	done := int64(0)
	t.progress(done, total)
	return written(src, size, func(from, to int64) error {
		for from < to {
			if err := t.proceed(); err != nil {
				return err
			}
			if err := t.folder.hook("copy"); err != nil {
				return err
			}
			n, err := copyRange(tmp, src, from, min(to-from, chunkBytes))
			if err != nil {
				return err
			}
			// The disk begins now, so that the sync at the end does not have to write everything.
			_ = unix.SyncFileRange(int(tmp.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
			from, done = from+n, done+n
			t.progress(done, max(done, total))
		}
		return nil
	})
}

func (t task) progress(done, total int64) {
	if t.call.Progress != nil {
		t.call.Progress(done, total)
	}
}

// written calls fn for each part of the file that holds data, in order.
func written(file *os.File, size int64, fn func(from, to int64) error) error {
	fd := int(file.Fd())
	for at := int64(0); at < size; {
		from, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole up to the end
		}
		to := size
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			from = at // the file system does not tell: all of it
		case err != nil:
			return err
		default:
			if to, err = unix.Seek(fd, from, unix.SEEK_HOLE); err != nil {
				return err
			}
		}
		if err := fn(from, min(to, size)); err != nil {
			return err
		}
		at = to
	}
	return nil
}

func writtenBytes(file *os.File, size int64) (total int64, err error) {
	err = written(file, size, func(from, to int64) error {
		total += to - from
		return nil
	})
	return total, err
}

// copyRange copies up to n bytes at the same place of both files, and returns how many, at least one.
func copyRange(dst, src *os.File, at, n int64) (int64, error) {
	from, to := at, at
	var did int
	err := retry(func() (err error) {
		did, err = unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(n), 0)
		return err
	})
	switch {
	case err == nil && did > 0:
		return int64(did), nil
	case err == nil, errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return copyThrough(dst, src, at, n)
	default:
		return 0, err
	}
}

// copyThrough copies by reading and writing.
func copyThrough(dst, src *os.File, at, n int64) (int64, error) {
	did, err := io.Copy(io.NewOffsetWriter(dst, at), io.NewSectionReader(src, at, n))
	if err == nil && did == 0 {
		err = fmt.Errorf("the source ended at %d bytes while it was copied: %w", at, io.ErrUnexpectedEOF)
	}
	return did, err
}

// warnExtents warns of a source that has become slow to copy.
func (t task) warnExtents(tmp *os.File, source driver.Ref) {
	if n := extents(tmp); n > warnExtents {
		t.d.log.Warn("many extents: reflinks of this are slow, a copy with reflink=never would merge them",
			"source", source.String(), "extents", n, "operation", t.call.Operation)
	}
}

// extents counts the pieces of a file's map; 0 where the file system does not tell.
func extents(file *os.File) int {
	const fiemap = 0xC020660B // FS_IOC_FIEMAP
	request := struct {
		start, length                  uint64
		flags, mapped, count, reserved uint32
	}{length: ^uint64(0)}
	// With room for no extents the kernel only counts.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), fiemap, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return 0
	}
	return int(request.mapped)
}
