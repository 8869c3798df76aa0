package nodelock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

func crcOf(text []byte) []byte { return fmt.Appendf(nil, " crc=%08x", crc32.Checksum(text, checksum)) }

// Roles of a child process; the test binary starts itself with one of them in its environment.
const (
	roleKey     = "NODELOCK_TEST_ROLE"
	dirKey      = "NODELOCK_TEST_DIR"
	revKey      = "NODELOCK_TEST_REV"
	roleHold    = "hold"    // takes the lock, says so, stops itself
	roleLate    = "late"    // stops itself before it takes the lock, then takes it and says what it got
	roleParent  = "parent"  // takes the lock, passes it to a child that sleeps, and ends
	roleSleep   = "sleep"   // has the lock from its parent
	roleWait    = "wait"    // waits for the lock, with a lower limit than its test
	roleUnnamed = "unnamed" // stops itself with the lock, before it has written its record
	roleSweep   = "sweep"   // removes lock files all the time, as if nothing had ever used them
)

func say(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) }

func TestMain(m *testing.M) {
	if role := os.Getenv(roleKey); role != "" {
		if err := play(role); err != nil {
			say("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// stopSelf stops this process from this very thread, which therefore does not go on for a moment.
func stopSelf() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Tgkill(os.Getpid(), unix.Gettid(), syscall.SIGSTOP)
}

func play(role string) error {
	rev, err := strconv.ParseUint(os.Getenv(revKey), 10, 64)
	if err != nil {
		return err
	}
	opts := Options{}
	stopAt := map[string]string{roleLate: "lock", roleUnnamed: "record"}[role]
	opts.Hook = func(point string) error {
		switch {
		case point == stopAt:
			return stopSelf()
		case point == "lock" && role == roleSweep:
			<-time.After(rand.N(5 * time.Millisecond)) // so that the file that it opened is often another one when it locks it
		}
		return nil
	}
	if role == roleSleep {
		say("sleeps")
		<-time.After(time.Hour) // it is ended before
		return nil
	}
	f, err := Open(os.Getenv(dirKey), opts)
	if err != nil {
		return err
	}
	if role == roleSweep {
		return sweepForever(f)
	}
	c := Claim{Fence: driver.Fence{Rev: rev}, Operation: "op-child"}
	c.Waiting = func(string) { say("waits") }
	l, err := f.Acquire(context.Background(), "v1", c)
	if errors.Is(err, driver.ErrFenced) {
		say("fenced")
		return nil
	}
	if err != nil {
		return err
	}
	say("holds")
	switch role {
	case roleHold:
		return stopSelf()
	case roleParent:
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleKey+"="+roleSleep)
		cmd.ExtraFiles = []*os.File{l.File()}
		cmd.Stdout = os.Stdout
		return cmd.Start()
	}
	return l.Release()
}

type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func start(t *testing.T, role, dir string, rev uint64) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleKey+"="+role, dirKey+"="+dir, revKey+"="+strconv.FormatUint(rev, 10))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a stopped child does not notice that its test has gone
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &child{cmd: cmd, lines: bufio.NewScanner(out)}
}

func (c *child) expect(t *testing.T, want string) {
	t.Helper()
	if !c.lines.Scan() || c.lines.Text() != want {
		t.Fatalf("child said %q, want %q", c.lines.Text(), want)
	}
}

// awaitStop waits until the child has stopped itself.
func (c *child) awaitStop(t *testing.T) {
	t.Helper()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("child is not stopped: %v, %v", status, err)
	}
}

// awaitKill waits for the child's end and fails unless it was by SIGKILL.
func (c *child) awaitKill(t *testing.T) {
	t.Helper()
	var exit *exec.ExitError
	if err := c.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("child ended with %v, want SIGKILL", err)
	}
}

const shortLimit = 50 * time.Millisecond

func TestStoppedHolderIsEndedAfterTheLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, roleHold, dir, 1)
	c.expect(t, "holds")
	c.awaitStop(t)
	begin := time.Now()
	l := acquire(t, open(t, dir, Options{Limit: shortLimit}), "v1", claim(2, "op-1"))
	if took := time.Since(begin); took < shortLimit {
		t.Errorf("the holder was ended after %s, before the limit of %s", took, shortLimit)
	}
	release(t, l)
	c.awaitKill(t)
}

func TestHolderThatNeverNamedItselfIsEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release(t, acquire(t, open(t, dir, Options{}), "v1", claim(1, "op-1"))) // a record of somebody who lives: this process
	c := start(t, roleUnnamed, dir, 2)
	c.awaitStop(t)
	release(t, acquire(t, open(t, dir, Options{Limit: shortLimit}), "v1", claim(3, "op-1")))
	c.awaitKill(t)
}

func TestProcessStoppedBeforeTheLockIsRefusedWhenItGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, roleLate, dir, 1)
	c.awaitStop(t)
	release(t, acquire(t, open(t, dir, Options{Limit: shortLimit}), "v1", claim(2, "op-1")))
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.expect(t, "fenced")
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("child ended with %v, want no error: it must not be killed", err)
	}
}

func TestChildKeepsTheLockOfItsDeadParentAndIsEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, roleParent, dir, 1)
	c.expect(t, "holds")
	c.expect(t, "sleeps")
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.cmd.Process.Pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir, Options{Limit: shortLimit})
	file, held, err := f.try("v1")
	if err != nil || held {
		t.Fatalf("the lock of a dead parent with a living child is free (%v), want held", err)
	}
	found, err := holders(file)
	if err != nil || len(found) != 1 {
		t.Fatalf("holders = %+v, %v, want the child alone", found, err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	release(t, acquire(t, f, "v1", claim(2, "op-1")))
	if now, err := lookProcess(found[0].pid); err == nil && now == found[0].process && !awaitEnd(t, now.pid) {
		t.Errorf("the child %d lives", found[0].pid)
	}
}

// awaitEnd waits for the end of a process that has let its files go; false if it does not end.
func awaitEnd(t *testing.T, pid int) bool {
	t.Helper()
	const milliseconds = 10_000
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true
	}
	defer func() { _ = unix.Close(fd) }()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, milliseconds)
	return err == nil && n == 1
}

func TestWaitersAreNotTakenForHolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stopped := start(t, roleHold, dir, 1)
	stopped.expect(t, "holds")
	stopped.awaitStop(t)
	waiting := start(t, roleWait, dir, 2)
	waiting.expect(t, "waits")
	f := open(t, dir, Options{Limit: shortLimit})
	l := acquire(t, f, "v1", claim(3, "op-1"))
	stopped.awaitKill(t)
	release(t, l)
	waiting.expect(t, "fenced")
	if err := waiting.cmd.Wait(); err != nil {
		t.Errorf("the waiting process ended with %v, want no error", err)
	}
}

func TestEqualFenceOfAnotherProcessIsNeverEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, roleHold, dir, 2)
	c.expect(t, "holds")
	c.awaitStop(t)
	f := open(t, dir, Options{Limit: shortLimit})
	file, held, err := f.try("v1")
	if err != nil || held {
		t.Fatalf("try = %v, %v, want held by the child", held, err)
	}
	defer func() { _ = file.Close() }()
	found, err := holders(file)
	if err != nil || len(found) != 1 {
		t.Fatalf("holders = %+v, %v", found, err)
	}
	have, err := readFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWaiter(f, "v1", claim(2, "op-1"))
	if w.mayEnd(found, have.holder) {
		t.Error("a claim with the same fence may end the holder, want not")
	}
	if !newWaiter(f, "v1", claim(3, "op-1")).mayEnd(found, have.holder) {
		t.Error("a claim with a higher fence may not end the holder, want that it may")
	}
}

func TestEndProcessSparesAnotherProcessWithTheSameID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, roleHold, dir, 2)
	c.expect(t, "holds")
	c.awaitStop(t)
	f := open(t, dir, Options{})
	file, _, err := f.try("v1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	p, err := lookProcess(c.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p.start++ // as if the ID had been used again
	if did, err := endProcess(p, file); did || err != nil {
		t.Errorf("endProcess(other start time) = %v, %v, want false", did, err)
	}
	p.start--
	if did, err := endProcess(p, file); !did || err != nil {
		t.Errorf("endProcess = %v, %v, want true", did, err)
	}
}
