// Package launch starts programs of volume nodes that are to outlive the process that started them.
//
// A [Process] runs in a session of its own: no signal to the group or terminal of its starter reaches it, and it goes on when
// its starter dies. Its output goes to a file. It has no open files of its starter.
//
// What it does not do: it does not wait for a program to be ready, and does not start it again.
package launch

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is a program to start.
type Command struct {
	Path string   // absolute
	Args []string // without the program's name
	Env  []string // nil: that of this process
	Log  string   // file for standard output and error, appended to
}

// largestLog is the size from which a log file is put aside (with the suffix .1) at the next start.
const largestLog = 16 << 20

// Process is a program that was started. Reap tells whether it has ended.
type Process struct {
	pid    int
	reaped bool
	status syscall.WaitStatus
}

// Start starts a program.
func Start(c Command) (*Process, error) {
	if info, err := os.Stat(c.Log); err == nil && info.Size() > largestLog {
		if err := os.Rename(c.Log, c.Log+".1"); err != nil {
			return nil, err
		}
	}
	out, err := os.OpenFile(c.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", c.Path, err)
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	p, err := os.StartProcess(c.Path, append([]string{c.Path}, c.Args...), &os.ProcAttr{
		Dir:   "/", // keeps no file system busy
		Env:   c.Env,
		Files: []*os.File{null, out, out},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, err
	}
	pid := p.Pid
	return &Process{pid: pid}, p.Release() // it may outlive us: Reap looks, nothing waits
}

// PID is the process's ID.
func (p *Process) PID() int { return p.pid }

// Reap says whether the process has ended, and if so how: nil for success. It never waits. Not safe for concurrent use.
func (p *Process) Reap() (ended bool, err error) {
	if !p.reaped {
		pid, err := unix.Wait4(p.pid, (*unix.WaitStatus)(&p.status), unix.WNOHANG, nil)
		switch {
		case pid == p.pid:
		case errors.Is(err, unix.ECHILD): // somebody else waited for it
			p.status = 0
		default:
			return false, nil
		}
		p.reaped = true
	}
	switch {
	case p.status.Signaled():
		return true, fmt.Errorf("process %d ended by signal: %v", p.pid, p.status.Signal())
	case p.status.ExitStatus() != 0:
		return true, fmt.Errorf("process %d ended with exit status %d", p.pid, p.status.ExitStatus())
	}
	return true, nil
}
