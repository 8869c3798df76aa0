package admit_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// nodes are the volume nodes of a test, as they answer.
type nodes struct {
	processes func() ([]string, error)
	serving   func(process string) ([]messages.Serves, error)
}

func (n *nodes) Processes(context.Context, string) ([]string, error) { return n.processes() }

func (n *nodes) Serving(_ context.Context, _, process string) ([]messages.Serves, error) {
	return n.serving(process)
}

// gone are nodes without a process.
func gone() *nodes {
	return &nodes{processes: func() ([]string, error) { return nil, verify.ErrNobody }}
}

// serving are nodes with one process.
func serving(all ...messages.Serves) *nodes {
	return &nodes{
		processes: func() ([]string, error) { return []string{"p1"}, nil },
		serving:   func(string) ([]messages.Serves, error) { return all, nil },
	}
}

// onceAsked are nodes with a process that serves nothing, and does something just after it has said so; asked again it serves all.
func onceAsked(does func() error, all ...messages.Serves) (n *nodes, asked *int) {
	n, asked = serving(), new(int)
	n.serving = func(string) ([]messages.Serves, error) {
		if *asked++; *asked > 1 {
			return all, nil
		}
		return nil, does()
	}
	return n, asked
}

func (s *stack) forget(n *nodes, backend string) error {
	s.t.Helper()
	_, err := admit.New(s.store, s.locks, s.view, admit.Defaults{}, nil, admit.WithAsker(n)).Forget(s.t.Context(), alice, backend)
	return err
}

var recordsOfB1 = []string{"backend.b1", "pool.b1", "storage.id-b1"}

// remembered are the records of backend b1 that are there.
func (s *stack) remembered() (there []string) {
	s.t.Helper()
	for _, key := range recordsOfB1 {
		e, err := s.store.Get(s.t.Context(), key)
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Exists {
			there = append(there, key)
		}
	}
	return there
}

// newForgettable has an empty backend b1 with a storage, and b2.
func newForgettable(t *testing.T) *stack {
	t.Helper()
	s := newStack(t, roomy)
	s.register(records.Backend{Name: "b1", Kind: "file", Fencing: "node", KeepsData: true, Identity: "id-b1"}, -1)
	s.register(records.Backend{Name: "b2", Kind: "null", Fencing: "store"}, -1)
	_, err := s.store.Update(t.Context(), nil, func(_ kvtx.Snapshot, tx *kvtx.Tx) error {
		tx.Put("storage.id-b1", records.Encode(records.Storage{Identity: "id-b1", Backend: "b1"}), 0)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestABackendIsForgotten(t *testing.T) {
	t.Parallel()
	s := newForgettable(t)
	// A process runs that serves another one, and a volume is gone.
	v := s.newVolume()
	s.run(&messages.DeleteVolume{Volume: v}, admittest.Succeed)
	if err := s.forget(serving(messages.Serves{Backend: "b2"}), "b1"); err != nil {
		t.Fatal(err)
	}
	if left := s.remembered(); len(left) != 0 {
		t.Errorf("of the backend there is still %q", left)
	}
	wantRefused(t, s.forget(gone(), "b1"), messages.CodeNotFound, `There is no backend "b1".`)
	wantRefused(t, s.forget(gone(), "a.b"), messages.CodeNotFound, `There is no backend "a.b".`)
	if err := s.forget(gone(), "b2"); err != nil { // it has no storage
		t.Error(err)
	}
	s.until("the backends are gone from the view", func() bool { return len(s.view.Backends()) == 0 })
	_, err := s.submitAs(alice, "", &messages.CreateVolume{SizeGiB: 1})
	wantRefused(t, err, messages.CodeNoBackend, "No valid backend was found. no volume node has reported a backend.")
	s.register(records.Backend{Name: "b1", Kind: "file", Fencing: "node", KeepsData: true}, -1)
	s.newVolume()
}

func TestABackendIsNotForgottenThatIsServedOrNotEmpty(t *testing.T) {
	t.Parallel()
	s := newForgettable(t)
	broken := errors.New("no answer within 2s")
	refused := func(n *nodes, text string) {
		t.Helper()
		wantRefused(t, s.forget(n, "b1"), messages.CodeConflict, text)
		if there := s.remembered(); !slices.Equal(there, recordsOfB1) {
			t.Fatalf("of the backend there is %q", there)
		}
	}
	refused(serving(messages.Serves{Backend: "b1"}), "backend b1 is served by process p1 of node n1: end it, …")
	refused(serving(messages.Serves{Backend: "b1", Away: "unmounted"}), "backend b1 is served by process p1 of node n1: end it, …")
	refused(&nodes{processes: func() ([]string, error) { return nil, broken }},
		"backend b1 cannot be forgotten, because it is not known whether a process serves it: node n1 does not say which of its processes run: no answer within 2s")
	hangs := serving()
	hangs.serving = func(string) ([]messages.Serves, error) { return nil, broken }
	refused(hangs, "backend b1 cannot be forgotten, because it is not known whether a process serves it: process p1 of node n1 runs and does not say what it serves: no answer within 2s")

	acc := s.submit(&messages.CreateVolume{SizeGiB: 1})
	refused(gone(), "backend b1 cannot be forgotten, because these stand on it: volume "+acc.Resource+"; operation "+string(acc.Operation)+". Start a volume node with --backend b1=…")
	s.end(acc.Operation, admittest.Succeed)
	snapshot := s.newSnapshot(block.VolumeID(acc.Resource))
	refused(gone(), "backend b1 cannot be forgotten, because these stand on it: volume "+acc.Resource+"; snapshot "+string(snapshot)+". …")

	_, err := s.admit.Forget(t.Context(), alice, "b1")
	wantRefused(t, err, messages.CodeUnsupported, "this API node cannot ask volume nodes…")
}

// A process that starts while a backend is about to be forgotten is asked, too, or registers it anew.
func TestAProcessThatStartsMeanwhileKeepsItsBackend(t *testing.T) {
	t.Parallel()
	s := newForgettable(t)
	n, asked := onceAsked(func() error {
		s.register(records.Backend{Name: "b1", Kind: "file", Fencing: "node", KeepsData: true, Identity: "id-b1"}, -1)
		return nil
	}, messages.Serves{Backend: "b1"})
	wantRefused(t, s.forget(n, "b1"), messages.CodeConflict, "backend b1 is served by process p1…")
	if there := s.remembered(); *asked != 2 || !slices.Equal(there, recordsOfB1) {
		t.Errorf("asked %d times, want twice; of the backend there is %q", *asked, there)
	}
}

// A create that takes its room meanwhile makes the commit fail: the pool is another one.
func TestARoomThatIsTakenMeanwhileKeepsTheBackend(t *testing.T) {
	t.Parallel()
	s := newForgettable(t)
	n, asked := onceAsked(func() error {
		key := records.PoolKey("b1")
		_, err := s.store.Update(t.Context(), []string{key}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
			e, err := snap.Get(key)
			tx.Put(key, e.Value, e.Revision)
			return err
		})
		return err
	})
	if err := s.forget(n, "b1"); err != nil || *asked != 2 {
		t.Errorf("%v, asked %d times; want that it is looked at once more", err, *asked)
	}
}

// What is accepted for a backend between the look and the commit is found after it: the backend is there again, and what was accepted ends.
func TestWhatIsAcceptedMeanwhileKeepsTheBackend(t *testing.T) {
	t.Parallel()
	s := newForgettable(t)
	other, _ := s.other()
	var acc admit.Accepted
	var once atomic.Bool
	hook := func(c kvtx.Call) {
		if !slices.Contains(c.Keys, "storage.id-b1") || c.Kind == kvtx.Read || once.Swap(true) {
			return
		}
		var err error
		if acc, err = other.Submit(t.Context(), admit.Submission{Caller: alice, Request: &messages.CreateVolume{SizeGiB: 1}}); err != nil {
			t.Errorf("the create just before the commit: %v", err)
		}
	}
	s.hook.Store(&hook)
	err := s.forget(gone(), "b1")
	if err == nil || !strings.Contains(err.Error(), acc.Resource) || acc.Resource == "" {
		t.Errorf("forget = %v, want it refused because of volume %s", err, acc.Resource)
	}
	if there := s.remembered(); !slices.Equal(there, recordsOfB1) {
		t.Fatalf("of the backend there is %q", there)
	}
	s.end(acc.Operation, admittest.Succeed)
	if v := s.volume(block.VolumeID(acc.Resource)); v.Status != block.VolumeAvailable {
		t.Errorf("the volume is %s", v.Status)
	}
}
