package operations_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

func TestVolumeRevertExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return volumeRevertWorld(t) })
}

func volumeRevertWorld(t *testing.T) *world {
	w := newWorld(t)
	w.do(create(vol1, 1))
	w.fill(vol1, "content of the snapshot")
	w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
	w.fill(vol1, "content that is to be lost")
	w.req = &messages.RevertVolume{Volume: vol1, Snapshot: snap1}
	return w
}
