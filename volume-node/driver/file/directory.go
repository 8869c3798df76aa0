package file

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// settleDirectory makes the directory, its marker and its folders where they are missing, and returns its identity.
// Several processes may do so at once.
func settleDirectory(path string) (identity string, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("directory of volumes: %w", space(err))
	}
	if err := checkOwn(path); err != nil {
		return "", err
	}
	m, err := settleMarker(filepath.Join(path, markerName))
	if err != nil {
		return "", fmt.Errorf("directory %s: %w", path, err)
	}
	for _, name := range []string{folderName(driver.KindVolume), folderName(driver.KindSnapshot), locksName} {
		if err := os.Mkdir(filepath.Join(path, name), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("directory of volumes: %w", space(err))
		}
	}
	return m.Identity, syncDirectory(path)
}

// checkOwn refuses a directory that has no marker and holds things that are not Scoria's.
func checkOwn(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("directory of volumes: %w", err)
	}
	var foreign string
	for _, e := range entries {
		switch name := e.Name(); {
		case name == markerName:
			return nil
		case name == "lost+found", strings.HasPrefix(name, "."), name == locksName,
			name == folderName(driver.KindVolume), name == folderName(driver.KindSnapshot):
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

// settleMarker reads the marker, and writes it if it is new or was not written to its end. The file's own lock keeps
// two processes from doing so at once.
func settleMarker(path string) (m marker, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return marker{}, space(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := retry(func() error { return unix.Flock(int(file.Fd()), unix.LOCK_EX) }); err != nil {
		return marker{}, fmt.Errorf("%s: lock: %w", markerName, err)
	}
	text, err := io.ReadAll(io.LimitReader(file, 1<<16))
	if err != nil {
		return marker{}, err
	}
	if strings.HasSuffix(string(text), "\n") {
		return parseMarker(text)
	}
	m = marker{Format: format, Identity: rand.Text()}
	text, err = json.Marshal(m)
	if err != nil {
		return marker{}, err
	}
	if err := file.Truncate(0); err != nil {
		return marker{}, err
	}
	if _, err := file.WriteAt(append(text, '\n'), 0); err != nil {
		return marker{}, space(err)
	}
	return m, file.Sync()
}

func parseMarker(text []byte) (marker, error) {
	var m marker
	if err := json.Unmarshal(text, &m); err != nil {
		return marker{}, fmt.Errorf("%s is damaged: %w", markerName, err)
	}
	if m.Format > format {
		return marker{}, fmt.Errorf("it was written by a newer release (format %d, this one knows %d): start that release, or choose another directory", m.Format, format)
	}
	if m.Format < 1 {
		return marker{}, fmt.Errorf("%s is damaged: format %d", markerName, m.Format)
	}
	return m, nil
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
