package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/internal/bench"
)

func TestBenchOfLocksMeasuresAServerOfItsOwnAndRemovesIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stdout, stderr, status := scoria(t, "bench", "locks", "--case", "own-keys", "--length", "100ms", "--dir", dir, "-o", "json")
	var out bench.Result
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || status != 0 {
		t.Fatalf("status %d, %v, said %q, printed %q", status, err, stderr, stdout)
	}
	for _, r := range out.Rows {
		if r.Case != "own-keys" || r.Bytes <= 0 || r.Batches+r.Writes <= 0 {
			t.Errorf("row %+v, want what was sent to be counted", r)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || len(out.Rows) == 0 {
		t.Errorf("%d rows; the directory holds %v, %v, want nothing", len(out.Rows), left, err)
	}
}

func TestANumberOfServersThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	_, stderr, status := scoria(t, "bench", "locks", "--servers", "2")
	if status != 2 || !strings.Contains(stderr, "setting servers") || !strings.Contains(stderr, "2") {
		t.Errorf("status %d, said %q, want 2 and the setting named", status, stderr)
	}
}

// The case is looked at before a server is started.
func TestACaseThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"api", "data", "locks"} {
		_, stderr, status := scoria(t, "bench", name, "--case", "cold-key")
		if status != 2 || !strings.Contains(stderr, "setting case") || !strings.Contains(stderr, "cold-key") || !strings.Contains(stderr, bench.Cases(name)[0]) {
			t.Errorf("bench %s: status %d, said %q, want 2, the setting and what there is", name, status, stderr)
		}
	}
}
