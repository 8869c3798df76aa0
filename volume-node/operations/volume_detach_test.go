package operations_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

func TestVolumeDetachExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return volumeDetachWorld(t) })
}

func volumeDetachWorld(t *testing.T) *world {
	w := newWorld(t).exports()
	w.do(create(vol1, 1))
	w.do(attach())
	w.req = &messages.DetachVolume{Attachment: att1}
	return w
}
