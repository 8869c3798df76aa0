package operations_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// A volume and a snapshot whose files were cut behind Scoria's back are neither copied, extended nor exported, whoever asks
// how often; they stay as they are, and what was asked for ends in its own error.
func TestWhatWasCutIsNotUsed(t *testing.T) {
	t.Parallel()
	const snap2, vol3 = block.SnapshotID("22222222-0000-4000-8000-000000000002"), block.VolumeID("11111111-0000-4000-8000-000000000003")
	w := newWorld(t).exports()
	w.do(create(vol1, 1))
	w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
	volume, snapshot := w.path("volumes", string(vol1)), w.path("snapshots", string(snap1))
	for _, path := range []string{volume, snapshot} {
		if err := os.Truncate(path, 100<<20); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		req  messages.Request
		path string
	}{
		{&messages.CreateVolume{Volume: vol2, FromVolume: vol1}, volume},
		{&messages.CreateVolume{Volume: vol3, FromSnapshot: snap1}, snapshot},
		{&messages.RevertVolume{Volume: vol1, Snapshot: snap1}, snapshot},
		{&messages.CreateSnapshot{Snapshot: snap2, Volume: vol1}, volume},
		{&messages.ExtendVolume{Volume: vol1, SizeGiB: 2}, volume},
		{attach(), volume},
	} {
		st := w.try(c.req)
		what := fmt.Sprint(st.Cause)
		if st.Phase != saga.Undone || !strings.Contains(what, c.path+" has 104857600 bytes where 1073741824 are expected") {
			t.Errorf("%s: %s, %s, want undone, with words that name the file and both sizes", c.req.Kind(), st.Phase, what)
		}
	}
	v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1))
	if v.Status != block.VolumeAvailable || v.SizeGiB != 1 || v.ReservedGiB != 1 || v.ChargedGiB != 1 {
		t.Errorf("the volume is %+v, want it available with 1 GiB, as before", v)
	}
	for _, id := range []block.VolumeID{vol2, vol3} {
		if v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(id)); v.Status != block.VolumeError || v.Fault == "" || v.ReservedGiB != 0 {
			t.Errorf("the copy is %+v, want error with a reason, and no room taken", v)
		}
	}
	if s, _ := operationstest.Get[block.Snapshot](t, w.World, records.SnapshotKey(snap2)); s.Status != block.SnapshotError || s.Fault == "" {
		t.Errorf("the snapshot of the volume is %+v, want error with a reason", s)
	}
	if a, _ := operationstest.Get[block.Attachment](t, w.World, records.AttachmentKey(att1)); a.Status != block.AttachErrorAttaching || a.Connection != nil {
		t.Errorf("the attachment is %+v, want error_attaching without a connection", a)
	}
	if info, err := os.Stat(volume); err != nil || info.Size() != 100<<20 {
		t.Errorf("the volume's file: %v, %v, want it as it was", info, err)
	}
}
