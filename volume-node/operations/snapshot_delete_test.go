package operations_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

func TestSnapshotDeleteExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return snapshotDeleteWorld(t) })
}

func snapshotDeleteWorld(t *testing.T) *world {
	w := newWorld(t)
	w.do(create(vol1, 1))
	w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
	w.req = &messages.DeleteSnapshot{Snapshot: snap1}
	return w
}
