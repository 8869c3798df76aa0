package operations_test

import (
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

func attach() *messages.AttachVolume {
	return &messages.AttachVolume{Volume: vol1, Attachment: att1, Connector: []byte(`{"host":"h1"}`)}
}

func TestVolumeAttachExhaust(t *testing.T) {
	t.Parallel()
	sagatest.Exhaust(t, func(t *testing.T) sagatest.World { return volumeAttachWorld(t) })
}

func volumeAttachWorld(t *testing.T) *world {
	w := newWorld(t).exports()
	w.do(create(vol1, 1))
	w.req = attach()
	w.undone = func(before sagatest.Snapshot) sagatest.Snapshot {
		after := edit(before, records.VolumeKey(vol1), func(v *block.Volume) {
			v.Attachments = []block.AttachmentRef{{ID: att1, Status: block.AttachErrorAttaching}}
		})
		return edit(after, records.AttachmentKey(att1), func(a *block.Attachment) {
			*a = block.Attachment{ID: att1, Volume: vol1, Project: project, User: "u1", Status: block.AttachErrorAttaching,
				Connector: []byte(`{"host":"h1"}`), Fault: "some"}
		})
	}
	return w
}
