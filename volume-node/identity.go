package volumenode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// identityFile is the node's ID in its state directory.
const identityFile = "node.json"

// identityFormat is the newest format that this release reads and the one it writes.
const identityFormat = 1

type identityFields struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	ID      string `json:"id"`
}

// identity reads the node's ID from its state directory. The first process of the node makes it up, durably, before it
// is used anywhere; two that begin at the same moment agree on one.
func identity(dir, name string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", &SettingError{Name: "state", Value: dir, Want: err.Error()}
	}
	path := filepath.Join(dir, identityFile)
	id, err := readIdentity(path, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := writeIdentity(dir, path, identityFields{Version: identityFormat, Name: name, ID: uuid.NewString()}); err != nil {
		return "", fmt.Errorf("identity of node %s in %s: %w", name, dir, err)
	}
	return readIdentity(path, name)
}

func readIdentity(path, name string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var f identityFields
	err = json.Unmarshal(data, &f)
	if f.Version > identityFormat {
		return "", fmt.Errorf("%s has format %d, this release reads up to %d: it belongs to a newer release", path, f.Version, identityFormat)
	}
	if err != nil || f.ID == "" {
		return "", fmt.Errorf("%s is damaged: it must hold the node's name and ID; restore it from a backup, or remove it and give the node a new name", path)
	}
	if f.Name != name {
		return "", &SettingError{Name: "name", Value: name,
			Want: fmt.Sprintf("the state directory %s belongs to node %s: use that name, or another directory", filepath.Dir(path), f.Name)}
	}
	return f.ID, nil
}

// writeIdentity makes the file whole and durable, or leaves the one that another process made meanwhile.
func writeIdentity(dir, path string, f identityFields) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, identityFile+".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if _, err = tmp.Write(append(data, '\n')); err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
