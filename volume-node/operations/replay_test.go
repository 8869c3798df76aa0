package operations_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

// replayed are the worlds in which journals of earlier releases are gone on with, each with the name of its journals.
var replayed = []struct {
	kind     block.Kind
	journals string
	world    func(*testing.T) *world
}{
	{block.VolumeCreate, "volume.create", volumeCreateWorld},
	{block.VolumeCreate, "volume.create-from-volume", volumeCreateFromVolumeWorld},
	{block.VolumeCreate, "volume.create-from-snapshot", volumeCreateFromSnapshotWorld},
	{block.VolumeDelete, "volume.delete", volumeDeleteWorld},
	{block.VolumeExtend, "volume.extend", volumeExtendWorld},
	{block.VolumeRevert, "volume.revert", volumeRevertWorld},
	{block.VolumeAttach, "volume.attach", volumeAttachWorld},
	{block.VolumeDetach, "volume.detach", volumeDetachWorld},
	{block.SnapshotCreate, "snapshot.create", snapshotCreateWorld},
	{block.SnapshotDelete, "snapshot.delete", snapshotDeleteWorld},
}

// A release goes on with the operations that the one before left in the middle.
func TestOperationsOfEarlierReleasesGoOn(t *testing.T) {
	t.Parallel()
	with := map[block.Kind]bool{}
	for _, r := range replayed {
		with[r.kind] = true
		t.Run(r.journals, func(t *testing.T) {
			t.Parallel()
			sagatest.Replay(t, func(t *testing.T) sagatest.Journaled { return r.world(t) }, "testdata/journals/"+r.journals)
		})
	}
	for _, k := range block.Kinds() {
		if !with[k] {
			t.Errorf("no journals of %s are gone on with", k)
		}
	}
}
