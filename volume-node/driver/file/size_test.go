package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
)

// TestAFileThatWasCutIsRefusedInWords cuts the files of a volume and of a snapshot, as a repair of the file system or a
// careless hand does.
func TestAFileThatWasCutIsRefusedInWords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir, file.Options{})
	ctx := t.Context()
	v, larger := driver.Volume{ID: "v", Bytes: 1 << 20}, driver.Volume{ID: "copy", Bytes: 2 << 20}
	s := driver.Snapshot{ID: "s", Volume: "v", Bytes: v.Bytes}
	if err := errors.Join(d.CreateVolume(ctx, call(1), v), d.CreateSnapshot(ctx, call(1), s)); err != nil {
		t.Fatal(err)
	}
	volume, snapshot := filepath.Join(dir, "volumes", "v"), filepath.Join(dir, "snapshots", "s")
	if err := errors.Join(os.Truncate(volume, 4096), os.Truncate(snapshot, 8192)); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error, words ...string) {
		t.Helper()
		if !errors.Is(err, driver.ErrSize) {
			t.Errorf("%s = %v, want ErrSize", what, err)
			return
		}
		for _, word := range append(words, "1048576") {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s = %q, want words with %s", what, err, word)
			}
		}
	}
	_, err := d.Source(ctx, v)
	refused("Source", err, volume, "4096")
	refused("CloneVolume", d.CloneVolume(ctx, call(1), larger, v), volume, "4096")
	refused("CreateSnapshot", d.CreateSnapshot(ctx, call(1), driver.Snapshot{ID: "s2", Volume: "v", Bytes: v.Bytes}), volume, "4096")
	refused("ExtendVolume", d.ExtendVolume(ctx, call(1), v, larger.Bytes), volume, "4096")
	refused("CreateFromSnapshot", d.CreateFromSnapshot(ctx, call(1), larger, s), snapshot, "8192")
	refused("RevertVolume", d.RevertVolume(ctx, call(1), v, s), snapshot, "8192")
	if st, err := os.Stat(volume); err != nil || st.Size() != 4096 {
		t.Errorf("the volume's file after refusals: %v, %v, want it as it was", st, err)
	}
	left := tree(t, filepath.Join(dir, "volumes"))
	if len(left) != 2 { // the folder and v
		t.Errorf("the folder of volumes holds %q, want v alone", left)
	}
	// A snapshot that is whole makes the volume whole again.
	if err := errors.Join(os.Truncate(snapshot, s.Bytes), d.RevertVolume(ctx, call(1), v, s)); err != nil {
		t.Errorf("RevertVolume of a volume that was cut = %v", err)
	}
	if _, err := d.Source(ctx, v); err != nil {
		t.Errorf("Source of a volume that was reverted = %v", err)
	}
}
