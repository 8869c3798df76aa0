package volumenode_test

import (
	"os"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/operations/operationstest"
)

// A copy of a state directory has the node's identity and the files of its workers, but not their locks: they look ended there.
func TestACopyOfAStateDirectoryIsRefusedWhileItsNodeRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	original := s.config("n1", "fake=null")
	stop := s.start(original, s.deps())
	copied := original
	copied.StateDir += "-copy"
	if err := os.CopyFS(copied.StateDir, os.DirFS(original.StateDir)); err != nil {
		t.Fatal(err)
	}
	before, _ := operationstest.Get[records.Node](t, s.World, records.NodeKey("n1"))
	process := s.processes("n1")[0]
	reason := s.refused(copied)
	for _, word := range []string{copied.StateDir, "node n1 runs already, not from this directory", process, "another name"} {
		if !strings.Contains(reason, word) {
			t.Errorf("refused with %q, want %q in it", reason, word)
		}
	}
	if after, _ := operationstest.Get[records.Node](t, s.World, records.NodeKey("n1")); len(after.Processes) != 1 || !after.Seen.Equal(before.Seen) {
		t.Errorf("the node's record is %+v, was %+v: want it untouched", after, before)
	}
	second := s.start(original, s.deps()) // another process of the node, on its machine
	second()
	stop()
	s.start(copied, s.deps()) // what has moved, for good, goes on
	s.do(&messages.CreateVolume{Volume: vol1, SizeGiB: 1})
}
