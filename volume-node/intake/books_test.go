package intake_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// books are what the records of volumes and snapshots, and the credits, add up to.
type books struct {
	*world
	use       records.Usage
	reserved  block.GiB
	children  map[block.VolumeID][]block.SnapshotID // as the volumes list them
	snapshots map[block.SnapshotID]block.VolumeID   // as the snapshots say
	want      map[string]int64                      // bytes of what the backend must have, by folder and ID; -1: it may be there
}

// requireBooks proves that quota, pool and backend are what the records say.
func (w *world) requireBooks() {
	w.t.Helper()
	b := &books{
		world: w, children: map[block.VolumeID][]block.SnapshotID{}, snapshots: map[block.SnapshotID]block.VolumeID{}, want: map[string]int64{},
	}
	b.must(w.Store.Scan(w.t.Context(), ">", b.add))
	q, _ := operationstest.Get[records.Quota](w.t, w.World, records.QuotaKey(project))
	if q.Use != b.use {
		w.t.Errorf("quota says %+v, records and credits %+v", q.Use, b.use)
	}
	if p, _ := operationstest.Get[records.Pool](w.t, w.World, records.PoolKey(backend)); p.AllocatedGiB != b.reserved {
		w.t.Errorf("pool says %d GiB, records %d", p.AllocatedGiB, b.reserved)
	}
	b.requireChildren()
	b.requireBackend()
}

func (b *books) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// add enters a record, and looks whether its status is settled.
func (b *books) add(e kvtx.Entry) error {
	switch class, _ := records.Classify(e.Key); class {
	case records.ClassVolume:
		v, err := records.Decode[block.Volume](e.Value)
		if err != nil {
			return err
		}
		b.use.Volumes, b.use.GiB, b.reserved = b.use.Volumes+1, b.use.GiB+v.ChargedGiB, b.reserved+v.ReservedGiB
		b.children[v.ID] = v.Snapshots
		b.want["volumes/"+string(v.ID)] = -1
		if v.Status == block.VolumeCreating {
			b.t.Errorf("volume %s is creating without an operation", v.ID)
		}
		if v.Status == block.VolumeAvailable {
			b.want["volumes/"+string(v.ID)] = v.SizeGiB.Bytes()
			if v.ReservedGiB != v.SizeGiB || v.ChargedGiB != v.SizeGiB {
				b.t.Errorf("volume %s has %d GiB, reserved %d, charged %d", v.ID, v.SizeGiB, v.ReservedGiB, v.ChargedGiB)
			}
		}
	case records.ClassSnapshot:
		s, err := records.Decode[block.Snapshot](e.Value)
		if err != nil {
			return err
		}
		b.use.Snapshots, b.use.GiB = b.use.Snapshots+1, b.use.GiB+s.SizeGiB
		b.snapshots[s.ID] = s.Volume
		b.want["snapshots/"+string(s.ID)] = s.SizeGiB.Bytes()
		if s.Status == block.SnapshotError {
			b.want["snapshots/"+string(s.ID)] = -1
		} else if s.Status != block.SnapshotAvailable {
			b.t.Errorf("snapshot %s is %s without an operation", s.ID, s.Status)
		}
	case records.ClassCredit:
		c, err := records.Decode[records.Credit](e.Value)
		if err != nil {
			return err
		}
		b.use = b.use.Add(c.Back)
	default:
	}
	return nil
}

// requireChildren: volumes list the snapshots that there are.
func (b *books) requireChildren() {
	b.t.Helper()
	for s, v := range b.snapshots {
		if !slices.Contains(b.children[v], s) {
			b.t.Errorf("snapshot %s is no child of volume %s", s, v)
		}
	}
	for v, all := range b.children {
		for _, s := range all {
			if _, there := b.snapshots[s]; !there {
				b.t.Errorf("volume %s has a snapshot %s without a record", v, s)
			}
		}
	}
}

// requireBackend: the backend has what it must have, and nothing that it may not.
func (b *books) requireBackend() {
	b.t.Helper()
	for _, kind := range []string{"volumes", "snapshots"} {
		files, err := os.ReadDir(filepath.Join(b.dir, kind))
		b.must(err)
		for _, f := range files {
			if strings.HasPrefix(f.Name(), ".") {
				continue
			}
			info, err := f.Info()
			b.must(err)
			bytes, there := b.want[kind+"/"+f.Name()]
			if !there || bytes >= 0 && bytes != info.Size() {
				b.t.Errorf("backend has %s/%s of %d bytes; record: %v, %d bytes", kind, f.Name(), info.Size(), there, bytes)
			}
			delete(b.want, kind+"/"+f.Name())
		}
	}
	for name, bytes := range b.want {
		if bytes >= 0 {
			b.t.Errorf("backend lacks %s of %d bytes", name, bytes)
		}
	}
}
