package admit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// together runs the functions at the same moment and returns their errors.
func together(fns ...func() error) []error {
	errs := make([]error, len(fns))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() {
			<-start
			errs[i] = fn()
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func accepted(errs []error) (n int) {
	for _, err := range errs {
		if err == nil {
			n++
		}
	}
	return n
}

func TestQuotaUnderParallelCreatesIsExact(t *testing.T) {
	t.Parallel()
	s := newStack(t, records.Limits{Volumes: 10, Snapshots: records.Unlimited, GiB: records.Unlimited})
	fns := make([]func() error, 40)
	for i := range fns {
		fns[i] = func() error {
			_, err := s.submitAs(alice, "", &messages.CreateVolume{SizeGiB: 1})
			return err
		}
	}
	errs := together(fns...)
	if n := accepted(errs); n != 10 {
		t.Errorf("%d of 40 creates accepted at a limit of 10", n)
	}
	for _, err := range errs {
		if err != nil {
			wantRefused(t, err, messages.CodeQuota, "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.")
		}
	}
	s.sound()
}

func TestQuotaTextsAndLimits(t *testing.T) {
	t.Parallel()
	s := newStack(t, records.Limits{Volumes: 2, Snapshots: 1, GiB: 10})
	v := block.VolumeID(s.run(&messages.CreateVolume{SizeGiB: 4}, admittest.Succeed).Resource)
	_, err := s.submitAs(alice, "", &messages.CreateVolume{SizeGiB: 7})
	wantRefused(t, err, messages.CodeQuota, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 7G, quota is 10G and 4G has been consumed.")
	_, err = s.submitAs(alice, "", &messages.ExtendVolume{Volume: v, SizeGiB: 11})
	wantRefused(t, err, messages.CodeQuota, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 7G, quota is 10G and 4G has been consumed.")
	s.newSnapshot(v)
	_, err = s.submitAs(alice, "", &messages.CreateSnapshot{Volume: v})
	wantRefused(t, err, messages.CodeQuota, "VolumeSizeExceedsAvailableQuota: …") // 8 and 4 more; gigabytes come first
	w := block.VolumeID(s.run(&messages.CreateVolume{SizeGiB: 1}, admittest.Succeed).Resource)
	_, err = s.submitAs(alice, "", &messages.CreateSnapshot{Volume: w})
	wantRefused(t, err, messages.CodeQuota, "SnapshotLimitExceeded: Maximum number of snapshots allowed (1) exceeded")
	_, err = s.submitAs(alice, "", &messages.CreateVolume{SizeGiB: 1})
	wantRefused(t, err, messages.CodeQuota, "VolumeLimitExceeded: Maximum number of volumes allowed (2) exceeded for quota 'volumes'.")
	bob := alice
	bob.Project = "p2"
	if _, err := s.submitAs(bob, "", &messages.CreateVolume{SizeGiB: 10}); err != nil {
		t.Errorf("the quota of another project: %v", err)
	}
	s.sound()
}

// What a node gave back stands in its own record until somebody needs it.
func TestCreditsAreFoldedInBeforeARefusal(t *testing.T) {
	t.Parallel()
	s := newStack(t, records.Limits{Volumes: 2, Snapshots: 0, GiB: 10})
	for range 5 {
		v := s.newVolume()
		w := s.newVolume()
		if _, err := s.submitAs(alice, "", &messages.CreateVolume{SizeGiB: 1}); err == nil {
			t.Fatal("a third volume was accepted at a limit of two")
		}
		s.run(&messages.DeleteVolume{Volume: v}, admittest.Succeed)
		s.run(&messages.DeleteVolume{Volume: w}, admittest.Succeed)
		if got := s.usage("p1"); !got.IsZero() {
			t.Fatalf("usage %+v after everything was deleted", got)
		}
		s.sound()
	}
	if q := load[records.Quota](s, records.QuotaKey("p1")); q.Use.Volumes > 2 {
		t.Errorf("the quota says %+v: no credit was folded in", q.Use)
	}
}

func TestDoubleDeleteDoubleAttachDoubleDetachOneWins(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	for round := range 8 {
		v, w := s.newVolume(), s.newVolume()
		att := s.newAttachment(w)
		again := func(r messages.Request) func() error {
			return func() error { _, err := s.submitAs(alice, "", r); return err }
		}
		for _, c := range []struct {
			name string
			errs []error
			code messages.Code
		}{
			{"attach", together(again(&messages.AttachVolume{Volume: v, Instance: "a"}), again(&messages.AttachVolume{Volume: v, Instance: "b"})), messages.CodeInvalidVolume},
			{"detach", together(again(&messages.DetachVolume{Attachment: att}), again(&messages.DetachVolume{Attachment: att})), messages.CodeUnavailable},
		} {
			if n := accepted(c.errs); n != 1 {
				t.Fatalf("round %d: %d of two at the same moment accepted: %s: %v", round, n, c.name, c.errs)
			}
			e := messages.AsError(errors.Join(c.errs...))
			for _, err := range c.errs {
				if err != nil {
					e = messages.AsError(err)
				}
			}
			if e.Code != c.code {
				t.Errorf("round %d: the second %s is refused with %s: %v", round, c.name, e.Code, e)
			}
		}
		x := s.newVolume()
		if errs := together(again(&messages.DeleteVolume{Volume: x}), again(&messages.DeleteVolume{Volume: x})); accepted(errs) != 1 {
			t.Fatalf("round %d: double delete: %v", round, errs)
		}
		y := s.newVolume()
		if errs := together(again(&messages.DeleteVolume{Volume: y}), again(&messages.AttachVolume{Volume: y})); accepted(errs) != 1 {
			t.Fatalf("round %d: delete against attach: %v", round, errs)
		}
		z := s.newVolume()
		reserve := func() error { _, _, err := s.admit.Reserve(t.Context(), alice, z, "", "vm", false); return err }
		if errs := together(again(&messages.DeleteVolume{Volume: z}), reserve); accepted(errs) != 1 {
			t.Fatalf("round %d: delete against reserve: %v", round, errs)
		}
		u := s.newVolume()
		if errs := together(again(&messages.DeleteVolume{Volume: u}), again(&messages.CreateSnapshot{Volume: u})); accepted(errs) != 1 {
			t.Fatalf("round %d: delete against snapshot: %v", round, errs)
		}
	}
	s.sound()
}

// The race of the thread of 2015, on the side of admission: whichever comes second is refused in its words or finds
// nothing, and what was accepted ends well.
func TestCreateFromASourceAgainstItsDeletion(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := newStack(t, roomy)
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 1))
	stagger := func(most time.Duration) { // the random delay is what the test is about: nothing is waited for
		mu.Lock()
		d := time.Duration(rnd.Int64N(int64(most))) * time.Duration(rnd.IntN(2))
		mu.Unlock()
		<-time.After(d)
	}
	go func() {
		worked <- s.worker.Run(ctx, 4, func(block.OperationID) { stagger(8 * time.Millisecond) })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-worked; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	wait := func(acc string, id block.OperationID) {
		op, err := s.view.WaitEnded(t.Context(), id)
		if err != nil || op.Phase != "done" {
			t.Errorf("accepted %s of %s: %v, %+v", acc, id, err, op)
		}
	}
	do := func(r messages.Request) (string, block.OperationID) {
		acc, err := s.submitAs(alice, "", r)
		if err != nil {
			t.Fatal(err)
		}
		wait("set-up", acc.Operation)
		return acc.Resource, acc.Operation
	}
	var both, createFirst, deleteFirst, gone atomic.Int64
	for round := range 60 {
		id, _ := do(&messages.CreateVolume{SizeGiB: 1})
		var create, del messages.Request = &messages.CreateVolume{FromVolume: block.VolumeID(id)}, &messages.DeleteVolume{Volume: block.VolumeID(id)}
		if round%2 == 0 {
			snap, _ := do(&messages.CreateSnapshot{Volume: block.VolumeID(id)})
			create, del = &messages.CreateVolume{FromSnapshot: block.SnapshotID(snap)}, &messages.DeleteSnapshot{Snapshot: block.SnapshotID(snap)}
		}
		var created string
		var createdBy, deletedBy block.OperationID
		errs := together(func() error {
			stagger(12 * time.Millisecond)
			acc, err := s.submitAs(alice, "", create)
			created, createdBy = acc.Resource, acc.Operation
			return err
		}, func() error {
			stagger(12 * time.Millisecond)
			acc, err := s.submitAs(alice, "", del)
			deletedBy = acc.Operation
			return err
		})
		for i, err := range errs {
			if err == nil {
				wait([]string{"create", "delete"}[i], []block.OperationID{createdBy, deletedBy}[i])
			}
		}
		switch {
		case errs[0] == nil && errs[1] == nil:
			both.Add(1) // one came after the other had ended
		case errs[0] == nil:
			createFirst.Add(1)
			wantBegins(t, errs[1], " is being read by volume.create, operation "+string(createdBy))
		case errs[1] == nil:
			switch e := messages.AsError(errs[0]); e.Code {
			case messages.CodeNotFound:
				gone.Add(1)
			case messages.CodeInvalidSnapshot, messages.CodeInvalidVolume:
				deleteFirst.Add(1)
				wantBegins(t, e, "Originating s")
			default:
				t.Errorf("round %d: create refused with %s: %v", round, e.Code, e)
			}
		default:
			t.Errorf("round %d: both refused: %v", round, errs)
		}
		if errs[0] == nil {
			if row, ok := s.view.Volume(block.VolumeID(created)); !ok || row.Shown != block.VolumeAvailable {
				t.Errorf("round %d: the accepted volume shows %+v, %v", round, row, ok)
			}
		}
	}
	t.Logf("create first %d, delete first %d (and gone %d), one after the other %d", createFirst.Load(), deleteFirst.Load(), gone.Load(), both.Load())
	s.sound()
}

func wantBegins(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !contains(err.Error(), part) {
		t.Errorf("refused with %v, want it to hold %q", err, part)
	}
}
