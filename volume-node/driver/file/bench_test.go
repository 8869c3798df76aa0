package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
)

// BenchmarkCreateFromSnapshot makes volumes of 10 GiB, 2.5 GiB of them written, from a snapshot; "bare" is the reflink
// with the syncs of file and folder that it cannot do without. It needs an XFS or btrfs with 4 GiB of room:
//
//	SCORIA_BENCH_DIR=/mnt/xfs go test -bench CreateFromSnapshot -benchtime 20x ./volume-node/driver/file
func BenchmarkCreateFromSnapshot(b *testing.B) {
	base := os.Getenv("SCORIA_BENCH_DIR")
	if base == "" {
		b.Skip("SCORIA_BENCH_DIR names no directory on a file system with reflinks")
	}
	dir := filepath.Join(base, fmt.Sprintf("bench-%d", os.Getpid()))
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	d, err := file.Open(dir, file.Options{Reflink: file.ReflinkAlways})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	const size, written, piece = 10 << 30, 5 << 29, 16 << 20
	ctx := b.Context()
	call := driver.Call{Operation: "op-bench", Fence: driver.Fence{Rev: 1}}
	if err := d.CreateVolume(ctx, call, driver.Volume{ID: "v", Bytes: size}); err != nil {
		b.Fatal(err)
	}
	source, err := d.Source(ctx, driver.Volume{ID: "v", Bytes: size})
	if err != nil {
		b.Fatal(err)
	}
	scatterPieces(b, source.Path, size, written, piece)
	snap := driver.Snapshot{ID: "s", Volume: "v", Bytes: size}
	if err := d.CreateSnapshot(ctx, call, snap); err != nil {
		b.Fatal(err)
	}
	n := 0 // over all runs: a name that is there already costs nothing
	b.Run("bare", func(b *testing.B) {
		for ; b.Loop(); n++ {
			bareReflink(b, filepath.Join(dir, "snapshots", "s"), filepath.Join(dir, "volumes"), fmt.Sprintf("bare%d", n))
		}
	})
	b.Run("driver", func(b *testing.B) {
		for ; b.Loop(); n++ {
			v := driver.Volume{ID: driver.VolumeID(fmt.Sprintf("v%d", n)), Bytes: size}
			if err := d.CreateFromSnapshot(ctx, call, v, snap); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// scatterPieces writes pieces at even distances and syncs.
func scatterPieces(b *testing.B, path string, size, written, piece int64) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	data := make([]byte, piece)
	for i := range data {
		data[i] = byte(i | 1)
	}
	n := written / piece
	for i := range n {
		if _, err := f.WriteAt(data, i*(size/n)); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}

func bareReflink(b *testing.B, src, dir, name string) {
	b.Helper()
	from, err := os.Open(src)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = to.Close() }()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		b.Fatal(err)
	}
	if err := to.Sync(); err != nil {
		b.Fatal(err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	if err := folder.Sync(); err != nil {
		b.Fatal(err)
	}
}
