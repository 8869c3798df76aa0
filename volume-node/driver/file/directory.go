package file

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

const (
	markerName = "scoria-backend.json"
	locksName  = "locks"
	format     = 1
)

// marker is the content of the marker file: one line of JSON.
type marker struct {
	Format   int    `json:"format"`
	Identity string `json:"identity"`
}

func folderName(kind driver.Kind) string { return string(kind) + "s" }

// folderNames are the folders of a directory.
func folderNames() []string {
	return []string{folderName(driver.KindVolume), folderName(driver.KindSnapshot), locksName}
}

// settleDirectory finds the directory with its marker and its folders, and returns its identity. Those of a backend that
// is not known yet are made where they are missing; several processes may do so at once.
func settleDirectory(path string, known Known) (identity string, err error) {
	if err := checkApart(path); err != nil {
		return "", err
	}
	if err := reach(path, known); err != nil {
		return "", err
	}
	if known.Served {
		return known.find(path)
	}
	if err := checkOwn(path); err != nil {
		return "", err
	}
	m, err := settleMarker(filepath.Join(path, markerName))
	if err != nil {
		return "", pathError(path, err)
	}
	for _, name := range folderNames() {
		if err := os.Mkdir(filepath.Join(path, name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", pathError(path, err)
		}
	}
	return m.Identity, syncDirectory(path)
}

// reach finds the directory, and makes the one of a backend that is not known yet.
func reach(path string, known Known) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if known.Served {
			return known.refuse(path, "does not exist")
		}
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return pathError(path, err)
		}
		if err := syncDirectory(filepath.Dir(path)); err != nil {
			return pathError(path, err)
		}
		info, err = os.Stat(path)
	}
	switch {
	case err != nil:
		return pathError(path, err)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory: give the path of one that only this backend uses", path)
	}
	return nil
}

// checkOwn refuses a directory that has no marker and holds things: they are not of this backend.
func checkOwn(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return pathError(path, err)
	}
	var foreign string
	for _, e := range entries {
		switch name := e.Name(); {
		case name == markerName:
			return nil
		case name == "lost+found", strings.HasPrefix(name, "."):
		default:
			foreign = name
		}
	}
	if foreign != "" {
		return fmt.Errorf("directory %s holds %q, which is not Scoria's: choose an empty directory, or make %s yourself if this is meant (an empty file)",
			path, foreign, markerName)
	}
	return nil
}

// checkApart refuses a directory inside that of another backend, or round one.
func checkApart(path string) error {
	at := resolve(path)
	for dir := filepath.Dir(at); ; dir = filepath.Dir(dir) {
		if marked(dir) {
			return fmt.Errorf("directory %s lies inside %s, which is the directory of a backend: choose one that is neither inside nor round another backend's",
				path, dir)
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	entries, _ := os.ReadDir(at) // what cannot be read is told elsewhere
	for _, e := range entries {
		if inside := filepath.Join(at, e.Name()); e.IsDir() && marked(inside) {
			return fmt.Errorf("directory %s holds %s, which is the directory of a backend: choose one that is neither inside nor round another backend's",
				path, inside)
		}
	}
	return nil
}

// resolve follows the links of a path, whose last part need not be there yet.
func resolve(path string) string {
	if at, err := filepath.EvalSymlinks(path); err == nil {
		return at
	}
	if up, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(up, filepath.Base(path))
	}
	return path // it cannot be made, for reasons that are told there
}

// marked reports whether the directory is one of a backend.
func marked(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, markerName))
	return err == nil && info.Mode().IsRegular()
}

// settleMarker reads the marker, and writes it if it is new or was not written to its end. The file's own lock keeps
// two processes from doing so at once.
func settleMarker(path string) (m marker, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return marker{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := retry(func() error { return unix.Flock(int(file.Fd()), unix.LOCK_EX) }); err != nil {
		return marker{}, fmt.Errorf("%s: lock: %w", markerName, err)
	}
	text, err := readMarker(file)
	if err != nil || strings.HasSuffix(text, "\n") {
		return parseMarker(text, err)
	}
	m = marker{Format: format, Identity: rand.Text()}
	line, err := m.line()
	if err != nil {
		return marker{}, err
	}
	if err := file.Truncate(0); err != nil {
		return marker{}, err
	}
	if _, err := file.WriteAt(line, 0); err != nil {
		return marker{}, err
	}
	return m, file.Sync()
}

func readMarker(file *os.File) (string, error) {
	text, err := io.ReadAll(io.LimitReader(file, 1<<16))
	return string(text), err
}

// line is the content of the file.
func (m marker) line() ([]byte, error) {
	text, err := json.Marshal(m)
	return append(text, '\n'), err
}

// parseMarker returns what was read, or why it was not or cannot be.
func parseMarker(text string, err error) (marker, error) {
	var m marker
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return marker{}, fmt.Errorf("%s is damaged: %w", markerName, err)
	}
	if m.Format > format {
		return marker{}, fmt.Errorf("it was written by a newer release (format %d, this one knows %d): start that release, or choose another directory", m.Format, format)
	}
	if m.Format < 1 {
		return marker{}, fmt.Errorf("%s is damaged: format %d", markerName, m.Format)
	}
	if err := driver.CheckToken("identity", m.Identity); err != nil {
		return marker{}, fmt.Errorf("%s is damaged: %w", markerName, err)
	}
	return m, nil
}

// pathError says in words why a path cannot be the directory of a backend.
func pathError(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s cannot be a directory, because a part of that path is a file: correct the path", path)
	case errors.Is(err, fs.ErrNotExist) && !exists(filepath.Dir(path)):
		return fmt.Errorf("directory %s cannot be made, because %s does not exist: make that one, mount its file system, or correct the path", path, filepath.Dir(path))
	case errors.Is(err, fs.ErrNotExist) && isLink(path):
		return fmt.Errorf("%s is a link to what does not exist: make that, mount its file system, or correct the path", path)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("directory %s is on a file system that can only be read: mount it for writing, or choose another directory", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("directory %s: user %d, as whom this process runs, may not use it: change its owner or its mode, or choose another directory", path, os.Geteuid())
	}
	return fmt.Errorf("directory %s: %w", path, space(err))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
