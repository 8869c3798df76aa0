package kvlock_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/scoria-storage/scoria/"

// A program that only speaks NATS can use the library without a server and without a metrics library in its build.
func TestImportGraphHoldsNoServerAndNoMetricsLibrary(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pkg     string
		without []string
	}{
		{"kvlock", []string{"github.com/nats-io/nats-server/", "github.com/prometheus/", module + "messages", module + "saga", "testing"}},
		{"kvlock/kvtx", []string{"github.com/nats-io/nats-server/", "github.com/prometheus/", module + "messages", module + "saga", "testing"}},
		{"kvlock/kvlocktest", []string{"github.com/nats-io/nats-server/", "github.com/prometheus/"}},
		{"kvlock/kvlockprom", []string{"github.com/nats-io/nats-server/"}},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+c.pkg).Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", c.pkg, err)
		}
		deps := strings.Fields(string(out))
		if len(deps) < 20 {
			t.Errorf("%s: only %d packages: the test is blind", c.pkg, len(deps))
		}
		for _, dep := range deps {
			for _, w := range c.without {
				if dep == w || strings.HasPrefix(dep, w) && w != "testing" {
					t.Errorf("%s imports %s", c.pkg, dep)
				}
			}
		}
	}
}
