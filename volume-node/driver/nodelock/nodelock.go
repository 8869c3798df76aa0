// Package nodelock keeps the processes of one node off each other's volumes: a lock file per thing that is written.
//
// A lock is held by the kernel (flock) for an open file description. The descriptor may be passed to child processes;
// then the lock is held until the last of them has ended. The file keeps, across crashes and reboots, the highest
// fence that ever held it, and names the holder by process ID and start time.
//
// # Nouns
//
//   - Folder: a directory of lock files. Lock: one of them, held.
//   - Claim: what somebody who wants a lock shows: a fence and an operation.
//   - Record: what the file says of its last holder. Wish: the highest fence that was seen waiting, a hint.
//
// # Invariants
//
//   - At most one open file description holds a lock, in this process or another one.
//   - The fence in a record only rises, and is compared and written while the lock is held. A claim with a lower one
//     gets driver.ErrFenced. It is on the disk when Lock.Durable or Lock.Release returns nil: the holder calls Durable
//     before its first effect, and may prepare it while the disk works.
//   - Whoever holds a lock holds the file that stands in the folder under that name, not one that was removed.
//   - Acquire ends a process only after the limit, only if the process holds this lock at that moment (its open file
//     description, as the kernel tells), never its own, and only through a pidfd. It never ends a holder whose
//     recorded fence is higher than the claim's.
//   - The lock of a process that was ended comes free only when its last system call has ended: nothing of it lands
//     later.
//
// A holder that is alive and learns of a wish above its fence should stop by itself: see Lock.Overtaken.
//
// # What it does not do
//
// Nothing here reaches beyond the node: the folder must be on a file system that only this node uses, and the processes
// must see each other under /proc (one process namespace, one user). It knows nothing of what the locks protect.
package nodelock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// DefaultLimit is how long a claim with a higher fence waits for a holder before it ends it.
const DefaultLimit = 30 * time.Second

// suffix of lock files; names never contain a dot at their start, so nothing else collides.
const suffix = ".lock"

// Options of a Folder. The zero value is usable.
type Options struct {
	Limit time.Duration // zero: DefaultLimit
	Log   *slog.Logger  // nil: discard
	// Hook, if set, is called before each change ("open", "lock", "record", "sync-record"), also from several goroutines
	// at once; its error is returned in place of the change. For tests of crashes and faults.
	Hook func(point string) error
}

// Folder is a directory of lock files. It is safe for concurrent use.
type Folder struct {
	dir  *os.File
	opts Options
	self process
}

// Open uses the directory, which must exist.
func Open(path string, opts Options) (*Folder, error) {
	if opts.Limit <= 0 {
		opts.Limit = DefaultLimit
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Hook == nil {
		opts.Hook = func(string) error { return nil }
	}
	self, err := lookProcess(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("lock folder %s: start time of this process: %w", path, err)
	}
	dir, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	return &Folder{dir: dir, opts: opts, self: self}, nil
}

// Close gives up the folder; locks that are held stay held.
func (f *Folder) Close() error { return f.dir.Close() }

// Claim is what somebody who wants a lock shows.
type Claim struct {
	Fence     driver.Fence
	Operation string // for the record, so that people see who holds it
	// Waiting, if set, is told in words whom the claim waits for: when it begins to wait, and again now and then.
	Waiting func(why string)
}

// Lock is a lock that is held.
type Lock struct {
	file    *os.File
	name    string
	fence   driver.Fence
	durable func() error // waits for the sync of the record; may be called often
}

// Acquire takes the lock called name, and waits for it as long as ctx lasts. A holder with a lower fence that does
// not let go within the limit is ended, unless it is this very process. Errors: driver.ErrFenced, driver.ErrNoSpace,
// driver.ErrInvalid (the name), the context's.
func (f *Folder) Acquire(ctx context.Context, name string, claim Claim) (*Lock, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := driver.CheckToken("operation", claim.Operation); err != nil {
		return nil, err
	}
	var wait *waiter
	for {
		if err := ctx.Err(); err != nil {
			return nil, wait.ended(ctx, name)
		}
		file, held, err := f.try(name)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, space(err))
		}
		if held {
			lock, err := f.settle(file, name, claim)
			if errors.Is(err, errReplaced) {
				continue
			}
			return lock, err
		}
		if wait == nil {
			wait = newWaiter(f, name, claim)
		}
		err = wait.look(file)
		if closing := file.Close(); err == nil {
			err = closing
		}
		if err != nil {
			return nil, err
		}
		wait.pause(ctx)
	}
}

// errReplaced: the locked file is not the one in the folder any more.
var errReplaced = errors.New("lock file was replaced")

// try opens the lock file and locks it if it is free.
func (f *Folder) try(name string) (file *os.File, held bool, err error) {
	if err := f.opts.Hook("open"); err != nil {
		return nil, false, err
	}
	var fd int
	err = retry(func() (err error) {
		fd, err = unix.Openat(int(f.dir.Fd()), name+suffix, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	file = os.NewFile(uintptr(fd), name+suffix)
	if err := f.opts.Hook("lock"); err != nil {
		return nil, false, errors.Join(err, file.Close())
	}
	err = retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	switch {
	case err == nil:
		return file, true, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return file, false, nil
	default:
		return nil, false, errors.Join(err, file.Close())
	}
}

// settle checks and writes the record of a lock that was just taken; it closes the file unless it returns the lock.
func (f *Folder) settle(file *os.File, name string, claim Claim) (lock *Lock, err error) {
	defer func() {
		if lock == nil {
			err = errors.Join(err, file.Close())
		}
	}()
	same, err := f.current(file, name)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if !same {
		return nil, errReplaced
	}
	have, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if claim.Fence.Less(have.highest()) {
		return nil, fenced(name, claim.Fence, have.highest())
	}
	durable, err := f.write(file, have, Record{
		Seq: have.holder.Seq + 1, Fence: claim.Fence, PID: f.self.pid, Start: f.self.start, Operation: claim.Operation,
	})
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, space(err))
	}
	return &Lock{file: file, name: name, fence: claim.Fence, durable: durable}, nil
}

// write puts the record of the new holder into the file if it is another one, and returns what waits for the disk.
// Only a fence that rose has to get there: who held the lock last says nothing after a loss of power.
func (f *Folder) write(file *os.File, have state, want Record) (durable func() error, err error) {
	if have.holder.same(want) {
		return nothing, nil
	}
	if err := f.opts.Hook("record"); err != nil {
		return nil, err
	}
	switch {
	case have.empty:
		err = writeNew(file, want)
	default:
		err = writeHolder(file, want)
	}
	if err != nil || !have.empty && have.holder.Fence == want.Fence {
		return nothing, err
	}
	var synced error
	done := make(chan struct{})
	go func() { // Release waits for it
		defer close(done)
		synced = f.opts.Hook("sync-record")
		if synced == nil {
			synced = retry(func() error { return unix.Fdatasync(int(file.Fd())) })
		}
		if synced == nil && have.empty {
			synced = f.dir.Sync()
		}
	}()
	return func() error { <-done; return synced }, nil
}

func nothing() error { return nil }

// current reports whether the file is the one that stands in the folder.
func (f *Folder) current(file *os.File, name string) (bool, error) {
	var have, named unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &have); err != nil {
		return false, err
	}
	if have.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, fmt.Errorf("is not a regular file: %w", driver.ErrInvalid)
	}
	err := unix.Fstatat(int(f.dir.Fd()), name+suffix, &named, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return have.Dev == named.Dev && have.Ino == named.Ino, err
}

// File is the descriptor that holds the lock. Pass it to a child process that writes on behalf of the holder
// (exec.Cmd.ExtraFiles): then the lock is held until the child has ended, too.
func (l *Lock) File() *os.File { return l.file }

// Overtaken returns driver.ErrFenced if a claim with a higher fence waits for this lock: the holder should stop what
// it does and release. It is a hint: nil proves nothing.
func (l *Lock) Overtaken() error {
	if wish, err := readWish(l.file); err == nil && l.fence.Less(wish.Fence) {
		return fenced(l.name, l.fence, wish.Fence)
	}
	return nil
}

// Touch makes the file look used now: Sweep keeps it for its whole time from here on.
func (l *Lock) Touch() error {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	return unix.UtimesNanoAt(int(l.file.Fd()), "", now, unix.AT_EMPTY_PATH)
}

// Durable waits until the fence is on the disk. Call it before the first effect.
func (l *Lock) Durable() error {
	if err := l.durable(); err != nil {
		return fmt.Errorf("lock %s: sync: %w", l.name, space(err))
	}
	return nil
}

// Release lets the lock go, once no child process has it any more, and waits as Durable does. It never unlocks: that
// would take the lock from children.
func (l *Lock) Release() error { return errors.Join(l.Durable(), l.file.Close()) }

// Last returns what the lock file says of its last holder, and whether there is a file.
func (f *Folder) Last(name string) (Record, bool, error) {
	if err := checkName(name); err != nil {
		return Record{}, false, err
	}
	fd, err := unix.Openat(int(f.dir.Fd()), name+suffix, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("lock %s: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name+suffix)
	have, err := readFile(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return Record{}, false, fmt.Errorf("lock %s: %w", name, err)
	}
	return have.holder, true, nil
}

func fenced(name string, have, seen driver.Fence) error {
	return fmt.Errorf("lock %s: fence %s, a claim with %s was here: %w", name, have, seen, driver.ErrFenced)
}

// checkName allows what driver.CheckToken allows, with dots inside.
func checkName(name string) error {
	for part := range strings.SplitSeq(name, ".") {
		if err := driver.CheckToken("lock name", part); err != nil {
			return err
		}
	}
	return nil
}

func space(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", driver.ErrNoSpace, err)
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
