package file_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
)

func open(t *testing.T, dir string, opts file.Options) *file.Driver {
	t.Helper()
	d, err := file.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func call(rev uint64) driver.Call {
	return driver.Call{Operation: "op-1", Fence: driver.Fence{Rev: rev}}
}

func TestDirectoryOfANewerReleaseIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "scoria-backend.json"), []byte(`{"format":2,"identity":"x","more":true}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := file.Open(dir, file.Options{})
	if err == nil || !strings.Contains(err.Error(), "newer release") || !strings.Contains(err.Error(), dir) {
		t.Errorf("Open = %v, want words about a newer release and the directory", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "volumes")); !errors.Is(err, os.ErrNotExist) {
		t.Error("Open changed a directory that it refused")
	}
}

func TestDirectoryOfFormat1IsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	golden, err := os.ReadFile("testdata/scoria-backend-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "scoria-backend.json"), golden, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := open(t, dir, file.Options{}).Info().Identity; got != "KQZPEXMRLSDHJ4WFEA2UT7VNBC" {
		t.Errorf("Identity = %q, want that of the marker", got)
	}
	if now, err := os.ReadFile(filepath.Join(dir, "scoria-backend.json")); err != nil || !bytes.Equal(now, golden) {
		t.Errorf("the marker is %q (%v), want it unchanged", now, err)
	}
}

func TestDirectoryWithForeignThingsIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.doc"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := file.Open(dir, file.Options{})
	if err == nil || !strings.Contains(err.Error(), "thesis.doc") || !strings.Contains(err.Error(), "empty directory") {
		t.Errorf("Open = %v, want words that name thesis.doc and say what to do", err)
	}
}

func TestManyOpenANewDirectoryAtOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backend")
	const many = 16
	identities := make([]string, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			d, err := file.Open(dir, file.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			identities[i] = d.Info().Identity
			_ = d.Close()
		})
	}
	wg.Wait()
	for _, id := range identities {
		if id == "" || id != identities[0] {
			t.Fatalf("identities %q, want one", identities)
		}
	}
}

func TestMarkerThatWasNotWrittenToItsEndIsWrittenAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "scoria-backend.json"), []byte(`{"format":1,"ide`), 0o600); err != nil {
		t.Fatal(err)
	}
	first := open(t, dir, file.Options{}).Info().Identity
	if again := open(t, dir, file.Options{}).Info().Identity; again != first || first == "" {
		t.Errorf("identities %q and %q, want one", first, again)
	}
}

// TestForeignThingsInTheFoldersAreNeitherUsedNorHidden puts what is no file of Scoria's under names of volumes.
func TestForeignThingsInTheFoldersAreNeitherUsedNorHidden(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir, file.Options{})
	secret := filepath.Join(t.TempDir(), "secret")
	volume := func(name string) string { return filepath.Join(dir, "volumes", name) }
	err := errors.Join(
		os.WriteFile(secret, []byte("secret"), 0o600),
		os.Symlink(secret, volume("link")),
		os.Mkdir(volume("folder"), 0o700),
		syscall.Mkfifo(volume("pipe"), 0o600),
		os.WriteFile(volume("no token.txt"), nil, 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, id := range []driver.VolumeID{"link", "folder", "pipe"} {
		for what, err := range map[string]error{
			"CreateVolume": d.CreateVolume(ctx, call(1), driver.Volume{ID: id, Bytes: 6}),
			"ExtendVolume": d.ExtendVolume(ctx, call(1), driver.Volume{ID: id, Bytes: 6}, 1<<20),
			"CloneVolume":  d.CloneVolume(ctx, call(1), driver.Volume{ID: "copy", Bytes: 1 << 20}, driver.Volume{ID: id, Bytes: 6}),
			"Source":       func() error { _, err := d.Source(ctx, driver.Volume{ID: id, Bytes: 6}); return err }(),
			"Look":         func() error { _, err := d.Look(ctx, id.Ref()); return err }(),
		} {
			if err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%s(%s) = %v, want words that it is not a regular file", what, id, err)
			}
		}
	}
	if text, err := os.ReadFile(secret); err != nil || string(text) != "secret" {
		t.Errorf("the link's target is %q, %v", text, err)
	}
	foreign := map[string]bool{}
	err = d.List(ctx, func(o driver.Object) error {
		foreign[o.ID] = o.Kind == driver.KindForeign
		return nil
	})
	if err != nil || len(foreign) != 4 || !foreign["link"] || !foreign["folder"] || !foreign["pipe"] || !foreign["no token.txt"] {
		t.Errorf("List = %v, %v, want four foreign things", foreign, err)
	}
}

func TestLeftoverOfTheSameOperationIsRedone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir, file.Options{})
	left := filepath.Join(dir, "volumes", ".tmp-op-1.v")
	other := filepath.Join(dir, "volumes", ".tmp-op-2.v")
	if err := errors.Join(os.WriteFile(left, []byte("old data"), 0o600), os.WriteFile(other, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := d.CreateVolume(t.Context(), call(1), driver.Volume{ID: "v", Bytes: 8}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "volumes", "v")); err != nil || !bytes.Equal(text, make([]byte, 8)) {
		t.Errorf("volume = %q, %v, want zeros", text, err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the leftover of the operation: %v, want none", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("the temporary of another operation: %v, want it untouched", err)
	}
}

func TestDeleteRemovesTheLeftoverOfItsOperation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir, file.Options{})
	left := filepath.Join(dir, "snapshots", ".tmp-op-1.s")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.DeleteSnapshot(t.Context(), call(1), driver.Snapshot{ID: "s", Volume: "v", Bytes: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the leftover after the delete: %v, want none", err)
	}
}

func TestCleanupKeepsLocksOfThingsAndOfLateWorkers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir, file.Options{})
	ctx := t.Context()
	for _, id := range []driver.VolumeID{"there", "young", "gone"} {
		if err := d.CreateVolume(ctx, call(1), driver.Volume{ID: id, Bytes: 1}); err != nil {
			t.Fatal(err)
		}
	}
	lock := func(name string) string { return filepath.Join(dir, "locks", name+".lock") }
	long := time.Now().Add(-3 * time.Hour)
	for _, id := range []driver.VolumeID{"young", "gone"} {
		if err := os.Chtimes(lock(string(id)), long, long); err != nil { // last locked long ago, deleted now
			t.Fatal(err)
		}
		if err := d.DeleteVolume(ctx, call(1), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chtimes(lock("there"), long, long), os.Chtimes(lock("gone"), long, long)); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; {
		if err := d.Cleanup(ctx, func(string) bool { return true }); err != nil {
			t.Fatal(err)
		}
		// A child that another test is just starting holds the lock until it runs its own program.
		if _, err := os.Stat(lock("gone")); err != nil || time.Since(begin) > 10*time.Second {
			break
		}
	}
	for name, want := range map[string]bool{"there": true, "young": true, "gone": false} {
		if _, err := os.Stat(lock(name)); (err == nil) != want {
			t.Errorf("lock file of %s: %v, want there: %v", name, err, want)
		}
	}
}

func TestCopiesStaySparse(t *testing.T) {
	t.Parallel()
	const size = 1 << 30
	d := open(t, t.TempDir(), file.Options{Reflink: file.ReflinkNever})
	ctx := t.Context()
	if err := d.CreateVolume(ctx, call(1), driver.Volume{ID: "v", Bytes: size}); err != nil {
		t.Fatal(err)
	}
	src, err := d.Source(ctx, driver.Volume{ID: "v", Bytes: size})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(src.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("x"), size/2)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	var totals []int64
	c := call(1)
	c.Progress = func(_, total int64) { totals = append(totals, total) }
	if err := d.CloneVolume(ctx, c, driver.Volume{ID: "w", Bytes: 2 * size}, driver.Volume{ID: "v", Bytes: size}); err != nil {
		t.Fatal(err)
	}
	o, err := d.Look(ctx, driver.VolumeID("w").Ref())
	if err != nil || o.Bytes != 2*size || o.UsedBytes > 1<<20 {
		t.Errorf("Look(copy) = %+v, %v, want %d bytes of which few are used", o, err, 2*size)
	}
	if len(totals) == 0 || totals[0] > 1<<20 {
		t.Errorf("Progress counts to %v, want what was written only", totals)
	}
}

func TestManyExtentsAreWarnedOf(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes 10,000 extents")
	}
	var out bytes.Buffer
	d := open(t, filepath.Join(mountXFS(t, "300M"), "backend"), file.Options{
		Reflink: file.ReflinkAlways, Log: slog.New(slog.NewTextHandler(&out, nil)),
	})
	ctx := t.Context()
	const pieces, apart = 10_001, 16 << 10
	if err := d.CreateVolume(ctx, call(1), driver.Volume{ID: "v", Bytes: pieces * apart}); err != nil {
		t.Fatal(err)
	}
	src, err := d.Source(ctx, driver.Volume{ID: "v", Bytes: pieces * apart})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(src.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for i := range int64(pieces) {
		if _, err := f.WriteAt([]byte{1}, i*apart); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.CreateSnapshot(ctx, call(1), driver.Snapshot{ID: "s", Volume: "v", Bytes: pieces * apart}); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "many extents") || !strings.Contains(text, fmt.Sprintf("extents=%d", pieces)) {
		t.Errorf("log = %q, want a warning with %d extents", text, pieces)
	}
}

func TestReflinkAlwaysIsRefusedWhereThereIsNone(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("to mount a file system without reflinks needs root")
	}
	_, err := file.Open(memory(t), file.Options{Reflink: file.ReflinkAlways})
	if err == nil || !strings.Contains(err.Error(), "no reflinks") {
		t.Errorf("Open on tmpfs with reflink=always = %v, want words", err)
	}
}

// TestChangesAreMadeDurableInOrder holds the sequence: content, then fence, then the name, then the folder.
func TestChangesAreMadeDurableInOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var points []string
	d := open(t, t.TempDir(), file.Options{Reflink: file.ReflinkNever, Hook: func(point string) error {
		mu.Lock()
		defer mu.Unlock()
		points = append(points, point)
		return nil
	}})
	ctx := t.Context()
	v, s := driver.Volume{ID: "v", Bytes: 4096}, driver.Snapshot{ID: "s", Volume: "v", Bytes: 4096}
	for _, step := range []struct {
		name  string
		do    func() error
		order []string // points that must come in this order
	}{
		{"CreateVolume", func() error { return d.CreateVolume(ctx, call(1), v) }, []string{"truncate", "sync-file", "rename", "sync-folder"}},
		{"CreateVolume again", func() error { return d.CreateVolume(ctx, call(2), v) }, []string{"record", "sync-folder"}},
		{"CreateSnapshot", func() error { return d.CreateSnapshot(ctx, call(3), s) }, []string{"truncate", "sync-file", "rename", "sync-folder"}},
		{"RevertVolume", func() error { return d.RevertVolume(ctx, call(4), v, s) }, []string{"sync-record", "rename", "sync-folder"}},
		{"ExtendVolume", func() error { return d.ExtendVolume(ctx, call(5), driver.Volume{ID: "v", Bytes: 4096}, 8192) }, []string{"sync-record", "truncate", "sync-file"}},
		{"ExtendVolume again", func() error { return d.ExtendVolume(ctx, call(6), driver.Volume{ID: "v", Bytes: 4096}, 8192) }, []string{"sync-record", "sync-file"}},
		{"DeleteVolume", func() error { return d.DeleteVolume(ctx, call(7), "v") }, []string{"sync-record", "unlink", "sync-folder"}},
		{"DeleteVolume again", func() error { return d.DeleteVolume(ctx, call(8), "v") }, []string{"sync-record", "unlink", "sync-folder"}},
		{"DeleteSnapshot", func() error { return d.DeleteSnapshot(ctx, call(9), s) }, []string{"sync-record", "unlink", "sync-folder"}},
		{"RaiseFence", func() error { return d.RaiseFence(ctx, call(10), v.ID.Ref()) }, []string{"record", "sync-record"}},
	} {
		points = nil
		if err := step.do(); err != nil {
			t.Fatalf("%s = %v", step.name, err)
		}
		rest := points
		for _, want := range step.order {
			i := slices.Index(rest, want)
			if i < 0 {
				t.Errorf("%s made %q, want %q in this order", step.name, points, step.order)
				break
			}
			rest = rest[i+1:]
		}
	}
}
