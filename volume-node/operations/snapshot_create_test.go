package operations_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

func TestSnapshotCreateExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return snapshotCreateWorld(t) })
}

func snapshotCreateWorld(t *testing.T) *world {
	w := newWorld(t)
	w.do(create(vol1, 1))
	w.fill(vol1, "content of the moment")
	w.req = &messages.CreateSnapshot{Snapshot: snap1, Volume: vol1}
	w.undone = func(before sagatest.Snapshot) sagatest.Snapshot {
		after := edit(before, records.VolumeKey(vol1), func(v *block.Volume) { v.AddSnapshot(snap1) })
		after = edit(after, records.SnapshotKey(snap1), func(s *block.Snapshot) {
			*s = block.Snapshot{ID: snap1, Volume: vol1, Project: project, User: "u1", SizeGiB: 1, Status: block.SnapshotError,
				Backend: backend, Fault: "some"}
		})
		return charged(after, records.Usage{Snapshots: 1, GiB: 1})
	}
	return w
}
