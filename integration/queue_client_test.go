package integration

import (
	"errors"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/client"
)

// A program asks for what other operations stand in the way of, and waits in line.
func TestAProgramWaitsInLine(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null:delay=2s")
	_, c := connect(t, s)
	ctx := t.Context()
	created, err := c.Queue(ctx, client.NewID(), &messages.CreateVolume{SizeGiB: 1}, 0)
	if err != nil || created.Phase == "queued" || created.Waits != nil {
		t.Fatalf("queue of what nothing stands in the way of: %+v, %v; want it begun", created, err)
	}
	volume := block.VolumeID(created.Resource)
	snapshot := &messages.CreateSnapshot{Volume: volume}
	if _, err := c.Submit(ctx, client.NewID(), snapshot); !errors.Is(err, &messages.Error{Code: messages.CodeInvalidVolume}) {
		t.Errorf("submit beside the create: %v, want it refused", err)
	}
	id := client.NewID()
	op, err := c.Queue(ctx, id, snapshot, time.Minute)
	if err != nil || op.ID != id || op.Phase != "queued" || op.Waits == nil {
		t.Fatalf("queue behind the create: %+v, %v; want it queued", op, err)
	}
	if w := op.Waits; w.Place != 1 || len(w.For) != 1 || w.For[0].Operation != created.ID || w.For[0].Kind != block.VolumeCreate ||
		time.Until(w.Deadline) <= 0 || time.Until(w.Deadline) > time.Minute {
		t.Errorf("it waits for %+v, want the create %s, for a minute at most", w, created.ID)
	}
	if again, err := c.Queue(ctx, id, snapshot, time.Minute); err != nil || again.ID != id || again.Resource != op.Resource {
		t.Errorf("the same again: %+v, %v; want the same operation", again, err)
	}
	short, err := c.Queue(ctx, client.NewID(), &messages.ExtendVolume{Volume: volume, SizeGiB: 2}, 100*time.Millisecond)
	if err != nil || short.Waits == nil || short.Waits.Place != 2 {
		t.Fatalf("queue behind both: %+v, %v; want the second place", short, err)
	}
	if op, err := c.Wait(ctx, short.ID); err != nil || op.Phase != "void" || op.Error != "gave up waiting: the deadline of its wait has passed" {
		t.Errorf("after its time it is %+v, %v", op, err)
	}
	for _, id := range []block.OperationID{created.ID, id} {
		if op, err := c.Wait(ctx, id); err != nil || op.Phase != "done" || op.Waits != nil {
			t.Errorf("%s ended as %+v, %v", op.Kind, op, err)
		}
	}
	s.Idle(t)
	s.VerifyClean(t)
}
