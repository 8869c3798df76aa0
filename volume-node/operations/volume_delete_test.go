package operations_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

func TestVolumeDeleteExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return volumeDeleteWorld(t) })
}

func volumeDeleteWorld(t *testing.T) *world {
	w := newWorld(t)
	w.do(create(vol1, 2))
	w.req = &messages.DeleteVolume{Volume: vol1}
	return w
}
