package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

const tempPrefix = ".tmp-"

// tempName is the name of a thing while an operation makes it. IDs have no dots.
func tempName(operation, id string) string { return tempPrefix + operation + "." + id }

// parseTemp is the inverse of tempName.
func parseTemp(name string) (operation, id string, ok bool) {
	rest, ok := strings.CutPrefix(name, tempPrefix)
	if !ok {
		return "", "", false
	}
	operation, id, ok = strings.Cut(rest, ".")
	ok = ok && driver.CheckToken("", operation) == nil && driver.CheckToken("", id) == nil
	return operation, id, ok
}

// folder is the open folder of one kind of thing. Every name is looked up in it and nowhere else.
type folder struct {
	place
	kind driver.Kind
	hook func(point string) error
}

func (f folder) fd() int { return int(f.dir.Fd()) }

func (f folder) ref(name string) driver.Ref { return driver.Ref{Kind: f.kind, ID: name} }

// stat looks at a thing. driver.ErrNotFound.
func (f folder) stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(f.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, f.regular(name, &st, err)
}

// open opens a thing that is there. driver.ErrNotFound.
func (f folder) open(name string, mode int) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	var fd int
	err := retry(func() (err error) {
		// Non-blocking: a pipe that somebody put there must not stop the caller.
		fd, err = unix.Openat(f.fd(), name, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, st, f.regular(name, &st, err)
	}
	file := os.NewFile(uintptr(fd), name)
	err = unix.Fstat(fd, &st)
	if err := f.regular(name, &st, err); err != nil {
		return nil, st, errors.Join(err, file.Close())
	}
	return file, st, nil
}

// regular turns what a system call said of a thing into an error of the driver.
func (f folder) regular(name string, st *unix.Stat_t, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s: %w", f.ref(name), driver.ErrNotFound)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENXIO), err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s: what stands in %s under that name is not a regular file, and not Scoria's", f.ref(name), f.dir.Name())
	case err != nil:
		return fmt.Errorf("%s: %w", f.ref(name), err)
	}
	return nil
}

// expect refuses a thing of another size than the caller says it has.
func (f folder) expect(name string, have, want int64) error {
	if have == want {
		return nil
	}
	return fmt.Errorf("%s: its file %s has %d bytes where %d are expected: %w",
		f.ref(name), filepath.Join(f.dir.Name(), name), have, want, driver.ErrSize)
}

// create makes a temporary, anew if an earlier try of the same operation left one.
func (f folder) create(name string) (*os.File, error) {
	for {
		if err := f.hook("create"); err != nil {
			return nil, err
		}
		var fd int
		err := retry(func() (err error) {
			fd, err = unix.Openat(f.fd(), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
			return err
		})
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
		if _, err := f.remove(name); err != nil {
			return nil, err
		}
	}
}

// rename puts a temporary in its place.
func (f folder) rename(from, to string) error {
	if err := f.hook("rename"); err != nil {
		return err
	}
	return unix.Renameat(f.fd(), from, f.fd(), to)
}

// remove removes a name, and reports whether it was there.
func (f folder) remove(name string) (bool, error) {
	if err := f.hook("unlink"); err != nil {
		return false, err
	}
	err := unix.Unlinkat(f.fd(), name, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// sync makes what happened to names durable. The names have changed already: its failure leaves it open whether the
// change survives a loss of power.
func (f folder) sync() error {
	err := f.hook("sync-folder")
	if err == nil {
		err = retry(func() error { return unix.Fsync(f.fd()) })
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", f.dir.Name(), driver.ErrUnknown, err)
	}
	return nil
}

// syncFile makes content and size of a file durable.
func (f folder) syncFile(file *os.File) error {
	if err := f.hook("sync-file"); err != nil {
		return err
	}
	return retry(func() error { return unix.Fsync(int(file.Fd())) })
}

// truncate sets the size of a file; what is new reads as zeros.
func (f folder) truncate(file *os.File, bytes int64) error {
	if err := f.hook("truncate"); err != nil {
		return err
	}
	return retry(func() error { return unix.Ftruncate(int(file.Fd()), bytes) })
}

// probeReflink finds out whether the file system has reflinks, with two files that never have a name.
func (f folder) probeReflink() error {
	var fds [2]int
	for i := range fds {
		fd, err := unix.Openat(f.fd(), ".", unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return fmt.Errorf("unnamed file: %w", err)
		}
		defer func() { _ = unix.Close(fd) }()
		fds[i] = fd
	}
	return unix.IoctlFileClone(fds[0], fds[1])
}

// noReflink reports whether the error of a reflink says that there are none, for these files at least.
func noReflink(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EXDEV) ||
		errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}

// space gives the errors that callers branch on their names.
func space(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", driver.ErrNoSpace, err)
	case errors.Is(err, unix.EFBIG):
		return fmt.Errorf("larger than a file can be on this file system: %w: %w", driver.ErrUnsupported, err)
	}
	return err
}

// retry calls again what a signal cut short.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
