package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// An operation that waits for an export server that does not answer says so, with the process, to whoever asks what it waits for.
func TestExplainNamesTheExportServerThatIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := harness.Up(t)
	volume := s.Create(t, M{"size": 1})
	pid := harness.ExportServerPID(filepath.Join(s.Dir, "node"))
	signal(t, pid, syscall.SIGSTOP)
	p := harness.StartEnv(t, []string{"SCORIA_ENDPOINT=" + s.URL}, "volume", "attach", volume)
	explain := func() string {
		out, errs, status := s.CLI(t, "lock", "explain", volume)
		if status != 0 {
			t.Errorf("lock explain: status %d: %s", status, errs)
		}
		return out
	}
	want := fmt.Sprintf("for the export server of node n1 (process %d), which does not answer", pid)
	harness.Eventually(t, 20*time.Second, "lock explain names the export server", func() bool {
		out := explain()
		return strings.Contains(out, "running at step export") && strings.Contains(out, "waits since ") && strings.Contains(out, want)
	})
	var list struct{ Operations []struct{ ID string } }
	s.Must(t, http.StatusOK, http.MethodGet, "/scoria/v1/operations?kind=volume.attach", nil, &list)
	if out, _, _ := s.CLI(t, "operation", "show", list.Operations[0].ID); !strings.Contains(out, want) {
		t.Errorf("operation show says:\n%s", out)
	}
	signal(t, pid, syscall.SIGCONT)
	<-p.Ended()
	if p.Status() != 0 || !strings.HasPrefix(p.Output(), "nbd+unix://") {
		t.Errorf("attach: status %d, printed %q, said %q", p.Status(), p.Output(), p.Log())
	}
	if out := explain(); strings.Contains(out, "waits") {
		t.Errorf("after the end lock explain says:\n%s", out)
	}
}
