package cli

import (
	"net/http"
	"strings"
	"testing"
)

const twoBackends = `{"backends": [
	{"name": "fast", "kind": "file", "fencing": "node", "node": "n1", "volumes": 2, "snapshots": 1, "served_by": [{"node": "n1", "process": "n1-A"}, {"node": "n1", "process": "n1-B", "away": "unmounted"}]},
	{"name": "fake", "kind": "null", "fencing": "store", "served_by": [], "unknown": "node n2 is silent"},
	{"name": "local", "kind": "file", "fencing": "node", "node": "n1", "served_by": []}]}`

func TestBackendsAreListedWithWhoServesThem(t *testing.T) {
	t.Parallel()
	url := fake(t, map[string]http.HandlerFunc{"GET /scoria/v1/backends": say(200, twoBackends)})
	stdout, stderr, status := scoria(t, "backend", "list", "--endpoint", url)
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	for i, want := range []string{
		"NAME KIND CLASS NODE VOLUMES SNAPSHOTS SERVED BY",
		"fast file node n1 2 1 n1-A, n1-B (waits for it: unmounted)",
		"fake null store - 0 0 not known: node n2 is silent",
		"local file node n1 0 0 nobody",
	} {
		if i >= len(lines) || strings.Join(strings.Fields(lines[i]), " ") != want {
			t.Errorf("line %d of\n%s\nwant %q", i, stdout, want)
		}
	}
}

func TestABackendIsForgottenOrTheReasonSaid(t *testing.T) {
	t.Parallel()
	url := fake(t, map[string]http.HandlerFunc{
		"DELETE /scoria/v1/backends/local": say(204, ""),
		"DELETE /scoria/v1/backends/fast":  say(409, `{"error": {"code": "conflict", "message": "backend fast is served by process n1-A"}}`),
	})
	if stdout, stderr, status := scoria(t, "backend", "forget", "local", "--endpoint", url); status != 0 || stdout != "backend local is forgotten\n" {
		t.Errorf("status %d, printed %q, said %q", status, stdout, stderr)
	}
	if _, stderr, status := scoria(t, "backend", "forget", "fast", "--endpoint", url); status != 1 || !strings.Contains(stderr, "is served by process n1-A") {
		t.Errorf("status %d, said %q", status, stderr)
	}
	if _, _, status := scoria(t, "backend", "forget", "a/b", "--endpoint", url); status != 2 {
		t.Errorf("a name that is none: status %d, want 2", status)
	}
}
