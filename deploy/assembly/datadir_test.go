package assembly

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataDirIsUsedByOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := openDataDir(dir, "1.0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(dir, "1.0"); err == nil || !strings.Contains(err.Error(), "another `scoria up` uses it") {
		t.Errorf("second open = %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDataDir(dir, "1.0")
	if err != nil {
		t.Fatalf("open again: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestDataDirIsNoFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{os.DevNull, file, filepath.Join(file, "below")} {
		if _, err := openDataDir(path, "1.0"); !IsSetting(err) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "want a directory") {
			t.Errorf("%s: %v, want a sentence about the setting data", path, err)
		}
	}
}

func TestDataDirOfANewerReleaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"format":2,"release":"9.0"}`: "release 9.0 made it",
		`{"other":true}`:               "not a data directory",
		`x`:                            "not a data directory",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, marker)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openDataDir(dir, "1.0"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
		if after, _ := os.ReadFile(path); string(after) != text {
			t.Errorf("%s was changed to %s", text, after)
		}
	}
}

// The golden file is never edited: it stands for those that earlier releases wrote.
func TestTheMarkerEqualsItsGoldenFile(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/scoria-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for range 2 { // it is written, then read
		d, err := openDataDir(dir, "0.1.0")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, marker)); err != nil || string(got) != string(golden) {
			t.Fatalf("%s is %s (%v), the golden file is %s", marker, got, err, golden)
		}
	}
}
