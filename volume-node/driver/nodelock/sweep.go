package nodelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sweep removes lock files that nobody used for longer than keep and whose thing is gone. Keep must be longer than any
// worker can be late: afterwards a fence that was seen is forgotten. gone is asked again while the lock is held.
func (f *Folder) Sweep(ctx context.Context, keep time.Duration, gone func(name string) (bool, error)) error {
	entries, err := os.ReadDir(f.dir.Name())
	if err != nil {
		return fmt.Errorf("lock folder: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || checkName(name) != nil {
			continue
		}
		if err := f.sweepOne(name, keep, gone); err != nil {
			return fmt.Errorf("lock %s: %w", name, err)
		}
	}
	return nil
}

func (f *Folder) sweepOne(name string, keep time.Duration, gone func(string) (bool, error)) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(f.dir.Fd()), name+suffix, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && !unused(&st, keep) {
		return nil
	}
	if err != nil {
		return err
	}
	if ok, err := gone(name); err != nil || !ok {
		return err
	}
	file, held, err := f.try(name)
	if err != nil {
		return err
	}
	if held {
		err = f.remove(file, name, keep, gone)
	}
	return errors.Join(err, file.Close())
}

// remove removes the lock file, which the caller holds, if it still is unused. Whoever opened it and waits finds out
// that it is not the file in the folder any more, and opens it anew.
func (f *Folder) remove(file *os.File, name string, keep time.Duration, gone func(string) (bool, error)) error {
	same, err := f.current(file, name)
	if err != nil || !same {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || !unused(&st, keep) {
		return err
	}
	if ok, err := gone(name); err != nil || !ok {
		return err
	}
	return unix.Unlinkat(int(f.dir.Fd()), name+suffix, 0)
}

func unused(st *unix.Stat_t, keep time.Duration) bool {
	return time.Since(time.Unix(st.Mtim.Unix())) > keep
}
