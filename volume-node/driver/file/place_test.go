package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
)

const (
	markerFile = "scoria-backend.json"
	idOne      = "KQZPEXMRLSDHJ4WFEA2UT7VNBC"
)

// tree is the names below a directory.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// refused opens a directory that must be refused with the words, and not be changed.
func refused(t *testing.T, watch, path string, opts file.Options, words ...string) {
	t.Helper()
	before := tree(t, watch)
	d, err := file.Open(path, opts)
	if err == nil {
		_ = d.Close()
		t.Errorf("Open(%s) did, want it refused with %q", path, words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("Open(%s) = %v, want %q in it", path, err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("Open(%s) = %q, want one sentence", path, err)
	}
	if after := tree(t, watch); !slices.Equal(before, after) {
		t.Errorf("Open(%s) was refused and left\n%q, before there was\n%q", path, after, before)
	}
}

func TestDirectoryThatWasServedIsNeverMadeAnew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make  func(dir string) error
		words []string
	}{
		"missing": {func(dir string) error { return os.Remove(dir) }, []string{"does not exist", idOne}},
		"empty, as a mount point is": {func(string) error { return nil },
			[]string{"has no " + markerFile, idOne, "not mounted", `write the file again: {"format":1,"identity":"` + idOne + `"}`}},
		"of another backend": {func(dir string) error { return serve(dir, `{"format":1,"identity":"OTHER"}`+"\n") },
			[]string{"has identity OTHER", "identity " + idOne, "path is wrong", "new backend name"}},
		"marker not written to its end": {func(dir string) error { return serve(dir, `{"format":1,"ide`) }, []string{"damaged"}},
		"marker without identity":       {func(dir string) error { return serve(dir, `{"format":1}`+"\n") }, []string{"damaged"}},
		"marker with a strange identity": {func(dir string) error { return serve(dir, `{"format":1,"identity":"a.b"}`+"\n") },
			[]string{"damaged"}},
		"no folder of volumes": {func(dir string) error {
			return errors.Join(serve(dir, `{"format":1,"identity":"`+idOne+`"}`+"\n"), os.Remove(filepath.Join(dir, "volumes")))
		}, []string{"has no folder volumes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			above := t.TempDir()
			dir := filepath.Join(above, "backend")
			if err := errors.Join(os.Mkdir(dir, 0o700), c.make(dir)); err != nil {
				t.Fatal(err)
			}
			refused(t, above, dir, file.Options{Known: file.Known{Served: true, Identity: idOne}}, append(c.words, dir)...)
		})
	}
}

// serve makes what a backend leaves in its directory.
func serve(dir, marker string) error {
	errs := []error{os.WriteFile(filepath.Join(dir, markerFile), []byte(marker), 0o600)}
	for _, name := range []string{"volumes", "snapshots", "locks"} {
		errs = append(errs, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	return errors.Join(errs...)
}

func TestDirectoryThatWasServedIsOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made := open(t, dir, file.Options{}).Info().Identity
	for _, known := range []file.Known{{Served: true, Identity: made}, {Served: true}} {
		if got := open(t, dir, file.Options{Known: known}).Info().Identity; got != made {
			t.Errorf("identity %q with %+v, want %q", got, known, made)
		}
	}
	refused(t, dir, t.TempDir(), file.Options{Known: file.Known{Served: true}}, "has no "+markerFile, "was served before")
}

func TestNestedDirectoriesAreRefused(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	outer := filepath.Join(top, "outer")
	open(t, outer, file.Options{})
	for _, inside := range []string{"inner", "volumes", "volumes/inner", ".inner"} {
		refused(t, top, filepath.Join(outer, inside), file.Options{}, "lies inside "+outer, outer)
	}
	link := filepath.Join(top, "link")
	if err := os.Symlink(filepath.Join(outer, "snapshots"), link); err != nil {
		t.Fatal(err)
	}
	refused(t, top, filepath.Join(link, "inner"), file.Options{}, "lies inside "+outer)
	for _, name := range []string{"volumes", ".hidden", "some"} {
		round := filepath.Join(top, "round-"+name)
		if err := os.Mkdir(round, 0o700); err != nil {
			t.Fatal(err)
		}
		open(t, filepath.Join(round, name), file.Options{})
		refused(t, top, round, file.Options{}, "holds "+filepath.Join(round, name))
	}
}

// TestPathThatIsNoDirectoryIsRefusedInWords is about settings that were written wrong.
func TestPathThatIsNoDirectoryIsRefusedInWords(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	plain, dangling := filepath.Join(top, "plain"), filepath.Join(top, "dangling")
	if err := errors.Join(os.WriteFile(plain, nil, 0o600), os.Symlink(filepath.Join(top, "nowhere", "x"), dangling)); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string][]string{
		"/dev/null":                        {"/dev/null is not a directory"},
		plain:                              {"is not a directory", plain},
		filepath.Join(plain, "backend"):    {"a part of that path is a file", plain},
		filepath.Join(top, "no", "parent"): {filepath.Join(top, "no") + " does not exist", "mount"},
		dangling:                           {dangling, "link to what does not exist"},
	} {
		refused(t, top, path, file.Options{}, words...)
	}
}

func TestDirectoryWithoutPermissionIsRefusedInWords(t *testing.T) {
	t.Parallel()
	needRoot(t)
	top, err := os.MkdirTemp("/tmp", "scoria-nobody-") // above t.TempDir others may not look
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(top) }()
	served := filepath.Join(top, "served")
	open(t, served, file.Options{})
	if err := errors.Join(os.Chmod(top, 0o755), os.Mkdir(filepath.Join(top, "closed"), 0o700), os.Mkdir(filepath.Join(top, "readable"), 0o755)); err != nil {
		t.Fatal(err)
	}
	got := map[string]error{}
	asNobody(t, func() {
		for _, name := range []string{"new", "closed", "readable", "closed/new", "served"} {
			_, got[name] = file.Open(filepath.Join(top, name), file.Options{})
		}
	})
	for name, err := range got {
		if err == nil || !strings.Contains(err.Error(), "may not use it: change its owner or its mode") || !strings.Contains(err.Error(), filepath.Join(top, name)) {
			t.Errorf("Open(%s) as nobody = %v, want words about permission", name, err)
		}
	}
}

// asNobody calls do on a thread that may on the file system what nobody may. The thread must not end: children that other
// tests have started from it would be killed with it.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	runtime.LockOSThread()
	if _, err := unix.SetfsuidRetUid(65534); err != nil {
		t.Fatal(err)
	}
	do()
	_, err := unix.SetfsuidRetUid(0)
	if now, _ := unix.SetfsuidRetUid(-1); err != nil || now != 0 {
		t.Fatalf("the thread is still user %d: %v", now, err)
	}
	runtime.UnlockOSThread()
}

func TestReadOnlyFileSystemIsRefusedInWords(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := mount(t, "tmpfs", "tmpfs", "ro")
	refused(t, dir, dir, file.Options{}, "can only be read", dir)
}

func TestFolderOnAFileSystemOfItsOwnIsRefused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	if err := open(t, dir, file.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "volumes")
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(folder, unix.MNT_DETACH) }()
	refused(t, dir, dir, file.Options{}, "volumes is on a file system of its own")
}

// effects are all calls; each must return an error for a directory that is not the one that was opened.
func effects(t *testing.T, d *file.Driver) map[string]error {
	t.Helper()
	ctx, c := t.Context(), call(2)
	v, s := driver.Volume{ID: "new", Bytes: 4096}, driver.Snapshot{ID: "snap", Volume: "old", Bytes: 4096}
	_, look := d.Look(ctx, driver.VolumeID("old").Ref())
	old := driver.Volume{ID: "old", Bytes: 4096}
	_, source := d.Source(ctx, old)
	_, capacity := d.Capacity(ctx)
	return map[string]error{
		"CreateVolume": d.CreateVolume(ctx, c, v), "CloneVolume": d.CloneVolume(ctx, c, v, old),
		"CreateSnapshot": d.CreateSnapshot(ctx, c, s), "CreateFromSnapshot": d.CreateFromSnapshot(ctx, c, v, s),
		"ExtendVolume": d.ExtendVolume(ctx, c, old, 8192), "RevertVolume": d.RevertVolume(ctx, c, old, s),
		"DeleteVolume": d.DeleteVolume(ctx, c, "old"), "DeleteSnapshot": d.DeleteSnapshot(ctx, c, s), "RaiseFence": d.RaiseFence(ctx, c, v.ID.Ref()),
		"List": d.List(ctx, func(driver.Object) error { return nil }), "Cleanup": d.Cleanup(ctx, func(string) bool { return true }),
		"Look": look, "Source": source, "Capacity": capacity,
	}
}

func requireStopped(t *testing.T, d *file.Driver, dir string) {
	t.Helper()
	for what, err := range effects(t, d) {
		if err == nil || !strings.Contains(err.Error(), "is not the one that was opened") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s = %v, want words that the directory is not the one that was opened", what, err)
		}
		if !errors.Is(err, driver.ErrAway) || errors.Is(err, driver.ErrNotFound) || errors.Is(err, driver.ErrUnknown) {
			t.Errorf("%s = %v, want ErrAway, and nothing said of the thing", what, err)
		}
	}
}

func TestNothingIsDoneOnceTheDirectoryWasReplaced(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(dir, away string) error{
		"moved": os.Rename,
		"another in its place": func(dir, away string) error {
			return errors.Join(os.Rename(dir, away), os.Mkdir(dir, 0o700), serve(dir, `{"format":1,"identity":"OTHER"}`+"\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			dir, away := filepath.Join(top, "backend"), filepath.Join(top, "away")
			d := open(t, dir, file.Options{})
			if err := d.CreateVolume(t.Context(), call(1), driver.Volume{ID: "old", Bytes: 4096}); err != nil {
				t.Fatal(err)
			}
			if err := replace(dir, away); err != nil {
				t.Fatal(err)
			}
			before := tree(t, top)
			requireStopped(t, d, dir)
			if after := tree(t, top); !slices.Equal(before, after) {
				t.Errorf("calls that were refused left\n%q, before there was\n%q", after, before)
			}
			marker, kept := filepath.Join(away, markerFile), filepath.Join(top, "kept")
			if err := errors.Join(os.RemoveAll(dir), os.Rename(marker, kept), os.Rename(away, dir)); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Capacity(t.Context()); !errors.Is(err, driver.ErrAway) || !strings.Contains(err.Error(), "has no "+markerFile) {
				t.Errorf("Capacity of the directory that came back without its identity = %v, want ErrAway", err)
			}
			if err := os.Rename(kept, filepath.Join(dir, markerFile)); err != nil {
				t.Fatal(err)
			}
			if err := d.ExtendVolume(t.Context(), call(3), driver.Volume{ID: "old", Bytes: 4096}, 8192); err != nil {
				t.Errorf("ExtendVolume after the directory is back = %v", err)
			}
		})
	}
}

// TestNothingIsMadeUnderAFileSystemThatWasUnmounted lets the file system go while the driver has it open.
func TestNothingIsMadeUnderAFileSystemThatWasUnmounted(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	d, err := file.Open(dir, file.Options{})
	if err == nil {
		err = d.CreateVolume(t.Context(), call(1), driver.Volume{ID: "old", Bytes: 4096})
	}
	if err := errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	requireStopped(t, d, dir)
	if below := tree(t, dir); len(below) != 1 {
		t.Errorf("the mount point holds %q, want nothing", below)
	}
	known := file.Known{Served: true, Identity: d.Info().Identity}
	refused(t, dir, dir, file.Options{Known: known}, "has no "+markerFile, known.Identity)
}

// TestACopyThatIsUnderWayDoesNotLandInADirectoryThatWasReplaced moves the directory in the middle of a copy.
func TestACopyThatIsUnderWayDoesNotLandInADirectoryThatWasReplaced(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir, away := filepath.Join(top, "backend"), filepath.Join(top, "away")
	moved := false
	d := open(t, dir, file.Options{Reflink: file.ReflinkNever, Hook: func(point string) error {
		if point != "copy" || moved {
			return nil
		}
		moved = true
		return os.Rename(dir, away)
	}})
	if err := d.CreateVolume(t.Context(), call(1), driver.Volume{ID: "old", Bytes: 4096}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "volumes", "old"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	err := d.CloneVolume(t.Context(), call(1), driver.Volume{ID: "new", Bytes: 4096}, driver.Volume{ID: "old", Bytes: 4096})
	if !moved || err == nil || !strings.Contains(err.Error(), "is not the one that was opened") {
		t.Errorf("CloneVolume = %v (moved in the middle: %v), want words that the directory is not the one that was opened", err, moved)
	}
	if left, err := os.ReadDir(filepath.Join(away, "volumes")); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v (%v), want the old volume alone", left, err)
	}
}
