package file_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/drivertest"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
)

func TestMain(m *testing.M) { drivertest.Main(m, openTest) }

// openTest opens REFLINK:DIRECTORY, or withPool before it.
func openTest(_ context.Context, spec string, env drivertest.Env) (driver.Driver, error) {
	spec, pool := strings.CutPrefix(spec, withPool)
	reflink, path, _ := strings.Cut(spec, ":")
	opts := file.Options{Reflink: file.Reflink(reflink), LockLimit: env.LockLimit, Hook: env.Hook, Log: env.Log}
	if pool {
		opts.Pool, opts.Pools = "p", free{}
	}
	return file.Open(path, opts)
}

// fresh makes directories below dir.
func fresh(dir string, reflink file.Reflink) func(*testing.T) string {
	var n atomic.Int64
	return func(t *testing.T) string {
		path := filepath.Join(dir, fmt.Sprint(n.Add(1)))
		t.Cleanup(func() { _ = os.RemoveAll(path) })
		return string(reflink) + ":" + path
	}
}

// TestConformanceByCopies runs with sparse copies on a tmpfs; without root on what holds temporary directories.
func TestConformanceByCopies(t *testing.T) {
	t.Parallel()
	cfg := drivertest.Config{Fresh: fresh(memory(t), file.ReflinkNever), CannotSmall: "to mount a small file system needs root"}
	if os.Geteuid() == 0 {
		cfg.Small = func(t *testing.T) drivertest.Small {
			return small(mount(t, "tmpfs", "tmpfs", "size=12m"), file.ReflinkNever)
		}
	}
	drivertest.Run(t, cfg)
}

// TestConformanceOnTemporaryDirectory runs the contents on the disk of this machine, whatever its file system is.
func TestConformanceOnTemporaryDirectory(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Config{Fresh: fresh(t.TempDir(), file.ReflinkAuto), Short: true})
}

// TestConformanceWithTheLockOfAPool runs the contents with one more lock, which always is free.
func TestConformanceWithTheLockOfAPool(t *testing.T) {
	t.Parallel()
	dir := fresh(t.TempDir(), file.ReflinkAuto)
	drivertest.Run(t, drivertest.Config{Fresh: func(t *testing.T) string { return withPool + dir(t) }, Short: true})
}

// TestConformanceOnXFS runs on a loop-mounted XFS, with reflinks.
func TestConformanceOnXFS(t *testing.T) {
	t.Parallel()
	dir := mountXFS(t, "1G")
	drivertest.Run(t, drivertest.Config{
		Fresh: fresh(dir, file.ReflinkAlways),
		Small: func(t *testing.T) drivertest.Small { return small(mountXFS(t, "300M"), file.ReflinkAlways) },
	})
}

// TestFullXFSByCopies fills an XFS on which copies need room.
func TestFullXFSByCopies(t *testing.T) {
	t.Parallel()
	needRoot(t)
	drivertest.RunFull(t, drivertest.Config{
		Small: func(t *testing.T) drivertest.Small { return small(mountXFS(t, "300M"), file.ReflinkNever) },
	})
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("XFS is not tested: to mount it needs root")
	}
}

// mountXFS makes an XFS with reflinks in a file and mounts it. As root it must work; others skip.
func mountXFS(t *testing.T, size string) string {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath("mkfs.xfs"); err != nil {
		t.Fatal("mkfs.xfs is missing: install the package xfsprogs (apt-get install xfsprogs, or make deps)")
	}
	image := filepath.Join(memory(t), "xfs.img")
	run(t, "truncate", "-s", size, image)
	run(t, "mkfs.xfs", "-q", "-m", "reflink=1", image)
	device := run(t, "losetup", "-f", "--show", image)
	t.Cleanup(func() { run(t, "losetup", "-d", device) })
	return mount(t, "xfs", device, "")
}

// memory is a directory in memory if this process may mount one: the suite is about what happens, not about the disk.
func memory(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return t.TempDir()
	}
	return mount(t, "tmpfs", "tmpfs", "size=1500m")
}

func mount(t *testing.T, kind, device, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(device, dir, kind, 0, options); err != nil {
		t.Fatalf("mount %s on %s: %v", device, dir, err)
	}
	t.Cleanup(func() {
		// A child that another test is just starting has this test's files open until it runs its own program.
		again := time.NewTicker(time.Millisecond)
		defer again.Stop()
		err := unix.Unmount(dir, 0)
		for end := time.Now().Add(10 * time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = unix.Unmount(dir, 0) {
			<-again.C
		}
		if err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// small is a directory on a small file system that a ballast file can fill.
func small(dir string, reflink file.Reflink) drivertest.Small {
	ballast := filepath.Join(dir, ".ballast")
	return drivertest.Small{
		Spec: string(reflink) + ":" + filepath.Join(dir, "backend"),
		Fill: func(t *testing.T) {
			t.Helper()
			f, err := os.Create(ballast)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			at := int64(0)
			for grew := true; grew; { // a sync gives back what was set aside for files that grow
				grew = false
				for piece := int64(64 << 20); piece >= 4096; {
					if err := unix.Fallocate(int(f.Fd()), 0, at, piece); err != nil {
						piece /= 2
						continue
					}
					at, grew = at+piece, true
				}
				if err := unix.Syncfs(int(f.Fd())); err != nil {
					t.Fatal(err)
				}
			}
			if at == 0 {
				t.Fatalf("%s could not be filled", dir)
			}
		},
		Free: func(t *testing.T) {
			t.Helper()
			// Its room is wanted now, even if a child that is being started has the file open.
			if err := errors.Join(os.Truncate(ballast, 0), os.Remove(ballast)); err != nil {
				t.Fatal(err)
			}
		},
	}
}
