// Package workers tells which worker processes of a node have ended: each holds the lock of a file of its own for as long
// as it lives.
//
// Nouns: a worker is one start of one process; its file, named after it, stands in a folder that the processes of one
// node share.
//
// Invariants:
//   - A worker's file is in the folder and locked from Join until the last thread of its process has ended. The kernel
//     releases it, so a process that is merely stopped or slow still holds it.
//   - A file that is not locked belongs to a worker that has ended. That there is no file says nothing.
//   - A file stays until somebody forgets its worker.
//
// It decides nothing: that a worker has ended only says that its work may be tried by another one without waiting. What
// keeps their effects apart are fences.
package workers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Member is a worker among those of its node.
type Member struct {
	dir    string
	worker string
	file   *os.File // holds the lock
}

// Join makes this process the worker, until Close or its end. The folder is made if it is missing.
func Join(dir, worker string) (*Member, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("worker %s: %w", worker, err)
	}
	m := &Member{dir: dir, worker: worker}
	for {
		file, err := os.OpenFile(m.path(worker), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("worker %s: %w", worker, err)
		}
		// It waits for those who look at the file or remove it at this moment, no longer.
		err = lock(file, unix.LOCK_EX)
		if err == nil && stands(file) {
			m.file = file
			return m, nil
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("worker %s: lock of its file: %w", worker, err)
		}
	}
}

// Ended returns the other workers whose processes have ended and that nobody has forgotten.
func (m *Member) Ended() ([]string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("workers of the node: %w", err)
	}
	var ended []string
	for _, e := range entries {
		if e.Name() == m.worker {
			continue
		}
		free, err := m.ifFree(e.Name(), unix.LOCK_SH, func() error { return nil })
		if err != nil {
			return nil, err
		}
		if free {
			ended = append(ended, e.Name())
		}
	}
	return ended, nil
}

// Forget removes what is known of a worker that has ended. One that is forgotten already is no error.
func (m *Member) Forget(worker string) error {
	_, err := m.ifFree(worker, unix.LOCK_EX, func() error { return os.Remove(m.path(worker)) })
	return err
}

// ifFree calls do while it holds the lock of a worker's file, and says whether it got it.
func (m *Member) ifFree(worker string, how int, do func() error) (free bool, err error) {
	file, err := os.Open(m.path(worker))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("worker %s: %w", worker, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	err = lock(file, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || err == nil && !stands(file) {
		return false, nil
	}
	if err == nil {
		err = do()
	}
	if err != nil {
		return false, fmt.Errorf("worker %s: %w", worker, err)
	}
	return true, nil
}

// Close ends the membership; the worker counts as ended.
func (m *Member) Close() error { return m.file.Close() }

func (m *Member) path(worker string) string { return filepath.Join(m.dir, worker) }

// stands reports whether the file is the one in the folder, not one that was removed.
func stands(file *os.File) bool {
	have, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(file.Name())
	return err == nil && os.SameFile(have, named)
}

func lock(file *os.File, how int) error {
	for {
		if err := unix.Flock(int(file.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
