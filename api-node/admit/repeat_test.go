package admit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestRepeatedOperationIDReturnsTheSameOperation(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.newVolume()
	for _, c := range []struct {
		name  string
		req   func() messages.Request
		other messages.Request
	}{
		{"create", func() messages.Request { return &messages.CreateVolume{SizeGiB: 2, Name: "x"} }, &messages.CreateVolume{SizeGiB: 3, Name: "x"}},
		{"delete", func() messages.Request { return &messages.DeleteVolume{Volume: v} }, &messages.CreateSnapshot{Volume: v}},
	} {
		id := newOp()
		acc, err := s.submitAs(alice, id, c.req())
		if err != nil || acc.Repeated || acc.Operation != id {
			t.Fatalf("%s: %+v, %v", c.name, acc, err)
		}
		for _, when := range []string{"at once", "after its end"} {
			before := s.bucket()
			again, err := s.submitAs(alice, id, c.req())
			if err != nil || !again.Repeated || again.Operation != id || again.Resource != acc.Resource || again.Revision < acc.Revision && when != "at once" {
				t.Errorf("%s, repeated %s: %+v, %v; first %+v", c.name, when, again, err, acc)
			}
			_, err = s.submitAs(alice, id, c.other)
			wantRefused(t, err, messages.CodeReused, "the operation ID or idempotency key "+string(id)+" was used for another request")
			bob := alice
			bob.Project = "p2"
			_, err = s.submitAs(bob, id, c.req())
			wantRefused(t, err, messages.CodeReused, "the operation ID…")
			if s.bucket() != before {
				t.Errorf("%s: a repeated request changed the bucket", c.name)
			}
			if when == "at once" {
				s.end(id, admittest.Succeed)
			}
		}
	}
	s.sound()
}

func TestSameOperationIDAtTheSameMomentIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	for range 5 {
		id := newOp()
		resources := make([]string, 8)
		fns := make([]func() error, len(resources))
		for i := range fns {
			fns[i] = func() error {
				acc, err := s.submitAs(alice, id, &messages.CreateVolume{SizeGiB: 1})
				resources[i] = acc.Resource
				return err
			}
		}
		for _, err := range together(fns...) {
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range resources {
			if r != resources[0] {
				t.Fatalf("one operation ID made several volumes: %v", resources)
			}
		}
	}
	s.until("five volumes are in the view", func() bool { return s.usage("p1").Volumes >= 5 })
	if got := s.usage("p1").Volumes; got != 5 {
		t.Errorf("%d volumes charged, want 5", got)
	}
	s.sound()
}

// The answer of the commit is lost, after it was applied or before it arrived: the caller gets the operation, once.
func TestLostReplyOfTheCommitIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	for _, fault := range []kvlocktest.Fault{kvlocktest.RequestLost, kvlocktest.AnswerLost} {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			s := newStack(t, roomy, kvtx.WithAckTimeout(200*time.Millisecond))
			s.faults.Arm(fault, 1, nil, kvtx.Batch)
			acc := s.submit(&messages.CreateVolume{SizeGiB: 1})
			if !s.faults.Disarm() {
				t.Fatal("the fault was not met")
			}
			if acc.Repeated {
				t.Error("the first submission is called a repeated one")
			}
			if n := s.dispatches(); n != 1 {
				t.Errorf("%d dispatches, want 1", n)
			}
			s.end(acc.Operation, admittest.Succeed)
			s.sound()
		})
	}
}

// The caller gives up: the same submission repeated finds the operation, or makes it, and never a second one.
func TestRepeatAfterGivingUpIsOneOperation(t *testing.T) {
	t.Parallel()
	for _, fault := range []kvlocktest.Fault{kvlocktest.GiveUpBefore, kvlocktest.GiveUpAfter} {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			s := newStack(t, roomy, kvtx.WithAckTimeout(200*time.Millisecond))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.faults.Arm(fault, 1, cancel, kvtx.Batch)
			sub := submission("")
			sub.Operation = newOp()
			acc, err := s.admit.Submit(ctx, sub)
			if err == nil {
				t.Fatalf("accepted: %+v", acc)
			}
			e := wantRefused(t, err, messages.CodeUnavailable, "…")
			if !contains(e.Message, string(sub.Operation)) {
				t.Errorf("the text does not name the operation: %s", e.Message)
			}
			s.faults.Disarm()
			acc, err = s.admit.Submit(t.Context(), sub)
			if err != nil || acc.Operation != sub.Operation {
				t.Fatalf("repeated: %+v, %v", acc, err)
			}
			if n := s.dispatches(); n != 1 {
				t.Errorf("%d dispatches, want 1", n)
			}
			if err := s.view.Wait(t.Context(), acc.Revision); err != nil {
				t.Fatal(err)
			}
			if got := s.usage("p1").Volumes; got != 1 {
				t.Errorf("%d volumes charged, want 1", got)
			}
			s.end(acc.Operation, admittest.Succeed)
			if row, ok := s.view.Volume(block.VolumeID(acc.Resource)); !ok || row.Shown != block.VolumeAvailable {
				t.Errorf("the volume shows %+v, %v", row, ok)
			}
			s.sound()
		})
	}
}

// What is answered to callers who repeat a request while the commit of the first one is being made is a place in the stream, which the
// read side gets to.
func TestRepeatedAtTheSameMomentIsSeenByTheView(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	seen := func(rev kvtx.Revision, err error) error {
		if err != nil || rev.Pending() {
			return fmt.Errorf("revision %x, %v", uint64(rev), err)
		}
		return s.view.Wait(t.Context(), rev)
	}
	v := s.newVolume()
	at := s.run(&messages.AttachVolume{Volume: v, Connector: []byte(`{"host":"h"}`)}, admittest.Succeed)
	id := newOp()
	var fns []func() error
	for range 8 {
		fns = append(fns, func() error {
			acc, err := s.submitAs(alice, id, &messages.CreateVolume{SizeGiB: 1})
			return seen(acc.Revision, err)
		}, func() error {
			return seen(s.admit.CompleteAttachment(t.Context(), alice, block.AttachmentID(at.Resource)))
		})
	}
	for _, err := range together(fns...) {
		if err != nil {
			t.Error(err)
		}
	}
}
