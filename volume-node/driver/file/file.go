// Package file is a backend in a directory: volumes and snapshots are sparse files.
//
// # Nouns
//
//	DIR/scoria-backend.json   marker: the format of the directory, and its identity
//	DIR/volumes/<id>          a volume; its size is the file's
//	DIR/snapshots/<id>        a snapshot, a file like a volume
//	DIR/locks/<id>.lock       the lock of a volume (package nodelock); of a snapshot: <id>.snapshot.lock. Cleanup removes
//	                          it when the thing has been gone for two hours
//	.tmp-<operation>.<id>     in volumes or snapshots: a thing that is being made
//
// Where the file system has it (XFS, btrfs), copies are reflinks: they take a moment and share their blocks. Elsewhere
// (ext4, tmpfs) they are sparse copies: only what was written is read and written again.
//
// # Invariants
//
//   - A thing appears under its name by a rename, after its content and size were synced, and the folder is synced
//     before the call returns. What stands under a name is whole.
//   - A thing is written only by who holds its lock, with a fence that is not lower than any before. So only processes
//     of one node may use a directory at a time: fencing class node. Several processes of that node may.
//   - A temporary that is left behind carries its operation in its name: the same operation removes it and begins anew,
//     Cleanup removes it once the operation has ended. Its writer, should it still live, cannot rename it any more.
//   - A directory that was served before is opened as it is, by its identity: nothing is made in another one. While it is
//     open, no call has an effect once something else stands at its path, or at that of one of its folders: driver.ErrAway,
//     until it is back with its identity.
//   - A directory is neither inside that of another backend nor round one, and on one file system.
//   - IDs are checked before they become names, names are opened relative to folders opened at the start, links are
//     never followed, and what is not a regular file is not touched.
//   - Reading a source takes no lock.
//
// # What it does not do
//
// It does not record of which volume a snapshot is, reserves no room for thin volumes, and does not merge the extents
// of volumes that have many (it warns: the cost of a reflink follows their number). Deleted space may come back later
// than the call returns, as the file system likes.
package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/lock"
	"github.com/scoria-storage/scoria/volume-node/driver/nodelock"
)

// Kind is the name of this kind of backend.
const Kind = "file"

// Reflink says whether copies are reflinks.
type Reflink string

// The choices.
const (
	ReflinkAuto   Reflink = "auto"   // where the file system has it
	ReflinkNever  Reflink = "never"  // always sparse copies
	ReflinkAlways Reflink = "always" // a file system without it is refused
)

// Options of a Driver. The zero value is usable.
type Options struct {
	Reflink          Reflink       // empty: ReflinkAuto
	LockLimit        time.Duration // how long a lock's overtaken holder has before it is ended; zero: nodelock.DefaultLimit
	Oversubscription float64       // zero: DefaultOversubscription
	Log              *slog.Logger  // nil: discard
	Known            Known         // what must be there
	// Pool is the name of the pool whose lock each call takes beside the file lock of its thing; empty: none. Pools takes it.
	Pool  string
	Pools driver.PoolLocks
	// Hook, if set, is called before each change, with the name of the change, also from several goroutines at once; its
	// error is returned in place of the change. For tests of crashes and faults.
	Hook func(point string) error
}

// DefaultOversubscription is how many times the room of a directory may be promised to thin volumes.
const DefaultOversubscription = 20

// warnExtents is the number of extents above which copies of a volume are noticeably slow (30,000: about a second).
const warnExtents = 10_000

// keepLocks is how long lock files outlive their thing: longer than the markers of deleted records live (1 h).
const keepLocks = 2 * time.Hour

// Factory makes file drivers.
func Factory() driver.Factory {
	return driver.Factory{
		Settings: []driver.Setting{
			{Key: "path", Want: "a directory that only this backend uses", Required: true},
			{Key: "reflink", Want: "auto, never or always", Default: string(ReflinkAuto), Check: checkReflink},
			{Key: "lock-limit", Want: "a time with its unit, such as 30s", Default: nodelock.DefaultLimit.String(), Check: driver.CheckDuration},
			{Key: "lock", Want: "node (a file lock for each volume) or pool (and one call at a time, on all nodes)", Default: string(driver.LockNode), Check: checkLock},
			{Key: "oversubscription", Want: "a number from 1 to 1000: how many times the room may be promised", Default: strconv.Itoa(DefaultOversubscription), Check: checkRatio},
		},
		Open: openSpec,
	}
}

func openSpec(_ context.Context, spec driver.Spec, env driver.Env) (driver.Driver, error) {
	path, _ := spec.Option("path")
	reflink, _ := spec.Option("reflink")
	opts := Options{
		Reflink: Reflink(reflink), LockLimit: spec.Duration("lock-limit", 0), Log: env.Logger().With("backend", spec.Name),
		Known: Known{Served: env.Known, Identity: env.Identity},
	}
	if class, _ := spec.Option("lock"); driver.LockClass(class) == driver.LockPool {
		opts.Pool, opts.Pools = spec.Name, env.Pools
	}
	if ratio, set := spec.Option("oversubscription"); set {
		opts.Oversubscription, _ = strconv.ParseFloat(ratio, 64) // checked by the registry
	}
	d, err := Open(path, opts)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func checkReflink(value string) error {
	switch Reflink(value) {
	case ReflinkAuto, ReflinkNever, ReflinkAlways:
		return nil
	}
	return errors.New("that is none of them")
}

func checkLock(value string) error {
	switch driver.LockClass(value) {
	case driver.LockNode, driver.LockPool:
		return nil
	case driver.LockNone: // two workers of one operation would write one volume
	}
	return errors.New("that is none of them")
}

func checkRatio(value string) error {
	ratio, err := strconv.ParseFloat(value, 64)
	if err != nil || !(ratio >= 1 && ratio <= 1000) {
		return errors.New("that is none")
	}
	return nil
}

// Driver keeps volumes as files of one directory.
type Driver struct {
	path      string // absolute
	identity  string
	volumes   folder
	snapshots folder
	locksAt   place
	away      atomic.Bool // the directory was not there when it was last looked for
	locks     lock.Locker
	reflink   bool // the file system has it and it is wanted
	info      driver.Info
	opts      Options
	log       *slog.Logger
}

var _ driver.Driver = (*Driver)(nil)

// Open uses the directory at path, and makes it if it is missing and nothing is known of it. It refuses one that is not
// the one that is known, that holds other things, that is inside another backend's or round it, and one that a newer
// release made.
func Open(path string, opts Options) (*Driver, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if opts.Pool != "" && opts.Pools == nil {
		return nil, fmt.Errorf("lock=%s: this program has no locks of pools", driver.LockPool)
	}
	if opts.Oversubscription == 0 {
		opts.Oversubscription = DefaultOversubscription
	}
	if opts.Hook == nil {
		opts.Hook = func(string) error { return nil }
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	d := &Driver{
		path: path, opts: opts, log: opts.Log,
		volumes:   folder{kind: driver.KindVolume, hook: opts.Hook},
		snapshots: folder{kind: driver.KindSnapshot, hook: opts.Hook},
	}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Driver) open() (err error) {
	if d.identity, err = settleDirectory(d.path, d.opts.Known); err != nil {
		return err
	}
	if err := d.openPlaces(); err != nil {
		return err
	}
	folder, err := nodelock.Open(filepath.Join(d.path, locksName), nodelock.Options{Limit: d.opts.LockLimit, Log: d.log, Hook: d.opts.Hook})
	if err != nil {
		return err
	}
	d.locks = lock.NewNode(folder)
	if d.opts.Pool != "" {
		d.locks = lock.NewPool(folder, d.opts.Pool, d.opts.Pools)
	}
	if d.reflink, err = d.wantReflink(); err != nil {
		return err
	}
	d.info = d.describe()
	return nil
}

// wantReflink decides whether copies are reflinks.
func (d *Driver) wantReflink() (bool, error) {
	if d.opts.Reflink == ReflinkNever {
		return false, nil
	}
	err := d.volumes.probeReflink()
	switch {
	case err == nil:
		return true, nil
	case d.opts.Reflink == ReflinkAlways:
		return false, fmt.Errorf("directory %s: reflink=always, but the file system there has no reflinks (XFS and btrfs have): %w", d.path, err)
	case !noReflink(err):
		d.log.Warn("cannot find out whether the file system has reflinks, copies will be slow", "path", d.path, "error", err)
	}
	return false, nil
}

// Close gives up the directory.
func (d *Driver) Close() error {
	err := errors.Join(d.volumes.close(), d.snapshots.close(), d.locksAt.close())
	if d.locks != nil {
		err = errors.Join(err, d.locks.Close())
	}
	return err
}

// Info says what the directory can do.
func (d *Driver) Info() driver.Info { return d.info }

func (d *Driver) describe() driver.Info {
	note := "copies are sparse copies: they take as long as what was written needs, and are refused while the source is attached"
	if d.reflink {
		note = "copies are reflinks"
	}
	locks := map[driver.Method]driver.Lock{}
	for _, m := range driver.Writing() {
		locks[m] = d.locks.Needs()
	}
	return driver.Info{
		Kind:     Kind,
		Identity: d.identity,
		Fencing:  driver.FencingNode,
		Capabilities: driver.Capabilities{
			CloneWhileOpen: d.reflink, Revert: true, Thin: true, OnlineExtend: true, KeepsData: true, Lists: true,
		},
		Locks: locks,
		Notes: []string{note},
	}
}

// Capacity asks the file system of the directory.
func (d *Driver) Capacity(ctx context.Context) (driver.Capacity, error) {
	if err := d.here(); err != nil {
		return driver.Capacity{}, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(d.volumes.fd(), &st); err != nil {
		return driver.Capacity{}, fmt.Errorf("directory %s: %w", d.path, err)
	}
	unit := st.Frsize
	return driver.Capacity{
		TotalBytes:       int64(st.Blocks) * unit,
		FreeBytes:        int64(st.Bavail) * unit,
		Oversubscription: d.opts.Oversubscription,
	}, ctx.Err()
}

// folder returns the folder of a kind that was checked.
func (d *Driver) folder(kind driver.Kind) folder {
	if kind == driver.KindSnapshot {
		return d.snapshots
	}
	return d.volumes
}

const snapshotLock = ".snapshot"

// lockName returns the name of a thing's lock.
func lockName(ref driver.Ref) string {
	if ref.Kind == driver.KindSnapshot {
		return ref.ID + snapshotLock
	}
	return ref.ID
}

// lockedRef is the inverse of lockName.
func lockedRef(name string) driver.Ref {
	if id, ok := strings.CutSuffix(name, snapshotLock); ok {
		return driver.SnapshotID(id).Ref()
	}
	return driver.VolumeID(name).Ref()
}

// Source returns the path of the volume's file.
func (d *Driver) Source(ctx context.Context, v driver.Volume) (driver.Source, error) {
	if err := v.Check(); err != nil {
		return driver.Source{}, err
	}
	if err := d.here(); err != nil {
		return driver.Source{}, err
	}
	st, err := d.volumes.stat(string(v.ID))
	if err == nil {
		err = d.volumes.expect(string(v.ID), st.Size, v.Bytes)
	}
	if err != nil {
		return driver.Source{}, err
	}
	return driver.Source{Path: filepath.Join(d.path, folderName(driver.KindVolume), string(v.ID)), Bytes: st.Size}, ctx.Err()
}
