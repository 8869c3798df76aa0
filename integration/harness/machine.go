package harness

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// XFS makes an XFS with reflinks of the size, such as 16G, in a sparse file in memory, and mounts it. As root it must work;
// for others the test is skipped.
func XFS(t testing.TB, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("XFS is not tested: to mount it needs root")
	}
	if _, err := exec.LookPath("mkfs.xfs"); err != nil {
		t.Fatal("mkfs.xfs is missing: `make deps` installs it (Debian package xfsprogs)")
	}
	memory := mount(t, "tmpfs", "size=4g", "tmpfs")
	image := filepath.Join(memory, "xfs.img")
	command(t, "truncate", "-s", size, image)
	command(t, "mkfs.xfs", "-q", "-K", "-m", "reflink=1", image)
	return mount(t, "xfs", "loop", image) // the loop device goes with the mount
}

// Tmpfs mounts a file system in memory that is full with size, such as 16m. Where it may not mount, the test is skipped.
func Tmpfs(t testing.TB, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "scoria-tmpfs-")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil { // without a program: no child holds the test's files for a moment
		_ = os.Remove(dir)
		t.Skipf("a full disk is not tested: to mount a small one is not permitted: %v", err)
	}
	unmountAtEnd(t, dir)
	return dir
}

// Free is how many bytes can still be written in the directory's file system.
func Free(t testing.TB, dir string) int64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Bavail) * fs.Bsize
}

// Fill makes the file as large as it takes to leave so many bytes in its file system.
func Fill(t testing.TB, file string, leave int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, chunk := range []int64{1 << 20, 64 << 10, 4096} {
		for Free(t, filepath.Dir(file))-chunk >= leave {
			end, err := f.Seek(0, io.SeekEnd)
			if err == nil {
				err = unix.Fallocate(int(f.Fd()), 0, end, chunk)
			}
			if errors.Is(err, unix.ENOSPC) {
				break // another writer took it
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func mount(t testing.TB, kind, options, source string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "scoria-"+kind+"-")
	if err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-t", kind, "-o", options, source, dir)
	unmountAtEnd(t, dir)
	return dir
}

func unmountAtEnd(t testing.TB, dir string) {
	t.Helper()
	t.Cleanup(func() {
		// A process that was killed a moment ago may have its files open until it is reaped.
		err := unix.Unmount(dir, 0)
		for end := time.Now().Add(10 * time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = unix.Unmount(dir, 0) {
			time.Sleep(5 * time.Millisecond)
		}
		if err = errors.Join(err, os.Remove(dir)); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// State is the state of a process as the kernel shows it: R, S, D, T (stopped), Z; 0 if there is none.
func State(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	return strings.TrimSpace(rest)[0]
}

// Locks reports whether the process holds the flock of the file.
func Locks(pid int, path string) bool {
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(fds)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(fds, e.Name())); err != nil || target != path {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, e.Name()))
		if err == nil && strings.Contains(string(info), "FLOCK") {
			return true
		}
	}
	return false
}

// Metric sums the series of a metric, as served at url, whose labels contain all the texts.
func Metric(t testing.TB, url, name string, labels ...string) float64 {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if !ok || !strings.HasPrefix(series, name+"{") || !containsAll(series, labels) {
			continue
		}
		n, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
		if err != nil {
			t.Fatalf("metric %s: %v", line, err)
		}
		sum += n
	}
	return sum
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
