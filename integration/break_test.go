package integration

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/integration/harness"
)

// An operator breaks the lock of an operation that runs: whoever waited for it goes on, its worker does not, and who did it and why is kept.
func TestAnOperatorBreaksALock(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "local=file:path="+filepath.Join(t.TempDir(), "volumes")+",delay=2s")
	base := s.Create(t, M{"size": 1})
	snapshot := s.Snapshot(t, base)
	var out struct{ Volume harness.Volume }
	clone := s.Must(t, http.StatusAccepted, http.MethodPost, "/volumes", M{"volume": M{"size": 1, "snapshot_id": snapshot}}, &out).Operation()
	volume := out.Volume.ID
	deletion, err := s.Do(t.Context(), http.MethodDelete, "/snapshots/"+snapshot, nil, onConflict, inLine)
	if err != nil || deletion.Status != http.StatusAccepted {
		t.Fatalf("delete of the snapshot: %v, %+v", err, deletion)
	}
	key := "snapshot." + snapshot

	if offered, _, _ := s.CLI(t, "__complete", "lock", "break", ""); !strings.Contains(offered, key) {
		t.Errorf("the shell is offered %q, want %s among it", offered, key)
	}
	for _, c := range []struct{ line, want string }{
		{"lock break " + key, "setting reason"},
		{"lock break " + key + " --reason test", "operation " + clone + " is running and gives its locks back at its end (volume.create, operation " + clone},
		{"lock break snapshot." + volume + " --reason test", "nobody holds snapshot." + volume},
		{"lock break nonsense --reason test", "is no key of a lock"},
	} {
		if stdout, stderr, status := s.CLI(t, strings.Fields(c.line)...); status == 0 || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: status %d, printed %q, said %q, want %q", c.line, status, stdout, stderr, c.want)
		}
	}
	stdout, stderr, status := s.CLI(t, "lock", "break", key, "--reason", "the copy hangs", "--force")
	if status != 0 || !strings.HasPrefix(stdout, "operation "+clone+" (volume.create of "+volume+") is broken") {
		t.Fatalf("lock break: status %d, printed %q, said %q", status, stdout, stderr)
	}
	s.MustEnd(t, deletion.Operation())
	stdout, _, _ = s.CLI(t, "operation", "show", clone)
	for _, want := range []string{"void", "broken: admin: the copy hangs", "break while running", "by admin: the copy hangs"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("operation show has no %q:\n%s", want, stdout)
		}
	}
	for _, want := range []string{`msg="operation broken" operation=` + clone, `reason="the copy hangs"`, "user=admin"} {
		if !strings.Contains(s.Process().Log(), want) {
			t.Errorf("the log has no %q", want)
		}
	}
	if v := s.Get(t, volume); v.Status != "error" {
		t.Errorf("the volume that was being made is %s", v.Status)
	}
	s.Idle(t)
	s.VerifyClean(t)
	s.Delete(t, "/volumes/"+volume)
	s.VerifyClean(t)
}
