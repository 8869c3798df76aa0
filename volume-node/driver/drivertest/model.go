package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// worldBytes is the size of the volumes in tests: some extents, an end that no block size divides.
const worldBytes = 1<<18 + 777

// model is what must be on the storage: contents by thing.
type model map[driver.Ref][]byte

func (m model) clone() model { return maps.Clone(m) } // contents are never changed in place

// bench is one storage with a driver on it, and the model of what it holds.
type bench struct {
	t    *testing.T
	spec string
	d    driver.Driver
	want model
	rev  atomic.Uint64 // fences that were given out
}

func openBench(t *testing.T, spec string, env Env) *bench {
	t.Helper()
	d, err := opener(t.Context(), spec, env)
	if err != nil {
		t.Fatalf("open %s: %v", spec, err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return &bench{t: t, spec: spec, d: d, want: model{}}
}

func openFresh(t *testing.T, cfg Config, env Env) *bench {
	t.Helper()
	return openBench(t, cfg.Fresh(t), env)
}

// fence returns a fence above all that were given out.
func (b *bench) fence() driver.Fence { return driver.Fence{Rev: b.rev.Add(1)} }

func (b *bench) call(operation string) driver.Call {
	return driver.Call{Operation: operation, Fence: b.fence()}
}

// must makes a step that has to succeed.
func (b *bench) must(s Step) {
	b.t.Helper()
	if s.Operation == "" {
		s.Operation = "op-setup"
	}
	if s.Fence == (driver.Fence{}) {
		s.Fence = b.fence()
	}
	if err := s.do(b.t.Context(), b.d, s.call()); err != nil {
		b.t.Fatalf("%s(%s) = %v", s.Method, s.target(), err)
	}
}

// expect fails unless the error matches.
func (b *bench) expect(what string, err, want error) {
	b.t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		b.t.Errorf("%s = %v, want %v", what, err, want)
	}
}

// volume is a volume of the model.
func (b *bench) volume(id driver.VolumeID) driver.Volume {
	return driver.Volume{ID: id, Bytes: int64(len(b.want[id.Ref()]))}
}

// write writes into a volume as a host does, in the storage and in the model.
func (b *bench) write(id driver.VolumeID, at int64, data []byte) {
	b.t.Helper()
	src, err := b.d.Source(b.t.Context(), b.volume(id))
	if err != nil {
		b.t.Fatalf("Source(%s) = %v", id, err)
	}
	file, err := os.OpenFile(src.Path, os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = file.WriteAt(data, at)
	if err := errors.Join(err, file.Close()); err != nil {
		b.t.Fatal(err)
	}
	content := bytes.Clone(b.want[id.Ref()])
	copy(content[at:], data)
	b.want[id.Ref()] = content
}

// scatter writes a pattern over a volume: at its begin, its end, and in pieces between, with holes.
func (b *bench) scatter(id driver.VolumeID, seed uint64) {
	b.t.Helper()
	size := int64(len(b.want[id.Ref()]))
	random := rand.New(rand.NewPCG(seed, 1))
	for _, at := range []int64{0, 4096, 100_000, size / 2, size*3/4 + 13, size - 500} {
		if at < 0 || at >= size {
			continue
		}
		piece := make([]byte, min(int64(random.IntN(8_000)+1), size-at))
		for i := range piece {
			piece[i] = byte(random.Uint32() | 1) // never zero: a hole cannot be taken for it
		}
		b.write(id, at, piece)
	}
}

// read reads a volume as a host does.
func read(ctx context.Context, d driver.Driver, v driver.Volume) ([]byte, error) {
	src, err := d.Source(ctx, v)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(src.Path)
	if err != nil {
		return nil, err
	}
	content := make([]byte, src.Bytes)
	if n, reading := file.ReadAt(content, 0); int64(n) < src.Bytes {
		err = fmt.Errorf("volume %s: %d bytes could be read, Source says %d: %w", v.ID, n, src.Bytes, reading)
	}
	return content, errors.Join(err, file.Close())
}

// verify compares everything on the storage with the model. Contents of snapshots are seen in volumes made from them.
func (b *bench) verify(when string) {
	b.t.Helper()
	b.verifyList(when)
	ctx := b.t.Context()
	for ref, want := range b.want {
		id := driver.VolumeID(ref.ID)
		if ref.Kind == driver.KindSnapshot {
			id = driver.VolumeID("check-" + ref.ID)
			snap := driver.Snapshot{ID: driver.SnapshotID(ref.ID), Volume: "v", Bytes: int64(len(want))}
			if err := b.d.CreateFromSnapshot(ctx, b.call("op-check"), driver.Volume{ID: id, Bytes: snap.Bytes}, snap); err != nil {
				b.t.Errorf("%s: volume of %s: %v", when, ref, err)
				continue
			}
		}
		got, err := read(ctx, b.d, driver.Volume{ID: id, Bytes: int64(len(want))})
		if err != nil {
			b.t.Errorf("%s: %s: %v", when, ref, err)
		} else if at := differ(got, want); at >= 0 {
			b.t.Errorf("%s: %s: %d bytes, want %d; the first byte that differs is at %d", when, ref, len(got), len(want), at)
		}
		if ref.Kind == driver.KindSnapshot {
			if err := b.d.DeleteVolume(ctx, b.call("op-check"), id); err != nil {
				b.t.Errorf("%s: %v", when, err)
			}
		}
	}
}

// differ returns where two contents differ first, or -1.
func differ(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// verifyList compares names and sizes only, and so also that no temporary is left.
func (b *bench) verifyList(when string) {
	b.t.Helper()
	got, err := list(b.t.Context(), b.d)
	if err != nil {
		b.t.Errorf("%s: List = %v", when, err)
		return
	}
	want := map[driver.Ref]int64{}
	for ref, content := range b.want {
		want[ref] = int64(len(content))
	}
	if !maps.Equal(got, want) {
		b.t.Errorf("%s: the storage holds %s, want %s", when, describe(got), describe(want))
	}
}

func list(ctx context.Context, d driver.Driver) (map[driver.Ref]int64, error) {
	got := map[driver.Ref]int64{}
	err := d.List(ctx, func(o driver.Object) error {
		got[o.Ref] = o.Bytes
		return nil
	})
	return got, err
}

func describe(things map[driver.Ref]int64) string {
	lines := make([]string, 0, len(things))
	for ref, n := range things {
		lines = append(lines, fmt.Sprintf("%s (%d bytes)", ref, n))
	}
	slices.Sort(lines)
	return "[" + strings.Join(lines, ", ") + "]"
}

// grown returns content with zeros up to size.
func grown(content []byte, size int64) []byte {
	return append(bytes.Clone(content), make([]byte, size-int64(len(content)))...)
}

// createVolume makes an empty volume in storage and model.
func (b *bench) createVolume(id driver.VolumeID, size int64) {
	b.t.Helper()
	b.must(Step{Method: driver.MethodCreateVolume, Volume: driver.Volume{ID: id, Bytes: size}})
	b.want[id.Ref()] = make([]byte, size)
}

// createSnapshot makes a snapshot in storage and model.
func (b *bench) createSnapshot(id driver.SnapshotID, of driver.VolumeID) driver.Snapshot {
	b.t.Helper()
	s := driver.Snapshot{ID: id, Volume: of, Bytes: int64(len(b.want[of.Ref()]))}
	b.must(Step{Method: driver.MethodCreateSnapshot, Snapshot: s})
	b.want[id.Ref()] = b.want[of.Ref()]
	return s
}

// restore makes a volume from a snapshot in storage and model.
func (b *bench) restore(id driver.VolumeID, from driver.Snapshot) {
	b.t.Helper()
	b.must(Step{Method: driver.MethodCreateFromSnapshot, Volume: driver.Volume{ID: id, Bytes: from.Bytes}, Snapshot: from})
	b.want[id.Ref()] = b.want[from.ID.Ref()]
}
