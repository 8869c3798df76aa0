package verify

import (
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// cleanWorld has one volume with a snapshot and an attachment, one that is being made, and one clone under way.
func cleanWorld() *world {
	w := newWorld()
	w.volumes["v1"] = block.Volume{ID: "v1", Project: "p", SizeGiB: 2, ChargedGiB: 2, ReservedGiB: 2, Backend: "b", Status: block.VolumeAvailable,
		Snapshots: []block.SnapshotID{"s1"}, Attachments: []block.AttachmentRef{{ID: "a1", Status: block.AttachAttached}}}
	w.volumes["v2"] = block.Volume{ID: "v2", Project: "p", SizeGiB: 1, ChargedGiB: 1, Backend: "b", Status: block.VolumeCreating}
	w.snapshots["s1"] = block.Snapshot{ID: "s1", Volume: "v1", Project: "p", SizeGiB: 2, Backend: "b", Status: block.SnapshotAvailable}
	w.attachments["a1"] = block.Attachment{ID: "a1", Volume: "v1", Project: "p", Status: block.AttachAttached}
	w.quotas["p"] = records.Quota{Project: "p", Use: records.Usage{Volumes: 3, Snapshots: 1, GiB: 9}}
	w.credits = []records.Credit{{Project: "p", Node: "n", Back: records.Usage{Volumes: 1, GiB: 4}}}
	w.pools["b"] = records.Pool{Backend: "b", AllocatedGiB: 2}
	w.operations["o1"] = kvlock.Record{Owner: "o1", Phase: kvlock.Running, Claims: []kvlock.Claim{kvlock.Exclusive("volume.v2"), kvlock.Shared("snapshot.s1")}}
	w.locks["volume.v2"] = kvlock.Lock{Key: "volume.v2", Mode: kvlock.ModeExclusive, Holders: []kvlock.Holder{{Owner: "o1"}}}
	w.locks["snapshot.s1"] = kvlock.Lock{Key: "snapshot.s1", Mode: kvlock.ModeShared, Holders: []kvlock.Holder{{Owner: "o1"}}}
	w.backends["b"] = records.Backend{Name: "b", KeepsData: true, Identity: "id"}
	for _, process := range []string{"p1", "p2"} {
		w.listings = append(w.listings, listing{"n", process, "b", Listing{Identity: "id", Objects: []messages.Object{
			{Class: messages.ObjectVolume, ID: "v1", Bytes: 2 << 30}, {Class: messages.ObjectSnapshot, ID: "s1", Bytes: 2 << 30},
			{Class: messages.ObjectTemporary, ID: "o1.v2"}, {Class: messages.ObjectVolume, ID: "v2", Bytes: 5},
		}}})
	}
	return w
}

// both changes what both processes find.
func (w *world) both(change func([]messages.Object) []messages.Object) {
	for i := range w.listings {
		w.listings[i].Objects = change(w.listings[i].Objects)
	}
}

func TestCleanWorldHasNoDifference(t *testing.T) {
	t.Parallel()
	if d := cleanWorld().compare(); len(d) != 0 {
		t.Fatalf("differences: %+v", d)
	}
}

// What an abandoned extend leaves is settled: only the volume's deletion gives it back.
func TestAVolumeWhoseExtendWasAbandonedIsNoDifference(t *testing.T) {
	t.Parallel()
	w := cleanWorld()
	v := w.volumes["v1"]
	v.Status, v.ChargedGiB, v.ReservedGiB = block.VolumeErrorExtending, 3, 3
	w.volumes["v1"] = v
	w.quotas["p"] = records.Quota{Project: "p", Use: records.Usage{Volumes: 3, Snapshots: 1, GiB: 10}}
	w.pools["b"] = records.Pool{Backend: "b", AllocatedGiB: 3}
	if d := w.compare(); len(d) != 0 {
		t.Errorf("differences: %+v", d)
	}
}

// Each plant breaks one thing that the check holds; a check that cannot see it is blind.
func TestEachPlantedDifferenceIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plant      func(*world)
		kind, text string
	}{
		"quota too high": {func(w *world) {
			w.quotas["p"] = records.Quota{Project: "p", Use: records.Usage{Volumes: 4, Snapshots: 1, GiB: 9}}
		}, "quota", "+1 volumes"},
		"credit lost":   {func(w *world) { w.credits = nil }, "quota", "+4 GiB"},
		"quota missing": {func(w *world) { delete(w.quotas, "p") }, "quota", "-"},
		"pool wrong":    {func(w *world) { w.pools["b"] = records.Pool{AllocatedGiB: 5} }, "pool", "+3 GiB"},
		"lock without operation": {func(w *world) {
			w.locks["volume.v1"] = kvlock.Lock{Mode: kvlock.ModeShared, Holders: []kvlock.Holder{{Owner: "gone"}}}
		}, "lock", "no record"},
		"lock of an ended operation": {func(w *world) {
			w.operations["o2"] = kvlock.Record{Owner: "o2", Phase: kvlock.Done, Claims: []kvlock.Claim{kvlock.Shared("volume.v1")}}
			w.locks["volume.v1"] = kvlock.Lock{Mode: kvlock.ModeShared, Holders: []kvlock.Holder{{Owner: "o2"}}}
		}, "lock", "has ended"},
		"lock that is not claimed": {func(w *world) {
			w.locks["volume.v1"] = kvlock.Lock{Mode: kvlock.ModeShared, Holders: []kvlock.Holder{{Owner: "o1"}}}
		}, "lock", "does not claim"},
		"claim that is not held": {func(w *world) { delete(w.locks, "snapshot.s1") }, "lock", "does not hold"},
		"creating for ever": {func(w *world) {
			w.volumes["v3"] = block.Volume{ID: "v3", Status: block.VolumeCreating, Project: "p"}
		}, "status", "no operation makes it"},
		"snapshot creating for ever": {func(w *world) {
			w.snapshots["s2"] = block.Snapshot{ID: "s2", Volume: "v1", Status: block.SnapshotCreating}
		}, "status", "no operation makes it"},
		"charge of nobody": {func(w *world) {
			v := w.volumes["v1"]
			v.ChargedGiB = 7
			w.volumes["v1"] = v
		}, "status", "no operation changes its size"},
		"child missing":         {func(w *world) { delete(w.snapshots, "s1") }, "children", "lists snapshot s1"},
		"attachment missing":    {func(w *world) { delete(w.attachments, "a1") }, "children", "lists attachment a1"},
		"parent does not list":  {func(w *world) { w.attachments["a2"] = block.Attachment{ID: "a2", Volume: "v1"} }, "children", "does not list"},
		"snapshot of no volume": {func(w *world) { w.snapshots["s9"] = block.Snapshot{ID: "s9", Volume: "vx"} }, "children", "missing"},
		"orphan volume": {func(w *world) {
			w.both(func(o []messages.Object) []messages.Object {
				return append(o, messages.Object{Class: messages.ObjectVolume, ID: "x"})
			})
		}, "backend", "orphan"},
		"orphan snapshot": {func(w *world) {
			w.both(func(o []messages.Object) []messages.Object {
				return append(o, messages.Object{Class: messages.ObjectSnapshot, ID: "x"})
			})
		}, "backend", "orphan"},
		"temporary file left": {func(w *world) {
			w.both(func(o []messages.Object) []messages.Object {
				return append(o, messages.Object{Class: messages.ObjectTemporary, ID: "ended.v2"})
			})
		}, "backend", "temporary"},
		"object missing": {func(w *world) { w.both(func(o []messages.Object) []messages.Object { return o[1:] }) }, "backend", "does not have it"},
		"wrong size": {func(w *world) {
			w.both(func(o []messages.Object) []messages.Object {
				o[0].Bytes = 1
				return o
			})
		}, "backend", "it has 1 bytes"},
		"wrong size of a snapshot": {func(w *world) {
			w.both(func(o []messages.Object) []messages.Object {
				o[1].Bytes = 1
				return o
			})
		}, "backend", "it has 1 bytes"},
		"another identity": {func(w *world) { w.listings[1].Identity = "other" }, "backend",
			`process p2 of node n serves it from a storage with identity "other", the record says "id"`},
		"one storage, two backends": {func(w *world) {
			w.backends["c"] = records.Backend{Name: "c", KeepsData: true, Identity: "id"}
		}, "backend", "is that of backend b, too"},
		"backend without a record": {func(w *world) { delete(w.backends, "b") }, "backend",
			"no such backend in the records: 2 volumes and 1 snapshots stand on it: start a volume node with --backend b=…"},
		"lost for one process": {func(w *world) { w.listings[0].Objects = w.listings[0].Objects[1:] }, "backend",
			"the backend does not have it (so process p1 finds, and others do not"},
		"orphan for one process": {func(w *world) {
			w.listings[1].Objects = append(w.listings[1].Objects, messages.Object{Class: messages.ObjectVolume, ID: "x"})
		}, "backend", "records (so process p2 finds"},
		"snapshot missing": {func(w *world) { w.both(func(o []messages.Object) []messages.Object { return o[:1] }) }, "backend", "does not have it"},
	} {
		w := cleanWorld()
		c.plant(w)
		found := false
		for _, d := range w.compare() {
			found = found || d.Kind == c.kind && strings.Contains(d.Text, c.text)
		}
		if !found {
			t.Errorf("%s: not found; differences: %+v", name, w.compare())
		}
	}
}
