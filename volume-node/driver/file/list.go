package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// List tells of what stands in the folders.
func (d *Driver) List(ctx context.Context, fn func(driver.Object) error) error {
	if err := d.here(); err != nil {
		return err
	}
	for _, f := range []folder{d.volumes, d.snapshots} {
		if err := f.each(ctx, func(name string) error {
			o, ok, err := f.object(name)
			if err != nil || !ok {
				return err
			}
			return fn(o)
		}); err != nil {
			return err
		}
	}
	return nil
}

// Look tells of one thing, and how many extents it has.
func (d *Driver) Look(ctx context.Context, ref driver.Ref) (driver.Object, error) {
	if err := ref.Check(); err != nil {
		return driver.Object{}, err
	}
	if err := d.here(); err != nil {
		return driver.Object{}, err
	}
	file, st, err := d.folder(ref.Kind).open(ref.ID, unix.O_RDONLY)
	if err != nil {
		return driver.Object{}, err
	}
	n := extents(file)
	return driver.Object{Ref: ref, Bytes: st.Size, UsedBytes: used(&st), Extents: n}, errors.Join(ctx.Err(), file.Close())
}

// Cleanup removes the temporaries of ended operations, and lock files of things that are long gone.
func (d *Driver) Cleanup(ctx context.Context, ended func(operation string) bool) error {
	if err := d.here(); err != nil {
		return err
	}
	for _, f := range []folder{d.volumes, d.snapshots} {
		removed := false
		err := f.each(ctx, func(name string) error {
			operation, _, ok := parseTemp(name)
			if !ok || !ended(operation) {
				return nil
			}
			did, err := f.remove(name)
			removed = removed || did
			return err
		})
		if err != nil {
			return fmt.Errorf("temporaries in %s: %w", f.dir.Name(), err)
		}
		if removed {
			if err := f.sync(); err != nil {
				return err
			}
		}
	}
	return d.locks.Sweep(ctx, keepLocks, func(name string) (bool, error) {
		ref := lockedRef(name)
		_, err := d.folder(ref.Kind).stat(ref.ID)
		if errors.Is(err, driver.ErrNotFound) {
			return true, nil
		}
		return false, err
	})
}

// each calls fn for every name in the folder; names that come and go meanwhile are met or not.
func (f folder) each(ctx context.Context, fn func(name string) error) error {
	dir, err := f.reopen()
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	const batch = 1000
	for {
		names, err := dir.Readdirnames(batch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.dir.Name(), err)
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(name); err != nil {
				return err
			}
		}
	}
}

// reopen opens the folder once more: a position in it cannot be shared.
func (f folder) reopen() (*os.File, error) {
	fd, err := unix.Openat(f.fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.dir.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.dir.Name()), nil
}

// object looks at a name in the folder; false if it is gone.
func (f folder) object(name string) (driver.Object, bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(f.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return driver.Object{}, false, nil
	}
	if err != nil {
		return driver.Object{}, false, fmt.Errorf("%s/%s: %w", f.dir.Name(), name, err)
	}
	o := driver.Object{Ref: f.ref(name), Bytes: st.Size, UsedBytes: used(&st)}
	operation, id, temporary := parseTemp(name)
	switch {
	case temporary:
		o.Ref, o.Operation = driver.Ref{Kind: driver.KindTemporary, ID: id}, operation
	case driver.CheckToken("", name) != nil, st.Mode&unix.S_IFMT != unix.S_IFREG:
		o.Kind = driver.KindForeign
	}
	return o, true, nil
}

// used is what a file takes on the disk; st_blocks counts 512 bytes whatever the file system's block is.
func used(st *unix.Stat_t) int64 { return st.Blocks * 512 }
