package saga_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A program that uses saga gets no NATS with it, and one that uses sagakv no server and no metrics library.
func TestImportGraph(t *testing.T) {
	t.Parallel()
	const module = "github.com/scoria-storage/scoria/"
	for _, c := range []struct {
		pkg     string
		without []string
	}{
		{"saga", []string{"github.com/nats-io/", "github.com/prometheus/", module + "kvlock", module + "messages"}},
		{"saga/sagatest", []string{"github.com/nats-io/", "github.com/prometheus/", module + "kvlock"}},
		{"saga/sagakv", []string{"github.com/nats-io/nats-server", "github.com/prometheus/", module + "messages"}},
		{"saga/sagaprom", []string{"github.com/nats-io/", module + "kvlock", module + "messages"}},
	} {
		out, err := exec.Command("go", "list", "-deps", module+c.pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list -deps %s: %v\n%s", c.pkg, err, out)
		}
		deps := strings.Fields(string(out))
		if len(deps) < 20 {
			t.Fatalf("go list -deps %s lists only %d packages", c.pkg, len(deps))
		}
		for _, dep := range deps {
			for _, w := range c.without {
				if strings.HasPrefix(dep, w) {
					t.Errorf("%s imports %s", c.pkg, dep)
				}
			}
		}
	}
}
