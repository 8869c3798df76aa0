package drivertest

import "golang.org/x/sys/unix"

// siginfo is what waitid tells of a child.
type siginfo struct{ unix.Siginfo }

func (s siginfo) stopped() bool { return s.Code == cldStopped }

const cldStopped = 5 // CLD_STOPPED

// waitid waits until a child has stopped or ended, and leaves it to be waited for.
func waitid(pid int, info *siginfo) error {
	return unix.Waitid(unix.P_PID, pid, &info.Siginfo, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
}
