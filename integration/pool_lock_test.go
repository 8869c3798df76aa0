package integration

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/integration/harness"
)

// A backend whose calls take the lock of its pool: two processes of a node share the work, one is killed in the middle, and the pool is free
// at the end.
func TestABackendWithTheLockOfItsPool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	backend := "local=file:path=" + filepath.Join(t.TempDir(), "volumes") + ",lock=pool"
	s := harness.UpIn(t, dir, "--backend", backend, "--lease", "2s")
	beside := harness.Start(t, "volume-node", "--nats", s.NATSURL(), "--name", "n1", "--state", filepath.Join(dir, "node"), "--backend", backend,
		"--metrics", "127.0.0.1:0", "--lease", "2s")
	beside.Ready(t)
	source := s.Create(t, M{"size": 1})
	snapshot := s.Snapshot(t, source)
	for range 8 {
		s.Must(t, http.StatusAccepted, http.MethodPost, "/volumes", M{"volume": M{"size": 1, "snapshot_id": snapshot}}, nil)
	}
	beside.Kill()
	s.Idle(t)
	s.VerifyClean(t)
	if out, stderr, status := s.CLI(t, "lock", "list"); status != 0 || strings.Contains(out, "named") {
		t.Errorf("lock list: status %d, printed %s, said %s", status, out, stderr)
	}
}
