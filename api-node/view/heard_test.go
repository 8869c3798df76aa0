package view_test

import (
	"context"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/messages"
)

// What workers say is shown beside the record while the operation runs, wakes followers, and is gone with its end.
func TestWhatIsHeardOfARunningOperationIsShown(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	v := s.run()
	acc := s.submit("p", &messages.CreateVolume{SizeGiB: 1})
	if err := v.Wait(t.Context(), acc.Revision); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := make(chan messages.Operation, 16)
	go func() {
		defer close(seen)
		for op, err := range v.Follow(ctx, acc.Operation) {
			if err != nil {
				return
			}
			seen <- op.Operation
		}
	}()
	first := <-seen
	u := messages.Update{V: 1, Operation: first}
	u.Operation.Steps, u.Operation.Step = []string{"reserve", "create"}, "create"
	u.Operation.ProgressDone, u.Operation.ProgressTotal = 3, 10
	v.Hear(u)
	if op := <-seen; op.ProgressDone != 3 || op.ProgressTotal != 10 || op.Step != "create" {
		t.Errorf("a follower sees %+v", op)
	}
	if op, _ := v.Operation(acc.Operation); op.ProgressDone != 3 || len(op.Steps) != 2 || op.Total != 2 {
		t.Errorf("shown is %+v", op.Operation)
	}
	u.Operation.Epoch = 7 // of another worker: it says nothing of this epoch
	v.Hear(u)
	if op, _ := v.Operation(acc.Operation); op.ProgressDone != 0 {
		t.Errorf("of another epoch: shown is %+v", op.Operation)
	}
	u.Operation.Ended = true
	v.Hear(u)
	if op, _ := v.Operation(acc.Operation); op.Ended {
		t.Error("an event ended an operation whose record has not ended")
	}
}
