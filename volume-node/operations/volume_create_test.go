package operations_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

func TestVolumeCreateExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return volumeCreateWorld(t) })
}

func volumeCreateWorld(t *testing.T) *world {
	w := newWorld(t)
	w.req = create(vol1, 2)
	w.undone = volumeInError(block.Volume{ID: vol1, SizeGiB: 2})
	return w
}

func TestVolumeCreateFromVolumeExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return volumeCreateFromVolumeWorld(t) })
}

func volumeCreateFromVolumeWorld(t *testing.T) *world {
	w := newWorld(t)
	w.do(create(vol1, 1))
	w.fill(vol1, "content of the source")
	w.req = &messages.CreateVolume{Volume: vol2, FromVolume: vol1, SizeGiB: 2}
	w.undone = volumeInError(block.Volume{ID: vol2, SizeGiB: 2, FromVolume: vol1})
	return w
}

func TestVolumeCreateFromSnapshotExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return volumeCreateFromSnapshotWorld(t) })
}

func volumeCreateFromSnapshotWorld(t *testing.T) *world {
	w := newWorld(t)
	w.do(create(vol1, 1))
	w.fill(vol1, "content of the snapshot")
	w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
	w.req = &messages.CreateVolume{Volume: vol2, FromSnapshot: snap1}
	w.undone = volumeInError(block.Volume{ID: vol2, SizeGiB: 1, FromSnapshot: snap1})
	return w
}

// volumeInError is what a create that was given up leaves: a volume in error, charged and without room on the pool.
func volumeInError(v block.Volume) func(sagatest.Snapshot) sagatest.Snapshot {
	return func(before sagatest.Snapshot) sagatest.Snapshot {
		after := edit(before, records.VolumeKey(v.ID), func(r *block.Volume) {
			*r = v
			r.Project, r.User, r.Type, r.Zone = project, "u1", "__DEFAULT__", "nova"
			r.Status, r.Fault, r.Backend, r.ChargedGiB = block.VolumeError, "some", backend, v.SizeGiB
		})
		return charged(after, records.Usage{Volumes: 1, GiB: v.SizeGiB})
	}
}
