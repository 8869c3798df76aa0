package assembly

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
)

// How much is enough. Beside these, some files must be free: a commit makes and removes some ten.
const (
	// fullBytes is when a disk is called full. A commit needs some hundred KiB beside the stream for a moment, and many of them are
	// under way when the first one is refused.
	fullBytes = 2 << 20
	// startBytes is what a start of the NATS server needs. It finishes the batch that it was about to write when it ended, and forgets what
	// does not find room: a commit would be there in part. 1 MiB is for its own files and the first writes of the nodes.
	startBytes = kvtx.MaxBytes + 1<<20
	// reserveBytes is what is kept for what frees room: a start of the NATS server, and some hundred deletions.
	reserveBytes = startBytes + 1<<20
	// againBytes is when the reserve is made again. What is left beside it is more than fullBytes, so that it does not go back and forth.
	againBytes = reserveBytes + fullBytes + 1<<20

	fullFiles = 64
)

// space is what is free on a disk.
type space struct {
	bytes int64
	files uint64 // all ones: as many as there is room for
	total int64  // what could be free
}

func (s space) enough(bytes int64) bool { return s.bytes >= bytes && s.files >= fullFiles }

func (s space) String() string {
	if s.files < fullFiles {
		return fmt.Sprintf("%v and %d files free", block.Bytes(s.bytes), s.files)
	}
	return fmt.Sprintf("%v free", block.Bytes(s.bytes))
}

// disk is the disk of the data directory: how much is free, and the reserve, a file that holds room for what frees room. Whatever fills the
// disk, such as the hosts that write to their volumes, would take a room that is given up early: the reserve is given up only when
// something needs it.
type disk struct {
	dir    string
	name   string // of the file system: its device and where it is mounted
	log    *slog.Logger
	mu     sync.Mutex  // of the changes of the reserve
	held   atomic.Bool // the reserve is there
	broken *readiness  // why the NATS server writes no more
}

// openDisk makes the reserve, or gives it up where the start needs it. Errors: there is not enough room to start.
func openDisk(dir string, log *slog.Logger) (*disk, error) {
	d := &disk{dir: dir, name: mountOf(dir), log: log, broken: newReadiness("")}
	err := d.keep()
	if err != nil && !isFull(err) {
		return nil, fmt.Errorf("reserve of room: %w", err)
	}
	if !d.space().enough(startBytes) {
		d.release()
	}
	if !d.space().enough(startBytes) {
		return nil, d.startError()
	}
	return d, nil
}

// startError is why a start is impossible.
func (d *disk) startError() error {
	free, need := d.space(), ""
	if !free.enough(startBytes) {
		need = fmt.Sprintf(", a start needs %v", block.Bytes(startBytes))
	}
	return fmt.Errorf("the disk of %s (%s) is full: %s%s: "+makeRoom, d.dir, d.name, free, need)
}

func (d *disk) space() space {
	var fs unix.Statfs_t
	if unix.Statfs(d.dir, &fs) != nil { // what follows meets the error, too, and says which
		return space{1<<63 - 1, 1<<64 - 1, 1<<63 - 1}
	}
	free := space{int64(fs.Bavail) * fs.Bsize, fs.Ffree, int64(fs.Blocks) * fs.Bsize}
	if fs.Files == 0 {
		free.files = 1<<64 - 1
	}
	return free
}

// full says that there is no room but the reserve, or not even that, and what to do. A reserve that was given up is made again as soon as
// there is room for it: what is refused is refused for what is free at that moment.
func (d *disk) full() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	free := d.space()
	if !d.held.Load() && free.enough(againBytes) {
		if d.broken.get() != nil {
			return nil // the start of the server comes first
		}
		err := d.keep()
		if err == nil {
			return nil
		}
		if !isFull(err) {
			return fmt.Errorf("the disk of %s (%s) has %s, but the reserve of room cannot be made: %w", d.dir, d.name, free, err)
		}
		free = d.space() // something else was faster
	}
	if d.held.Load() && free.enough(fullBytes) {
		return nil
	}
	if free.total < againBytes {
		return fmt.Errorf("the disk of %s (%s) is too small: it has %v, and %v must be free: make it larger; then it goes on by itself; "+
			"nothing that was acknowledged is lost", d.dir, d.name, block.Bytes(free.total), block.Bytes(againBytes))
	}
	return fmt.Errorf("the disk of %s (%s) is full: %s: delete volumes or snapshots, or make room on the disk until %v are free; then it goes on "+
		"by itself; nothing that was acknowledged is lost", d.dir, d.name, free, block.Bytes(againBytes))
}

// Short says why nothing that needs room may be accepted now, or returns nil.
func (d *disk) Short() error { return cmp.Or(d.full(), d.broken.get()) }

// Spare gives up the reserve, if there is no other room, for something that frees room.
func (d *disk) Spare() {
	if d.held.Load() && d.full() != nil {
		d.release()
	}
}

// reserve is the file's name in the data directory.
const reserve = "reserve"

// keep makes the reserve, all of it or nothing. What is there already needs no room. d.mu is held, or nobody else has d yet.
func (d *disk) keep() error {
	f, err := os.OpenFile(filepath.Join(d.dir, reserve), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveBytes)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.WriteAt(make([]byte, reserveBytes), 0)
	}
	if d.held.Store(err == nil); err != nil {
		d.remove()
	}
	return err
}

// release gives the reserve up.
func (d *disk) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held.Store(false)
	d.remove()
}

func (d *disk) remove() {
	if err := os.Remove(filepath.Join(d.dir, reserve)); err != nil && !os.IsNotExist(err) {
		d.log.Error("reserve of room not given up", "error", err)
	}
}

// mountOf names the file system of a directory, such as "/dev/sda1 on /srv".
func mountOf(dir string) string {
	table, err := os.ReadFile("/proc/self/mountinfo") // proc(5): … mount point … - type source …
	if err != nil {
		return "file system unknown"
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var source, point string
	for line := range strings.Lines(string(table)) {
		left, right, _ := strings.Cut(line, " - ")
		of, from := strings.Fields(left), strings.Fields(right)
		if len(of) < 5 || len(from) < 2 {
			continue
		}
		at := plain.Replace(of[4])
		inside := at == "/" || dir == at || strings.HasPrefix(dir, at+"/")
		if inside && len(at) >= len(point) { // the last one of a place is on top
			source, point = plain.Replace(from[1]), at
		}
	}
	return cmp.Or(source, "unknown") + " on " + cmp.Or(point, "/")
}
