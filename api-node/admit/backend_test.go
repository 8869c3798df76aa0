package admit_test

import (
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	servingpkg "github.com/scoria-storage/scoria/api-node/serving"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// TestBackendThatKeepsNoDataIsTheLastChoice has a null backend, which is always the emptiest, beside real ones.
func TestBackendThatKeepsNoDataIsTheLastChoice(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	s.register(records.Backend{Name: "fake", Kind: "null", Fencing: "store", Zone: "east"}, -1)
	create := func(size block.GiB) (string, error) {
		t.Helper()
		acc, err := s.submitAs(alice, "", &messages.CreateVolume{SizeGiB: size, Zone: "east"})
		if err != nil {
			return "", err
		}
		v, err := s.store.Get(t.Context(), records.VolumeKey(block.VolumeID(acc.Resource)))
		if err != nil {
			t.Fatal(err)
		}
		return must(records.Decode[block.Volume](v.Value)).Backend, nil
	}
	if b, err := create(1); b != "fake" {
		t.Errorf("where nothing else is, the volume is on %q (%v), want it on the null backend", b, err)
	}
	s.register(records.Backend{Name: "real", Kind: "file", Fencing: "node", Zone: "east", KeepsData: true}, 10)
	for range 20 {
		if b, err := create(1); b != "real" {
			t.Fatalf("the volume is on %q (%v), want it on the backend that keeps data", b, err)
		}
	}
	_, err := create(11)
	wantRefused(t, err, messages.CodeNoBackend, "No valid backend was found. b1 is in zone nova, not in east; fake keeps no data; real has no room for 11 GiB…")

	s.unserve("real")
	if b, err := create(1); b != "fake" {
		t.Errorf("with the real backend served by no node the volume is on %q (%v), want it on the null backend", b, err)
	}
}

// TestABackendIsServedByItsOwnNode: n1 served a backend of that name, which was forgotten; now it is one of another node, which does not run.
func TestABackendIsServedByItsOwnNode(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	s.register(records.Backend{Name: "other", Kind: "file", Fencing: "node", Zone: "east", KeepsData: true, Node: "id-of-n2", NodeName: "n2"}, 10)
	_, err := s.submitAs(alice, "", &messages.CreateVolume{SizeGiB: 1, Zone: "east"})
	wantRefused(t, err, messages.CodeNoBackend, "No valid backend was found. b1 is in zone nova, not in east; other is served by no node.")
}

// TestAVolumeGoesWhereSomebodyWorksOnIt: the larger backend is registered, and no process serves it, or its storage is away.
func TestAVolumeGoesWhereSomebodyWorksOnIt(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	for name, size := range map[string]block.GiB{"large": 1000, "small": 100} {
		s.register(records.Backend{Name: name, Kind: "file", Fencing: "node", Zone: "east", KeepsData: true}, size)
	}
	for says, c := range map[string]struct {
		nodes *nodes
		want  string
	}{
		"only the small one is served":     {serving(messages.Serves{Backend: "small"}), "small"},
		"what the large one keeps is away": {serving(messages.Serves{Backend: "small"}, messages.Serves{Backend: "large", Away: "unmounted"}), "small"},
		"both are served":                  {serving(messages.Serves{Backend: "small"}, messages.Serves{Backend: "large"}), "large"},
		"nobody serves any":                {gone(), "large"},
	} {
		knows := servingpkg.New(c.nodes, s.view.Nodes)
		a := admit.New(s.store, s.locks, s.view, admit.Defaults{Limits: roomy}, nil, admit.WithServing(knows))
		acc, err := a.Submit(t.Context(), admit.Submission{Caller: alice, Request: &messages.CreateVolume{SizeGiB: 1, Zone: "east"}})
		if err != nil {
			t.Fatalf("%s: %v", says, err)
		}
		v, err := s.store.Get(t.Context(), records.VolumeKey(block.VolumeID(acc.Resource)))
		if err != nil {
			t.Fatal(err)
		}
		if b := must(records.Decode[block.Volume](v.Value)).Backend; b != c.want {
			t.Errorf("%s: the volume is on %s, want %s", says, b, c.want)
		}
	}
}

// unserve takes a backend from what the worker's node serves.
func (s *stack) unserve(backend string) {
	s.t.Helper()
	key := records.NodeKey("n1")
	_, err := s.store.Update(s.t.Context(), []string{key}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := snap.Get(key)
		if err != nil {
			return err
		}
		n, err := records.Decode[records.Node](e.Value)
		var left []string
		for _, b := range n.Backends {
			if b != backend {
				left = append(left, b)
			}
		}
		n.Backends = left
		tx.Put(key, records.Encode(n), e.Revision)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.until("no node serves "+backend, func() bool {
		nodes := s.view.Nodes()
		return len(nodes) == 1 && len(nodes[0].Backends) == 2
	})
}
