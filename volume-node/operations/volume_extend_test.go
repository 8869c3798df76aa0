package operations_test

import (
	"testing"
	"time"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagatest"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

func TestVolumeExtendExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return volumeExtendWorld(t) })
}

func volumeExtendWorld(t *testing.T) *world {
	w := newWorld(t)
	w.do(create(vol1, 1))
	// The request names the moment, and so do the journals that earlier releases wrote.
	operationstest.Put(t, w.World, records.VolumeKey(vol1), func(v *block.Volume) { v.CreatedAt = time.Unix(1_800_000_000, 0).UTC() })
	w.fill(vol1, "content that stays")
	w.req = &messages.ExtendVolume{Volume: vol1, SizeGiB: 3}
	w.undone = func(before sagatest.Snapshot) sagatest.Snapshot {
		more := records.Usage{GiB: 2} // charged at admission, given back in a credit
		return edit(charged(before, more), records.CreditKey(project, operationstest.NodeName), func(c *records.Credit) {
			c.Project, c.Node, c.Back = project, operationstest.NodeName, more
		})
	}
	return w
}
