package assembly

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dataFormat is the newest layout of a data directory that this release reads, and the one it makes.
const dataFormat = 1

const marker = "scoria.json"

// dataDir is a data directory that this process has for itself.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory, or takes one that is there. Errors say what to do.
func openDataDir(path, release string) (*dataDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("setting data: value %q: %w", path, err)
	}
	if err := os.MkdirAll(abs, 0o700); errors.Is(err, syscall.ENOTDIR) {
		return nil, &SettingError{"data", path, "want a directory: there is something else of that name, or above it"}
	} else if err != nil {
		return nil, fmt.Errorf("setting data: value %q: %w", path, diskError(err))
	}
	lock, err := os.OpenFile(filepath.Join(abs, marker), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("setting data: value %q: %w", path, diskError(err))
	}
	d := &dataDir{path: abs, lock: lock}
	if err := d.claim(release); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", abs, err), lock.Close())
	}
	return d, nil
}

func (d *dataDir) claim(release string) error {
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return errors.New("another `scoria up` uses it: end that one, or give another directory with --data")
		}
		return err
	}
	data, err := os.ReadFile(d.lock.Name())
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return d.mark(release)
	}
	var m struct {
		Format  int    `json:"format"`
		Release string `json:"release"`
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Format < 1 {
		return fmt.Errorf("its file %s cannot be read: it is not a data directory of Scoria, or it is damaged", marker)
	}
	if m.Format > dataFormat {
		return fmt.Errorf("release %s made it, in format %d; this is release %s, which reads formats up to %d: start the newer release", m.Release, m.Format, release, dataFormat)
	}
	return nil
}

// mark writes the marker in place: its file is the lock. One that was cut off is empty and written anew.
func (d *dataDir) mark(release string) error {
	data, err := json.Marshal(map[string]any{"format": dataFormat, "release": release})
	if err != nil {
		return err
	}
	if _, err := d.lock.WriteAt(append(data, '\n'), 0); err != nil {
		return diskError(err)
	}
	if err := d.lock.Sync(); err != nil {
		return diskError(err)
	}
	return d.sync()
}

// sync makes sure that files that were made or removed are so after a loss of power, too.
func (d *dataDir) sync() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (d *dataDir) sub(name string) string { return filepath.Join(d.path, name) }

// Close gives the directory back.
func (d *dataDir) Close() error { return d.lock.Close() }

// diskError adds what to do to an error of the data directory.
func diskError(err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: the file system is read-only: give a directory that can be written", err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: give a directory that this user may write", err)
	}
	return fullError(err)
}

// fullError adds what to do to an error of a full disk. It is no longer one of a setting that is wrong.
func fullError(err error) error {
	if err == nil || !isFull(err) || saysFull(err) {
		return err
	}
	return fmt.Errorf("%s: the disk is full: "+makeRoom, err.Error())
}

// makeRoom is what to do before a start.
const makeRoom = "make room, then start again; nothing that was acknowledged is lost"

// saysFull says whether the error tells already what to do.
func saysFull(err error) bool { return strings.Contains(err.Error(), makeRoom) }

// isFull says whether the error is about a disk without room, or without room for this user; some parts pass on only its text.
func isFull(err error) bool {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) || strings.Contains(err.Error(), full.Error()) {
			return true
		}
	}
	return false
}
