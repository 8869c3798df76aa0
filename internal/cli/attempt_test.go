package cli

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestTheFirstWorkerIsNoTakeOver: what ran without trouble was taken over from nobody.
func TestTheFirstWorkerIsNoTakeOver(t *testing.T) {
	t.Parallel()
	for times, want := range map[int]string{0: "from no other worker", 1: "from another worker once", 3: "from other workers 3 times"} {
		counts := fmt.Sprintf(`"step": "copy", "attempt": %d, "epoch": %d, "taken_over": %d, "worker": "n1-A"`, times+1, times+1, times)
		url := fake(t, map[string]http.HandlerFunc{
			"GET /scoria/v1/operations/o1":   say(200, `{"operation": {"id": "o1", "phase": "running", `+counts+`}}`),
			"GET /scoria/v1/locks/volume.v1": say(200, `{"locks": [{"key": "volume.v1", "mode": "exclusive", "holders": [{"operation": "o1", "phase": "running", `+counts+`}]}]}`),
		})
		for args, line := range map[string]string{
			"operation show o1":      "taken over  " + want,
			"lock explain volume.v1": fmt.Sprintf("running at step copy, attempt %d; at worker n1-A, taken over %s\n", times+1, want),
		} {
			stdout, stderr, status := scoria(t, append(strings.Fields(args), "--endpoint", url)...)
			if status != 0 || !strings.Contains(stdout, line) {
				t.Errorf("%s: status %d, said %q, printed\n%swant %q", args, status, stderr, stdout, line)
			}
		}
	}
}
