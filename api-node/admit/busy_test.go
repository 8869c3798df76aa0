package admit_test

import (
	"sync"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
)

// TestABusyNodeRefusesAtOnce: the store does not answer, and callers come without end. Each is refused at once beyond a bound, with nothing
// done, and what frees room has its own share.
func TestABusyNodeRefusesAtOnce(t *testing.T) {
	t.Parallel()
	const limit = 8
	hold := make(chan struct{})
	s := newStack(t, roomy, kvtx.WithLimit(limit, 1<<20))
	v := s.newVolume()
	stand := func(kvtx.Call) { <-hold }
	s.hook.Store(&stand)
	var all sync.WaitGroup
	submit := func(r messages.Request) error {
		_, err := s.submitAs(alice, "", r)
		return err
	}
	busy := make(chan error, 100)
	for range cap(busy) {
		all.Go(func() {
			err := submit(&messages.CreateVolume{SizeGiB: 1})
			if err != nil {
				busy <- err
			}
		})
	}
	for range cap(busy) - limit/2 {
		wantRefused(t, <-busy, messages.CodeBusy, "this node has as many changes under way as it takes at once; nothing was changed, send the request again")
	}
	deleted := make(chan error, 1)
	go func() { deleted <- submit(&messages.DeleteVolume{Volume: v}) }()
	close(hold)
	all.Wait()
	if err := <-deleted; err != nil {
		t.Errorf("a delete meanwhile: %v", err)
	}
	if err := submit(&messages.CreateVolume{SizeGiB: 1}); err != nil {
		t.Errorf("when the store answers again: %v", err)
	}
	s.sound()
}
