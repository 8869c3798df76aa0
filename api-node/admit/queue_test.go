package admit_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// queue submits a request that waits if it has to.
func (s *stack) queue(r messages.Request) (admit.Accepted, error) {
	return s.admit.Submit(s.t.Context(), admit.Submission{Caller: alice, OnConflict: "queue", Request: r})
}

func (s *stack) mustQueue(r messages.Request, phase kvlock.Phase) admit.Accepted {
	s.t.Helper()
	acc, err := s.queue(r)
	if err != nil {
		s.t.Fatalf("queue %s: %v", r.Kind(), err)
	}
	if rec, err := s.locks.Record(s.t.Context(), string(acc.Operation)); err != nil || rec.Phase != phase {
		s.t.Fatalf("%s is %s, %v; want it %s", r.Kind(), rec.Phase, err, phase)
	}
	return acc
}

// available makes a volume.
func (s *stack) available(size block.GiB) block.VolumeID {
	s.t.Helper()
	return block.VolumeID(s.run(&messages.CreateVolume{SizeGiB: size}, admittest.Succeed).Resource)
}

func TestTheRequestBeyondAFullLineIsRefusedInWords(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.available(1)
	s.submit(&messages.ExtendVolume{Volume: v, SizeGiB: 2})
	var wg sync.WaitGroup
	for range kvlock.MaxWaiters {
		wg.Go(func() {
			if _, err := s.queue(&messages.DeleteVolume{Volume: v}); err != nil {
				t.Errorf("queue: %v", err)
			}
		})
	}
	wg.Wait()
	_, err := s.queue(&messages.DeleteVolume{Volume: v})
	wantRefused(t, err, messages.CodeUnavailable, "as many operations as possible wait at this moment; nothing was changed…")
	if err == nil || !strings.Contains(err.Error(), "257 operations would wait") {
		t.Errorf("error %v, want the number", err)
	}
	// A newcomer that does not wait is refused, with the name of who stands in the way.
	_, err = s.submitAs(alice, "", &messages.DeleteVolume{Volume: v})
	wantRefused(t, err, messages.CodeInvalidVolume, "Invalid volume: …")
}

// What was made and charged for an operation that waited is gone when it leaves, however it leaves.
func TestALeaveGivesBackWhatAdmissionTook(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.available(3)
	s.submit(&messages.ExtendVolume{Volume: v, SizeGiB: 4})
	before := s.book(v)
	for what, req := range map[string]messages.Request{
		"clone":    &messages.CreateVolume{FromVolume: v, SizeGiB: 7},
		"snapshot": &messages.CreateSnapshot{Volume: v},
		"extend":   &messages.ExtendVolume{Volume: v, SizeGiB: 9},
		"delete":   &messages.DeleteVolume{Volume: v},
		"attach":   &messages.AttachVolume{Volume: v, Connector: []byte(`{}`)},
	} {
		acc := s.mustQueue(req, kvlock.Queued)
		if s.book(v) == before && what != "delete" {
			t.Errorf("%s: nothing was taken at admission: the test is blind", what)
		}
		if err := s.admit.Cancel(t.Context(), alice, acc.Operation, ""); err != nil {
			t.Errorf("%s: cancel: %v", what, err)
		}
		if after := s.book(v); after != before {
			t.Errorf("%s: the books after the leave are\n%+v, were\n%+v", what, after, before)
		}
		if rec, err := s.locks.Record(t.Context(), string(acc.Operation)); err != nil || rec.Phase != kvlock.Void || rec.Live() {
			t.Errorf("%s: the operation is %s, %v", what, rec.Phase, err)
		}
	}
}

// book is what a project and a volume of it are charged, and what stands on the volume.
type book struct {
	use                 records.Usage
	charged             block.GiB
	snapshots, attached int
	volumes, others     int // records
}

func (s *stack) book(v block.VolumeID) book {
	s.t.Helper()
	q := load[records.Quota](s, records.QuotaKey(alice.Project))
	var c records.Credit
	if e, err := s.store.Get(s.t.Context(), records.CreditKey(alice.Project, "api")); err != nil {
		s.t.Fatal(err)
	} else if e.Exists { // nothing was given back yet
		c = load[records.Credit](s, e.Key)
	}
	vol := load[block.Volume](s, records.VolumeKey(v))
	b := book{use: q.Use.Sub(c.Back), charged: vol.ChargedGiB, snapshots: len(vol.Snapshots), attached: len(vol.Attachments)}
	err := s.store.Scan(s.t.Context(), ">", func(e kvtx.Entry) error {
		switch class, _ := records.Classify(e.Key); class {
		case records.ClassVolume:
			b.volumes++
		case records.ClassSnapshot, records.ClassAttachment:
			b.others++
		default:
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func TestARequestWhoseTimeToWaitIsOverIsEnded(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	v := s.available(1)
	s.submit(&messages.ExtendVolume{Volume: v, SizeGiB: 2})
	acc, err := s.admit.Submit(t.Context(), admit.Submission{Caller: alice, OnConflict: "queue;deadline=0.1", Request: &messages.DeleteVolume{Volume: v}})
	if err != nil {
		t.Fatal(err)
	}
	go s.admit.KeepDeadlines(t.Context(), func() (all []admit.Waiter) {
		for _, op := range s.view.Waiting() {
			all = append(all, admit.Waiter{Operation: op.ID, Deadline: op.Deadline})
		}
		return all
	})
	s.until("the operation gave up", func() bool {
		op, ok := s.view.Operation(acc.Operation)
		return ok && op.Ended && op.Error == "gave up waiting: "+kvlock.DeadlinePassed
	})
	if op, _ := s.view.Operation(acc.Operation); op.EndedAt.Sub(op.Submitted) < 100*time.Millisecond {
		t.Errorf("it ended %v after it was submitted", op.EndedAt.Sub(op.Submitted))
	}
}
