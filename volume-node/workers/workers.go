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
// It relies on the folder being on a file system whose locks all processes of the node share: one machine, one directory. In a copy
// of the folder, or where a network file system keeps each machine's locks apart, living workers look ended. Package volumenode
// therefore asks the processes of the node whether they are here before a start goes on.
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
	"slices"
	"strings"

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
	// The file is locked before it has its name: nobody sees one that is not.
	file, err := os.OpenFile(m.path(joining+worker), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("worker %s: %w", worker, err)
	}
	err = lock(file, unix.LOCK_EX)
	for err == nil {
		if err = os.Link(file.Name(), m.path(worker)); !errors.Is(err, fs.ErrExist) {
			break
		}
		err = m.replace() // a worker of this name was here before
	}
	if err == nil {
		err = os.Remove(file.Name())
	}
	if err != nil {
		return nil, fmt.Errorf("worker %s: its file: %w", worker, errors.Join(err, file.Close()))
	}
	m.file = file
	return m, nil
}

// replace removes a file of the worker's name. It waits until nobody holds it.
func (m *Member) replace() (err error) {
	file, err := os.Open(m.path(m.worker))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := lock(file, unix.LOCK_EX); err != nil || !stands(file) {
		return err
	}
	return os.Remove(file.Name())
}

// joining begins the name of a file that is not locked yet.
const joining = ".joining-"

// Ended returns the other workers whose processes have ended and that nobody has forgotten.
func (m *Member) Ended() ([]string, error) {
	ended, err := m.in(free)
	return slices.DeleteFunc(ended, func(worker string) bool { return worker == m.worker }), err
}

// Running returns the workers whose processes have not ended, this one included, in the order of their names.
func (m *Member) Running() ([]string, error) { return m.in(held) }

// state is how a worker's file is found.
type state uint8

const (
	gone state = iota // there is none any more
	held              // its worker has not ended
	free              // its worker has ended
)

// in returns the workers whose files are found so, in the order of their names.
func (m *Member) in(want state) ([]string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("workers of the node: %w", err)
	}
	var all []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), joining) {
			continue
		}
		found, err := m.look(e.Name(), unix.LOCK_SH, func() error { return nil })
		if err != nil {
			return nil, err
		}
		if found == want {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// Forget removes what is known of a worker that has ended. One that is forgotten already is no error.
func (m *Member) Forget(worker string) error {
	_, err := m.look(worker, unix.LOCK_EX, func() error { return os.Remove(m.path(worker)) })
	return err
}

// look says how a worker's file is found, and calls do while it holds the lock of one that is free.
func (m *Member) look(worker string, how int, do func() error) (found state, err error) {
	file, err := os.Open(m.path(worker))
	if errors.Is(err, fs.ErrNotExist) {
		return gone, nil
	}
	if err != nil {
		return gone, fmt.Errorf("worker %s: %w", worker, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	err = lock(file, how|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return held, nil
	case err == nil && !stands(file):
		return gone, nil
	case err == nil:
		err = do()
	}
	if err != nil {
		return gone, fmt.Errorf("worker %s: %w", worker, err)
	}
	return free, nil
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
