package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/scoria-storage/scoria/volume-node/export"
)

// recordVersion is the version of the format of records. A record of a newer one is refused.
const recordVersion = 1

// record is what a volume's file in the table says. It stays when the last export is gone, for the fence.
type record struct {
	Version int          `json:"version"`
	Volume  string       `json:"volume"`
	Fence   export.Fence `json:"fence"` // the highest seen
	// Path is where the volume's data was last seen: when it is gone for long, the record is forgotten. Empty: never seen.
	Path    string  `json:"path,omitempty"`
	Exports []entry `json:"exports"`
}

// entry is one export.
type entry struct {
	Attachment string `json:"attachment"`
	Path       string `json:"path"`
	Bytes      int64  `json:"bytes"`
	ReadOnly   bool   `json:"read_only"`
}

func (r record) find(attachment string) int {
	for i, e := range r.Exports {
		if e.Attachment == attachment {
			return i
		}
	}
	return -1
}

// table is the directory of records, one file a volume. A file is replaced as a whole or not at all.
type table struct{ dir string }

const (
	recordSuffix = ".json"
	tmpSuffix    = ".tmp"
)

func openTable(dir string) (table, error) {
	return table{dir}, os.MkdirAll(dir, 0o700)
}

// load returns all records, and for volumes whose record cannot be read the reason.
func (t table) load() (map[string]record, map[string]error, error) {
	files, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, nil, err
	}
	records, damaged := map[string]record{}, map[string]error{}
	for _, f := range files {
		volume, ok := strings.CutSuffix(f.Name(), recordSuffix)
		if !ok {
			if strings.HasSuffix(f.Name(), tmpSuffix) { // of a write that did not come to its end
				_ = os.Remove(filepath.Join(t.dir, f.Name()))
			}
			continue
		}
		r, err := t.read(volume)
		if err != nil {
			damaged[volume] = fmt.Errorf("the record of exports %s cannot be used: %w", t.file(volume), err)
			continue
		}
		records[volume] = r
	}
	return records, damaged, nil
}

func (t table) read(volume string) (record, error) {
	data, err := os.ReadFile(t.file(volume))
	if err != nil {
		return record{}, err
	}
	var r record
	switch err := json.Unmarshal(data, &r); {
	case err != nil:
		return record{}, err
	case r.Version != recordVersion:
		return record{}, fmt.Errorf("it has version %d, this release knows version %d", r.Version, recordVersion)
	case r.Volume != volume:
		return record{}, fmt.Errorf("it is of volume %q", r.Volume)
	}
	return r, nil
}

func (t table) file(volume string) string { return filepath.Join(t.dir, volume+recordSuffix) }

// write makes the record durable.
func (t table) write(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := filepath.Join(t.dir, r.Volume+tmpSuffix)
	err = writeSynced(tmp, append(data, '\n'))
	if err == nil {
		err = os.Rename(tmp, t.file(r.Volume))
	}
	if err == nil {
		err = syncDir(t.dir)
	}
	if err != nil {
		return fmt.Errorf("record of exports: %w", err)
	}
	return nil
}

// remove forgets a volume. It need not be durable: a record that comes back is removed again.
func (t table) remove(volume string) error {
	err := os.Remove(t.file(volume))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
