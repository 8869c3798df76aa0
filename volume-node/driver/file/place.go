package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// place is a directory as it was when it was opened. It stays open, so that its inode is given to no other directory.
type place struct {
	dir  *os.File
	info fs.FileInfo
}

func openPlace(path string) (place, error) {
	dir, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return place{}, err
	}
	info, err := dir.Stat()
	if err != nil {
		return place{}, errors.Join(err, dir.Close())
	}
	return place{dir, info}, nil
}

// here returns an error if another directory, or none, stands at the path by now. Calls would go on in the one that was
// opened, wherever it is; but hosts and other processes of the node go by the path.
func (p place) here() error {
	now, err := os.Lstat(p.dir.Name())
	if err == nil && os.SameFile(now, p.info) {
		return nil
	}
	return fmt.Errorf("%w: directory %s is not the one that was opened: its file system was unmounted, or something took its place. "+
		"Nothing is done until it is back; if it has moved, start the node again with its path", driver.ErrAway, p.dir.Name())
}

func (p place) close() error {
	if p.dir == nil {
		return nil
	}
	return p.dir.Close()
}

// openPlaces opens the folders of the directory. They must be on its own file system: the identity stands for that one.
func (d *Driver) openPlaces() error {
	root, err := os.Stat(d.path)
	if err != nil {
		return pathError(d.path, err)
	}
	for name, p := range map[string]*place{
		folderName(driver.KindVolume): &d.volumes.place, folderName(driver.KindSnapshot): &d.snapshots.place, locksName: &d.locksAt,
	} {
		if *p, err = openPlace(filepath.Join(d.path, name)); err != nil {
			return pathError(d.path, err)
		}
		if device(p.info) != device(root) {
			return fmt.Errorf("directory %s: its folder %s is on a file system of its own: mount that one at the directory itself", d.path, name)
		}
	}
	return nil
}

func device(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Dev }

// here returns driver.ErrAway if the directory is not the one that was opened any more. One that was away is back when it is the
// same one again, with its identity.
func (d *Driver) here() error {
	for _, p := range []place{d.volumes.place, d.snapshots.place, d.locksAt} {
		if err := p.here(); err != nil {
			d.away.Store(true)
			return err
		}
	}
	if !d.away.Load() {
		return nil
	}
	if _, err := (Known{Served: true, Identity: d.identity}).find(d.path); err != nil {
		return fmt.Errorf("%w: %w", driver.ErrAway, err)
	}
	d.away.Store(false)
	return nil
}
