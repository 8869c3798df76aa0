package intake_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagakv"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// books are what the records of volumes and snapshots, and the credits, add up to.
type books struct {
	*history
	use       records.Usage
	reserved  map[string]block.GiB                  // by backend
	children  map[block.VolumeID][]block.SnapshotID // as the volumes list them
	snapshots map[block.SnapshotID]block.VolumeID   // as the snapshots say
	want      map[string]int64                      // bytes of what the backends must have, by backend, folder and ID; -1: it may be there
	attached  map[block.AttachmentID]block.Attachment
	listed    map[block.AttachmentID]block.AttachmentStatus // as the volumes list them
}

// requireBooks proves that quota, pools, backends and exports are what the records say.
func (h *history) requireBooks() {
	h.t.Helper()
	b := &books{
		history: h, reserved: map[string]block.GiB{}, children: map[block.VolumeID][]block.SnapshotID{}, snapshots: map[block.SnapshotID]block.VolumeID{},
		want: map[string]int64{}, attached: map[block.AttachmentID]block.Attachment{}, listed: map[block.AttachmentID]block.AttachmentStatus{},
	}
	b.must(h.Store.Scan(h.t.Context(), ">", b.add))
	q, _ := operationstest.Get[records.Quota](h.t, h.World, records.QuotaKey(project))
	if q.Use != b.use {
		h.t.Errorf("quota says %+v, records and credits %+v", q.Use, b.use)
	}
	for name := range h.backends {
		if p, _ := operationstest.Get[records.Pool](h.t, h.World, records.PoolKey(name)); p.AllocatedGiB != b.reserved[name] {
			h.t.Errorf("pool %s says %d GiB, records %d", name, p.AllocatedGiB, b.reserved[name])
		}
		b.requireBackend(name)
	}
	for name, bytes := range b.want {
		if bytes >= 0 {
			b.t.Errorf("%s of %d bytes is on no backend", name, bytes)
		}
	}
	b.requireChildren()
	b.requireExports()
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
		b.volume(v)
	case records.ClassSnapshot:
		s, err := records.Decode[block.Snapshot](e.Value)
		if err != nil {
			return err
		}
		b.snapshot(s)
	case records.ClassAttachment:
		a, err := records.Decode[block.Attachment](e.Value)
		if err != nil {
			return err
		}
		b.attached[a.ID] = a
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

func (b *books) volume(v block.Volume) {
	b.use.Volumes, b.use.GiB = b.use.Volumes+1, b.use.GiB+v.ChargedGiB
	b.reserved[v.Backend] += v.ReservedGiB
	b.children[v.ID] = v.Snapshots
	for _, a := range v.Attachments {
		b.listed[a.ID] = a.Status
	}
	name := v.Backend + "/volumes/" + string(v.ID)
	b.want[name] = -1
	if v.Status == block.VolumeCreating {
		b.t.Errorf("volume %s is creating without an operation", v.ID)
	}
	if v.Status == block.VolumeAvailable {
		b.want[name] = v.SizeGiB.Bytes()
		if v.ReservedGiB != v.SizeGiB || v.ChargedGiB != v.SizeGiB {
			b.t.Errorf("volume %s has %d GiB, reserved %d, charged %d", v.ID, v.SizeGiB, v.ReservedGiB, v.ChargedGiB)
		}
	}
}

func (b *books) snapshot(s block.Snapshot) {
	b.use.Snapshots, b.use.GiB = b.use.Snapshots+1, b.use.GiB+s.SizeGiB
	b.snapshots[s.ID] = s.Volume
	name := s.Backend + "/snapshots/" + string(s.ID)
	b.want[name] = s.SizeGiB.Bytes()
	if s.Status == block.SnapshotError {
		b.want[name] = -1
	} else if s.Status != block.SnapshotAvailable {
		b.t.Errorf("snapshot %s is %s without an operation", s.ID, s.Status)
	}
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
func (b *books) requireBackend(name string) {
	b.t.Helper()
	for _, kind := range []string{"volumes", "snapshots"} {
		files, err := os.ReadDir(filepath.Join(b.backends[name], kind))
		b.must(err)
		for _, f := range files {
			if strings.HasPrefix(f.Name(), ".") {
				continue
			}
			info, err := f.Info()
			b.must(err)
			thing := name + "/" + kind + "/" + f.Name()
			bytes, there := b.want[thing]
			if !there || bytes >= 0 && bytes != info.Size() {
				b.t.Errorf("there is %s of %d bytes; record: %v, %d bytes: %s%s", thing, info.Size(), there, bytes,
					b.story(strings.TrimSuffix(kind, "s")+"."+f.Name()), b.x.story(f.Name()))
			}
			delete(b.want, thing)
		}
	}
}

// story tells of all operations on a key, in the order in which they came.
func (h *history) story(key string) string {
	var all []kvlock.Record
	for rec, err := range h.Locks.Records(h.t.Context()) {
		if err == nil && slices.ContainsFunc(rec.Claims, func(c kvlock.Claim) bool { return c.Key == key }) {
			all = append(all, rec)
		}
	}
	slices.SortFunc(all, func(a, b kvlock.Record) int { return a.Since.Compare(b.Since) })
	var text strings.Builder
	for _, rec := range all {
		op, _ := operationOf(rec)
		st, _ := sagakv.StatusOf(rec)
		fmt.Fprintf(&text, "\n  %s: %s of %s, since %s, granted %s, ended %s, %s, %d epochs, cause %v, audit %+v", rec.Owner, op.Kind, op.Resource,
			rec.Since.Format("05.000"), rec.Granted.Format("05.000"), rec.Ended.Format("05.000"), rec.Phase, rec.Epoch, st.Cause, rec.Audit)
	}
	return text.String()
}

// requireExports: volumes list the attachments that there are, what hosts may use is exported with its volume, and nothing else is.
func (b *books) requireExports() {
	b.t.Helper()
	all, err := b.exports.List(b.t.Context())
	b.must(err)
	exported := map[block.AttachmentID]string{}
	for _, x := range all {
		id := block.AttachmentID(x.Attachment)
		exported[id] = x.Volume
		if _, there := b.attached[id]; !there {
			b.t.Errorf("volume %s is exported for attachment %s, which has no record", x.Volume, id)
		}
	}
	for id, a := range b.attached {
		if b.listed[id] != a.Status {
			b.t.Errorf("attachment %s of volume %s is %s, the volume says %q: %s", id, a.Volume, a.Status, b.listed[id], b.story(records.VolumeKey(a.Volume)))
		}
		usable := a.Status == block.AttachAttaching || a.Status == block.AttachAttached
		if volume, there := exported[id]; usable && !there || there && volume != string(a.Volume) {
			b.t.Errorf("attachment %s of volume %s is %s, exported %v of volume %s: %s", id, a.Volume, a.Status, there, volume, b.story(records.VolumeKey(a.Volume)))
		}
	}
	for id, status := range b.listed {
		if _, there := b.attached[id]; !there {
			b.t.Errorf("a volume has an attachment %s, %s, without a record", id, status)
		}
	}
}
