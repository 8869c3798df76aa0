package nodelock

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a process that cannot be mistaken for a later one with the same ID.
type process struct {
	pid   int
	start uint64
}

// lookProcess reads the start time of a process.
func lookProcess(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The name of the program, in brackets, may contain anything; the start time is the 20th field after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const startField = 19
	if len(fields) <= startField {
		return process{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	start, err := strconv.ParseUint(fields[startField], 10, 64)
	return process{pid: pid, start: start}, err
}

// holder is a process that has the open file description with the lock.
type holder struct {
	process
	creator int // process ID that took the lock; the holder itself, or a parent of it
}

// holders finds the processes that hold the flock on the file. Processes that merely have the file open, because they
// wait, are not among them: the kernel shows the lock only at the description that owns it.
func holders(file *os.File) ([]holder, error) {
	var want unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &want); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []holder
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, err := lookProcess(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		if creator, ok := holds(pid, file.Name(), &want); ok {
			found = append(found, holder{process: p, creator: creator})
		}
	}
	return found, nil
}

// holds reports whether one of the process's descriptors owns a flock on the file called name, and who took it.
func holds(pid int, name string, want *unix.Stat_t) (creator int, ok bool) {
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(fds)
	if err != nil {
		return 0, false // it ended, or belongs to another user: then it cannot be ended from here either
	}
	for _, e := range entries {
		link := filepath.Join(fds, e.Name())
		// The name first: to stat a descriptor on a network file system may hang.
		if path, err := os.Readlink(link); err != nil || !strings.Contains(path, name) {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(link, &st) != nil || st.Dev != want.Dev || st.Ino != want.Ino {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, e.Name()))
		if err != nil {
			continue
		}
		if creator, ok := flockOwner(string(info)); ok {
			return creator, true
		}
	}
	return 0, false
}

// flockOwner reads the line "lock:\t1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF" of a descriptor's information.
func flockOwner(info string) (pid int, ok bool) {
	for line := range strings.Lines(info) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[0] != "lock:" || fields[2] != "FLOCK" {
			continue
		}
		pid, err := strconv.Atoi(fields[5])
		return pid, err == nil
	}
	return 0, false
}

// endProcess kills exactly the process p, even if its ID is used again at this moment, and only if it still holds the
// file's lock. It reports whether it did.
func endProcess(p process, file *os.File) (bool, error) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("process %d: pidfd: %w", p.pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	// What /proc says now is about the process behind the descriptor, or that one is dead and the signal meets nobody.
	now, err := lookProcess(p.pid)
	if err != nil || now != p {
		return false, nil
	}
	var want unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &want); err != nil {
		return false, err
	}
	if _, ok := holds(p.pid, file.Name(), &want); !ok {
		return false, nil
	}
	err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("process %d: %w", p.pid, err)
	}
	return true, nil
}
