package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Known is what is known of the directory before it is opened. The zero value: nothing.
type Known struct {
	// Served: the backend was served before. Then the directory is opened as it is, and nothing is made in it.
	Served bool
	// Identity is that of a directory that was served before; empty: it was not recorded.
	Identity string
}

// find returns the identity of a directory that was served before, or refuses what is not that one.
func (k Known) find(path string) (string, error) {
	file, err := os.OpenFile(filepath.Join(path, markerName), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", k.refuse(path, "has no "+markerName)
	}
	if err != nil {
		return "", pathError(path, err)
	}
	m, err := parseMarker(readMarker(file))
	if err := errors.Join(err, file.Close()); err != nil {
		return "", pathError(path, err)
	}
	if k.Identity != "" && m.Identity != k.Identity {
		return "", k.refuse(path, "has identity "+m.Identity)
	}
	for _, name := range folderNames() {
		if info, err := os.Lstat(filepath.Join(path, name)); err != nil || !info.IsDir() {
			return "", k.refuse(path, "has no folder "+name)
		}
	}
	return m.Identity, nil
}

// refuse says that the directory is not the one that was served before, why, and what to do.
func (k Known) refuse(path, because string) error {
	was := "the backend was served before from a directory"
	if k.Identity != "" {
		was += " with identity " + k.Identity
	}
	text := fmt.Sprintf("directory %s %s, but %s. Its file system is not mounted, or the path is wrong: mount it, or correct the path; "+
		"a new directory needs a new backend name", path, because, was)
	if line, err := (marker{Format: format, Identity: k.Identity}).line(); err == nil && k.Identity != "" && strings.HasSuffix(because, markerName) {
		text += fmt.Sprintf(". If it is that directory and only its %s was lost, write the file again: %s", markerName, strings.TrimSpace(string(line)))
	}
	return errors.New(text)
}
