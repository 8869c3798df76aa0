package operations_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// away is an export server that cannot be reached.
type away struct{ export.Exporter }

func (away) Export(context.Context, export.Request) (export.Connection, error) {
	return export.Connection{}, export.ErrUnavailable
}
func (away) Unexport(context.Context, export.Removal) error { return export.ErrUnavailable }

// The first worker of an attach sleeps before it exports the volume; its operation gets stuck and is given up, and no fence
// was raised. The export that it makes when it wakes up serves nobody: no copy of the volume is made beside it, and the
// detach that frees the volume closes it and keeps any later one out.
func TestALateExportOfAnAbandonedAttachEndsWithTheDetach(t *testing.T) {
	t.Parallel()
	w := newWorld(t).exports()
	w.do(create(vol1, 1))
	if err := w.submit(t.Context(), opID, attach()); err != nil {
		t.Fatal(err)
	}
	_, rec, err := w.takeOver(t.Context(), opID) // by the one that sleeps
	if err != nil {
		t.Fatal(err)
	}
	server := w.exporter
	w.exporter = away{server}
	w.bind()
	if st, err := w.drive(t.Context(), opID, saga.WithWaitCeiling(time.Millisecond)); err != nil || st.Phase != saga.Stuck {
		t.Fatalf("the attach is %s, %v, want stuck", st.Phase, err)
	}
	if err := w.admitter.Abandon(t.Context(), admit.Caller{Project: project, User: "u1"}, opID, "the export server is away"); err != nil {
		t.Fatal(err)
	}
	w.exporter = server
	w.bind()
	late := export.Request{
		Attachment: string(att1), Volume: string(vol1), Operation: string(opID), Fence: export.Fence{Era: rec.Era, Rev: uint64(rec.Revision)},
		Path: filepath.Join(w.dir, "volumes", string(vol1)), Bytes: 1 << 30,
	}
	if _, err := server.Export(t.Context(), late); err != nil {
		t.Fatalf("the late export: %v, want it made: nobody has raised the fence", err)
	}
	for _, req := range []messages.Request{
		&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1, AllowAttached: true},
		&messages.CreateVolume{Volume: vol2, FromVolume: vol1},
		&messages.ExtendVolume{Volume: vol1, SizeGiB: 2, AllowAttached: true},
		&messages.DeleteVolume{Volume: vol1},
	} {
		if err := w.submit(t.Context(), block.OperationID(newID()), req); err == nil {
			t.Errorf("%s was accepted beside an attachment whose attach was given up", req.Kind())
		}
	}
	if a, _ := operationstest.Get[block.Attachment](t, w.World, records.AttachmentKey(att1)); a.Status != block.AttachErrorAttaching || a.Connection != nil {
		t.Errorf("attachment %+v, want error_attaching without a connection", a)
	}
	w.do(&messages.DetachVolume{Attachment: att1})
	if all, err := server.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("exports after the detach: %+v, %v", all, err)
	}
	if _, err := server.Export(t.Context(), late); !errors.Is(err, export.ErrFenced) {
		t.Errorf("an export after the detach: %v, want ErrFenced", err)
	}
}
