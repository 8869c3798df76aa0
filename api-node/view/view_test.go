package view_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

func newID() string { return uuid.NewString() }

func TestAfterWaitEveryoneReadsTheirOwnWrites(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			project := fmt.Sprintf("p%d", g%2)
			for range 10 {
				acc := s.submit(project, &messages.CreateVolume{SizeGiB: 1})
				if err := s.view.Wait(t.Context(), acc.Revision); err != nil {
					t.Error(err)
					return
				}
				if row, ok := s.view.Volume(block.VolumeID(acc.Resource)); !ok || row.Holder == nil || row.Shown != block.VolumeCreating {
					t.Errorf("the volume that was just accepted: %+v, %v", row, ok)
				}
				if !slices.ContainsFunc(slices.Collect(s.view.Volumes(project)), func(r *view.Volume) bool { return string(r.ID) == acc.Resource }) {
					t.Error("the volume that was just accepted is not in the list")
				}
			}
		})
	}
	wg.Wait()
	if _, use := s.view.Quota("p0"); use.Volumes != 40 {
		t.Errorf("40 volumes were created, the quota shows %+v", use)
	}
}

// Who waits for the end of an operation finds what it did.
func TestAnEndIsNotSeenBeforeItsEffects(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for range 40 {
		v := s.newVolume("p1") // waits for the end
		if row, ok := s.view.Volume(v); !ok || row.Shown != block.VolumeAvailable {
			t.Errorf("the create has ended, and the volume is %+v, %v", row, ok)
		}
		acc := s.submit("p1", &messages.DeleteVolume{Volume: v})
		s.end(acc.Operation, admittest.Succeed)
		if _, err := s.view.WaitEnded(t.Context(), acc.Operation); err != nil {
			t.Fatal(err)
		}
		if row, ok := s.view.Volume(v); ok {
			t.Errorf("the delete has ended, and the volume is %+v", row)
		}
		if _, use := s.view.Quota("p1"); !use.IsZero() {
			t.Errorf("the delete has ended, and the project uses %+v", use)
		}
	}
}

// The server finds what a consumer with one filter wants at once; one with several filters makes the start of a view several times longer.
func TestAViewIsFedByOneConsumerWithOneFilter(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	before := s.consumers()
	s.run()
	now := s.consumers()
	if len(now) != len(before)+1 {
		t.Errorf("a view has %d consumers, want 1", len(now)-len(before))
	}
	for _, c := range now {
		if len(c.Config.FilterSubjects) > 1 {
			t.Errorf("consumer %s has the filters %v", c.Name, c.Config.FilterSubjects)
		}
	}
}

func (s *stack) consumers() (all []*jetstream.ConsumerInfo) {
	s.t.Helper()
	list := s.store.Stream().ListConsumers(s.t.Context())
	for c := range list.Info() {
		all = append(all, c)
	}
	if err := list.Err(); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// volumes makes n volumes in the bucket, the oldest first, and returns their IDs.
func (s *stack) volumes(n int) []block.VolumeID {
	s.t.Helper()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ids := make([]block.VolumeID, n)
	last := s.put(n, func(i int) string {
		ids[i] = block.VolumeID(newID())
		return records.VolumeKey(ids[i])
	}, func(i int) []byte {
		return records.Encode(block.Volume{ID: ids[i], Project: "p1", User: "u", Name: fmt.Sprintf("volume %d", i), SizeGiB: 10, Type: "__DEFAULT__",
			Zone: "nova", Status: block.VolumeAvailable, Backend: "b1", ReservedGiB: 10, ChargedGiB: 10, CreatedAt: begin.Add(time.Duration(i) * time.Second)})
	})
	if err := s.view.Wait(s.t.Context(), last); err != nil {
		s.t.Fatal(err)
	}
	return ids
}

func TestTenThousandVolumesAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	const n = 10_000
	ids := s.volumes(n)
	i := n
	for r := range s.run().Volumes("p1") {
		if i--; r.ID != ids[i] {
			t.Fatalf("the list is not newest first at %d", i)
		}
	}
	if i != 0 {
		t.Errorf("%d volumes are missing from the list", i)
	}
}

// The start of a view, until its lists are whole.
func BenchmarkLoadTenThousandVolumes(b *testing.B) {
	s := newStack(b)
	s.volumes(10_000)
	for b.Loop() {
		_, stop := s.start()
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}

// A view that begins while others write without a pause gets ready all the same.
func TestAViewCatchesUpWithWriters(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.put(5_000, func(int) string { return records.NodeKey(newID()) }, func(int) []byte { return records.Encode(records.Node{Name: "n"}) })
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var written atomic.Int64
	defer writers.Wait()
	defer cancel()
	for w := range 32 {
		writers.Go(func() {
			for ctx.Err() == nil {
				key := records.NodeKey(fmt.Sprintf("writer-%d", w))
				_, err := s.store.Update(ctx, []string{key}, func(now kvtx.Snapshot, tx *kvtx.Tx) error {
					e, err := now.Get(key)
					if err != nil {
						return err
					}
					tx.Put(key, records.Encode(records.Node{Name: "w"}), e.Revision)
					return nil
				})
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				written.Add(1)
			}
		})
	}
	s.until("the writers are at work", func() bool { return written.Load() > 1000 })
	start, before := time.Now(), written.Load()
	s.run()
	t.Logf("caught up in %v, while %d records were written", time.Since(start), written.Load()-before)
}

// A volume that is made anew under its ID, or that changes hands, is listed once, where it belongs now.
func TestARowThatMovesLeavesItsOldPlace(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	id, begin := block.VolumeID(newID()), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var rev kvtx.Revision
	for i, v := range []block.Volume{{Project: "p1", CreatedAt: begin}, {Project: "p1", CreatedAt: begin.Add(time.Hour)}, {Project: "p2", CreatedAt: begin}} {
		v.ID, v.Status, v.Backend = id, block.VolumeAvailable, "b1"
		var tx kvtx.Tx
		tx.Put(records.VolumeKey(id), records.Encode(v), rev)
		res, err := s.store.Commit(t.Context(), &tx)
		if err != nil {
			t.Fatal(err)
		}
		rev = res.Last()
		if err := s.view.Wait(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
		all, own := slices.Collect(s.view.Volumes("")), slices.Collect(s.view.Volumes(v.Project))
		if len(all) != 1 || len(own) != 1 || !own[0].CreatedAt.Equal(v.CreatedAt) || all[0] != own[0] {
			t.Errorf("version %d: %d volumes in all, %d in %s", i, len(all), len(own), v.Project)
		}
	}
	if left := slices.Collect(s.view.Volumes("p1")); len(left) != 0 {
		t.Errorf("%d volumes are left in p1", len(left))
	}
}

func TestAListIsFromOnePublicationWhileTheViewGoesOn(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for range 3 {
		s.newVolume("p1")
	}
	n := 0
	for range s.view.Volumes("p1") {
		s.newVolume("p1") // waits for the view: the list in hand does not grow for it
		if n++; n > 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("the list began with 3 volumes and went over %d", n)
	}
	for range s.view.Volumes("p1") { // a list may be left early
		break
	}
}

func TestSlowFollowersDoNotHoldUpTheView(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	acc := s.submit("p1", &messages.CreateVolume{SizeGiB: 1})
	release, done := make(chan struct{}), make(chan []string)
	go func() {
		var phases []string
		for op, err := range s.view.Follow(ctx, acc.Operation) {
			if err != nil {
				t.Error(err)
				break
			}
			phases = append(phases, op.Phase)
			<-release
		}
		done <- phases
	}()
	for range 20 { // would stop for ever if the feed waited for the follower
		s.newVolume("p1")
	}
	s.end(acc.Operation, admittest.Succeed)
	op, err := s.view.WaitEnded(t.Context(), acc.Operation)
	if err != nil || op.Phase != "done" {
		t.Fatalf("%+v, %v", op, err)
	}
	close(release)
	if phases := <-done; phases[len(phases)-1] != "done" || phases[0] == "done" {
		t.Errorf("the follower saw %v, want the first state and the last", phases)
	}
}

func TestEndedOperationsLeaveTheViewAndAreReadFromTheBucket(t *testing.T) {
	t.Parallel()
	s := newStack(t, view.WithEnded(2))
	var ids []block.OperationID
	for range 5 {
		acc := s.submit("p1", &messages.CreateVolume{SizeGiB: 1})
		s.end(acc.Operation, admittest.Succeed)
		ids = append(ids, acc.Operation)
		if _, err := s.view.WaitEnded(t.Context(), acc.Operation); err != nil {
			t.Fatal(err)
		}
	}
	live := s.submit("p1", &messages.CreateVolume{SizeGiB: 1})
	if err := s.view.Wait(t.Context(), live.Revision); err != nil {
		t.Fatal(err)
	}
	var kept []block.OperationID
	for op := range s.view.Operations("p1") {
		kept = append(kept, op.ID)
	}
	if want := []block.OperationID{live.Operation, ids[4], ids[3]}; !slices.Equal(kept, want) {
		t.Errorf("the view keeps %v, want %v", kept, want)
	}
	op, err := s.view.WaitEnded(t.Context(), ids[0])
	if err != nil || !op.Ended || op.ID != ids[0] {
		t.Errorf("an operation that left the view: %+v, %v", op, err)
	}
	for _, id := range []block.OperationID{block.OperationID(newID()), "no.id"} {
		if _, err := s.view.WaitEnded(t.Context(), id); !errors.Is(err, view.ErrNotFound) {
			t.Errorf("WaitEnded(%s) = %v, want ErrNotFound", id, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.view.WaitEnded(ctx, live.Operation); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitEnded of a live operation = %v, want the context's end", err)
	}
}

func TestStuckOperationsAreShownWithWhatTheyHold(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	v := s.newVolume("p1")
	acc := s.submit("p1", &messages.ExtendVolume{Volume: v, SizeGiB: 2})
	s.end(acc.Operation, admittest.Stick)
	op, err := s.view.WaitEnded(t.Context(), acc.Operation)
	if err != nil || !op.Stuck() || op.Ended || op.Step != "finish" || op.Attempt < 1 || op.Error == "" || !op.Pivoted || op.Worker != "n1" || op.Epoch != 1 {
		t.Fatalf("%+v, %v", op, err)
	}
	if row, _ := s.view.Volume(v); row.Shown != block.VolumeErrorExtending || row.Holder == nil || row.Holder.Operation != acc.Operation {
		t.Errorf("the volume shows %+v", row)
	}
	lock, ok := s.view.Lock(records.VolumeKey(v))
	if !ok || !lock.Holds(string(acc.Operation)) {
		t.Errorf("the lock shows %+v, %v", lock, ok)
	}
	if _, ok := s.view.Lock(records.VolumeKey(block.VolumeID(newID()))); ok {
		t.Error("a free key has a lock")
	}
}

func TestARecordThatCannotBeReadIsToldAndDoesNotStopTheView(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	bad := records.VolumeKey(block.VolumeID(newID()))
	for _, key := range []string{bad, "op." + newID(), records.QuotaKey("p9"), records.CreditKey("p9", "n")} {
		s.put(1, func(int) string { return key }, func(int) []byte { return []byte("no record") })
	}
	s.newVolume("p1") // the view goes on
	faults := s.view.Faults()
	if len(faults) != 4 || !slices.ContainsFunc(faults, func(f view.Fault) bool { return f.Key == bad && errors.Is(f.Err, records.ErrBroken) }) {
		t.Errorf("faults %+v", faults)
	}
}

func TestWaitersAreReleasedWhenTheViewStops(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	acc := s.submit("p1", &messages.CreateVolume{SizeGiB: 1})
	v := view.New(s.store, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- v.Run(ctx) }()
	<-v.CaughtUp()
	waited := make(chan error, 2)
	go func() { waited <- v.Wait(t.Context(), 1<<60) }()
	go func() { _, err := v.WaitEnded(t.Context(), acc.Operation); waited <- err }()
	cancel()
	if err := <-ran; err != nil {
		t.Errorf("Run = %v", err)
	}
	for range 2 {
		if err := <-waited; !errors.Is(err, view.ErrStopped) {
			t.Errorf("a waiter got %v, want ErrStopped", err)
		}
	}
	if err := v.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}
