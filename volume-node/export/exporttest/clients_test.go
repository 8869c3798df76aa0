package exporttest_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
)

// tool returns a runner of a program that hosts have.
func tool(t *testing.T, name, debianPackage string) func(args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		const text = "%s is missing: apt-get install %s"
		if os.Geteuid() == 0 || os.Getenv("CI") != "" {
			t.Fatalf(text, name, debianPackage)
		}
		t.Skipf(text, name, debianPackage)
	}
	return func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}

const size = 32 << 20

// attach exports a new volume from a new server.
func attach(t *testing.T, readOnly bool) (*exporttest.Local, export.Connection, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	l := exporttest.Start(t)
	c, err := l.Export(t.Context(), export.Request{
		Attachment: "2f9a3c4e-attachment", Volume: "v", Fence: export.Fence{Rev: 1}, Path: path, Bytes: size, ReadOnly: readOnly,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, c, path
}

func TestQEMUIOReadsAndWrites(t *testing.T) {
	t.Parallel()
	qemuIO := tool(t, "qemu-io", "qemu-utils")
	l, c, path := attach(t, false)
	out := qemuIO("-f", "raw", "-c", "write -P 0xab 1M 64k", "-c", "write -f -P 0xcd 3M 4k", "-c", "write -z 1M 4k",
		"-c", "write -z -u 2M 64k", "-c", "discard 4M 64k", "-c", "flush", "-c", "read -P 0 1M 4k", "-c", "read -P 0xab 1028k 60k",
		"-c", "read -P 0xcd 3M 4k", c.URI)
	if strings.Contains(out, "failed") {
		t.Errorf("qemu-io: %s", out)
	}
	data, err := os.ReadFile(path)
	if err != nil || data[1<<20+4096] != 0xab || data[3<<20] != 0xcd || data[1<<20] != 0 {
		t.Errorf("the file has other content (%v)", err)
	}
	if l.Syncs() == 0 {
		t.Error("no sync reached the file")
	}
}

func TestQEMUImgSeesSizeAndHoles(t *testing.T) {
	t.Parallel()
	qemuImg := tool(t, "qemu-img", "qemu-utils")
	qemuIO := tool(t, "qemu-io", "qemu-utils")
	_, c, _ := attach(t, false)
	qemuIO("-f", "raw", "-c", "write -P 1 8M 1M", c.URI)
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	decode(t, qemuImg("info", "--output=json", "-f", "raw", c.URI), &info)
	if info.Size != size {
		t.Errorf("qemu-img info: %d bytes, want %d", info.Size, size)
	}
	var extents []struct {
		Start, Length int64
		Data, Zero    bool
	}
	decode(t, qemuImg("map", "--output=json", "-f", "raw", c.URI), &extents)
	if len(extents) != 3 || !extents[1].Data || extents[1].Start != 8<<20 || extents[1].Length != 1<<20 || extents[0].Data || !extents[2].Zero {
		t.Errorf("qemu-img map: %+v, want 1 MiB of data at 8 MiB", extents)
	}
	raw := filepath.Join(t.TempDir(), "copy")
	qemuImg("convert", "-f", "raw", "-O", "raw", c.URI, raw)
	qemuImg("compare", "-f", "raw", "-F", "raw", c.URI, raw)
}

func TestNBDInfoSeesTheExport(t *testing.T) {
	t.Parallel()
	nbdinfo := tool(t, "nbdinfo", "libnbd-bin")
	_, c, _ := attach(t, true)
	var info struct {
		Protocol   string
		Structured bool
		Exports    []struct {
			Name        string `json:"export-name"`
			Description string
			Size        int64    `json:"export-size"`
			ReadOnly    bool     `json:"is_read_only"`
			MultiConn   bool     `json:"can_multi_conn"`
			Flush       bool     `json:"can_flush"`
			FUA         bool     `json:"can_fua"`
			Contexts    []string `json:"contexts"`
			Largest     int64    `json:"block_size_maximum"`
		}
	}
	decode(t, nbdinfo("--json", c.URI), &info)
	if info.Protocol != "newstyle-fixed" || !info.Structured || len(info.Exports) != 1 {
		t.Fatalf("nbdinfo: %+v", info)
	}
	e := info.Exports[0]
	if e.Name != c.Name || e.Size != size || !e.ReadOnly || !e.MultiConn || !e.Flush || !e.FUA || e.Description != "volume v" ||
		len(e.Contexts) != 1 || e.Contexts[0] != "base:allocation" || e.Largest != 32<<20 {
		t.Errorf("nbdinfo: %+v", e)
	}
	if out := nbdinfo("--list", "nbd+unix:///?socket="+c.Socket); !strings.Contains(out, c.Name) {
		t.Errorf("nbdinfo --list: %s", out)
	}
}

func TestNBDCopyBothWays(t *testing.T) {
	t.Parallel()
	nbdcopy := tool(t, "nbdcopy", "libnbd-bin")
	_, c, path := attach(t, false)
	data := make([]byte, size)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := 4 << 20; i < 20<<20; i++ {
		data[i] = byte(rnd.Uint32())
	}
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.WriteFile(from, data, 0o600); err != nil {
		t.Fatal(err)
	}
	nbdcopy("--flush", from, c.URI)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the volume differs from what was copied to it (%v)", err)
	}
	nbdcopy(c.URI, to)
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the copy differs from the volume (%v)", err)
	}
}

func TestFileSystemOnAVolume(t *testing.T) {
	t.Parallel()
	qemuImg := tool(t, "qemu-img", "qemu-utils")
	mkfs := tool(t, "mkfs.ext4", "e2fsprogs")
	fsck := tool(t, "fsck.ext4", "e2fsprogs")
	_, c, path := attach(t, false)
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	mkfs("-q", "-F", image)
	qemuImg("convert", "-n", "-f", "raw", "-O", "raw", image, c.URI)
	fsck("-f", "-n", path)
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
