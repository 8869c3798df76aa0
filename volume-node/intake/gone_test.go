package intake_test

import (
	"fmt"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/intake"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// TestWhatWaitsForTheEndOfAVolumeLeavesNothing: a volume is deleted, or not made because its source has gone, while an attach and a
// detach of the attachment that this brought stand in line behind that. An attachment of no volume could never be removed.
func TestWhatWaitsForTheEndOfAVolumeLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, created := range []bool{true, false} {
		for _, canceled := range []bool{false, true} {
			t.Run(fmt.Sprintf("created %v, canceled %v", created, canceled), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.serveWakes()
				w.do(create(vol1))
				vol, ends, g := vol1, 3, gated(w.open(), driver.MethodDeleteVolume)
				if !created {
					vol, ends, g = block.VolumeID(newID()), 4, gated(w.open(), driver.MethodDeleteSnapshot)
					w.do(&messages.CreateSnapshot{Snapshot: snap1, Volume: vol1})
				}
				k := w.work(func(s *setup) { s.drivers[backend] = g })
				if created {
					w.submit(block.OperationID(newID()), &messages.DeleteVolume{Volume: vol})
				} else {
					w.submit(block.OperationID(newID()), &messages.DeleteSnapshot{Snapshot: snap1})
				}
				<-g.entered
				if !created {
					w.queue(&messages.CreateVolume{Volume: vol, FromSnapshot: snap1})
				}
				attach, attachment := w.queue(&messages.AttachVolume{Volume: vol})
				detach, _ := w.queue(&messages.DetachVolume{Attachment: block.AttachmentID(attachment)})
				if canceled {
					ends -= 2
					for _, id := range []block.OperationID{attach, detach} {
						if err := w.admitter.Cancel(t.Context(), caller, id, ""); err != nil {
							t.Fatal(err)
						}
					}
				}
				close(g.open)
				k.await(intake.Ended, ends)
				if v, there := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol)); there {
					t.Errorf("the volume is there: %+v", v)
				}
				if a, there := operationstest.Get[block.Attachment](t, w.World, records.AttachmentKey(block.AttachmentID(attachment))); there {
					t.Errorf("there is an attachment of no volume: %+v", a)
				}
				w.requireNothingLeft()
			})
		}
	}
}

// queue submits a request that waits in line.
func (w *world) queue(req messages.Request) (op block.OperationID, resource string) {
	w.t.Helper()
	acc, err := w.admitter.Submit(w.t.Context(), admit.Submission{Caller: caller, OnConflict: "queue", Request: req})
	if err != nil {
		w.t.Fatalf("%s refused: %v", req.Kind(), err)
	}
	return acc.Operation, acc.Resource
}

// TestAnExtendGivesBackWhatItsOwnVolumeWasCharged: while it waits its volume is deleted, and its charge with it, and another volume
// gets the ID.
func TestAnExtendGivesBackWhatItsOwnVolumeWasCharged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(create(vol1))
	g := gated(w.open(), driver.MethodDeleteVolume)
	k := w.work(func(s *setup) { s.drivers[backend] = g })
	w.submit(block.OperationID(newID()), &messages.DeleteVolume{Volume: vol1})
	<-g.entered
	w.queue(&messages.DeleteVolume{Volume: vol1}) // comes next
	extend, _ := w.queue(&messages.ExtendVolume{Volume: vol1, SizeGiB: 3})
	k.stop()
	close(g.open)
	k.end()
	w.queue(create(vol1))
	if err := w.admitter.Cancel(t.Context(), caller, extend, ""); err != nil {
		t.Fatal(err)
	}
	w.work(nil)
	w.eventually("the new volume is made", func() bool {
		v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1))
		return v.Status == block.VolumeAvailable
	})
	v, _ := operationstest.Get[block.Volume](t, w.World, records.VolumeKey(vol1))
	q, _ := operationstest.Get[records.Quota](t, w.World, records.QuotaKey(project))
	c, _ := operationstest.Get[records.Credit](t, w.World, records.CreditKey(project, operationstest.NodeName))
	if left := q.Use.Sub(c.Back); v.ChargedGiB != 1 || left != (records.Usage{Volumes: 1, GiB: 1}) {
		t.Errorf("the volume is charged %d GiB, the project uses %+v; want 1 volume of 1 GiB", v.ChargedGiB, left)
	}
	w.requireNothingLeft()
}

// TestADeleteThatWaitedDoesNotDeleteWhatCameAfterIt: two deletions stand in line; after the first one the ID is used again, before the second
// one begins. It finds nothing to delete.
func TestADeleteThatWaitedDoesNotDeleteWhatCameAfterIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ make, remove messages.Request }{
		"volume":   {create(vol1), &messages.DeleteVolume{Volume: vol1}},
		"snapshot": {&messages.CreateSnapshot{Volume: vol1, Snapshot: snap1}, &messages.DeleteSnapshot{Snapshot: snap1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			method := driver.MethodDeleteVolume
			if name == "snapshot" {
				method = driver.MethodDeleteSnapshot
				w.do(create(vol1))
			}
			w.do(c.make)
			g := gated(w.open(), method)
			k := w.work(func(s *setup) { s.drivers[backend] = g })
			w.submit(block.OperationID(newID()), c.remove)
			<-g.entered
			second, _ := w.queue(c.remove)
			k.stop()
			close(g.open)
			k.end()
			again, _ := w.queue(c.make)
			w.work(nil)
			w.eventually("all have ended", func() bool { return !w.record(again).Live() && !w.record(second).Live() })
			w.requireDone(again)
			if rec := w.record(second); rec.Phase != kvlock.Undone {
				t.Errorf("the second deletion is %s, want undone", rec.Phase)
			}
			w.requireNothingLeft()
		})
	}
}

// TestAnExtendThatWaitedForTheEndOfItsVolumeEnds, undone: nobody has to help it.
func TestAnExtendThatWaitedForTheEndOfItsVolumeEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(create(vol1))
	g := gated(w.open(), driver.MethodDeleteVolume)
	k := w.work(func(s *setup) { s.drivers[backend] = g })
	w.submit(block.OperationID(newID()), &messages.DeleteVolume{Volume: vol1})
	<-g.entered
	extend, _ := w.queue(&messages.ExtendVolume{Volume: vol1, SizeGiB: 3})
	close(g.open)
	k.await(intake.Ended, 2)
	if rec := w.record(extend); rec.Phase != kvlock.Undone {
		t.Errorf("the extend is %s, want undone", rec.Phase)
	}
	w.requireNothingLeft()
}
