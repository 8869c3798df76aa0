package operations_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagatest"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

func TestVolumeExtendExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World {
		w := newWorld(t)
		w.do(create(vol1, 1))
		w.fill(vol1, "content that stays")
		w.req = &messages.ExtendVolume{Volume: vol1, SizeGiB: 3}
		w.undone = func(before sagatest.Snapshot) sagatest.Snapshot {
			more := records.Usage{GiB: 2} // charged at admission, given back in a credit
			return edit(charged(before, more), records.CreditKey(project, operationstest.NodeName), func(c *records.Credit) {
				c.Project, c.Node, c.Back = project, operationstest.NodeName, more
			})
		}
		return w
	})
}
