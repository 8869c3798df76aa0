package integration

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
	for _, want := range []string{"void", "broken: admin: the copy hangs", "break while running", " ago: admin: the copy hangs"} {
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

// The break of an attach waits until nothing of it reaches the host any more, whatever its worker has sent to the export server.
func TestABrokenAttachLeavesNoExport(t *testing.T) {
	t.Parallel()
	s := harness.Up(t)
	volume := s.Create(t, M{"size": 1})
	pid := harness.ExportServerPID(filepath.Join(s.Dir, "node"))
	signal(t, pid, syscall.SIGSTOP)
	env := []string{"SCORIA_ENDPOINT=" + s.URL}
	attaching := harness.StartEnv(t, env, "volume", "attach", volume)
	var list struct{ Operations []harness.Operation }
	harness.Eventually(t, 20*time.Second, "the attach is at the export server", func() bool {
		s.Must(t, http.StatusOK, http.MethodGet, "/scoria/v1/operations?kind=volume.attach", nil, &list)
		return len(list.Operations) == 1 && list.Operations[0].Step == "export"
	})
	id := list.Operations[0].ID
	breaking := harness.StartEnv(t, env, "lock", "break", volume, "--reason", "test", "--force")
	harness.Eventually(t, 20*time.Second, "the operation is void", func() bool { return operation(t, s.API, id).Phase == "void" })
	if op := operation(t, s.API, id); op.Ended || breaking.HasEnded() {
		t.Errorf("the operation has ended (%v) before the export server answered; %s", op.Ended, breaking.Log())
	}
	if out, _, _ := s.CLI(t, "lock", "explain", volume); !strings.Contains(out, "scoria lock break with --reason goes on with that") {
		t.Errorf("lock explain says:\n%s", out)
	}
	signal(t, pid, syscall.SIGCONT)
	<-breaking.Ended()
	<-attaching.Ended()
	if breaking.Status() != 0 || attaching.Status() != 1 || !strings.Contains(attaching.Log(), "broken: admin: test") {
		t.Errorf("break: status %d, %q; attach: status %d, %q", breaking.Status(), breaking.Log(), attaching.Status(), attaching.Log())
	}
	s.Idle(t)
	if out, _, _ := s.CLI(t, "attachment", "list", "--volume", volume, "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("attachments that are left: %s", out)
	}
	attachment, uri := attach(t, s.API, volume)
	if !strings.Contains(uri, attachment) {
		t.Errorf("attached again: %s", uri)
	}
	s.VerifyClean(t)
}
