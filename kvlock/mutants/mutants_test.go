package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/internal/long"
)

// atLeast is how many mutants there are to be.
const atLeast = 20

// mutant is one patch.
type mutant struct {
	name, patch   string // patch: its path
	breaks        string // in words
	folder, test  string // below kvlock; the test that must fail
	changed       []string
	overlay, root string
}

var headers = regexp.MustCompile(`(?m)^(Breaks|Package|Test): (.+)$`)

// mutants reads the patches.
func mutants(t *testing.T) (all []*mutant) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	patches, err := filepath.Glob("*.patch")
	if err != nil || len(patches) < atLeast {
		t.Fatalf("%d mutants, %v; want %d at least", len(patches), err, atLeast)
	}
	for _, p := range patches {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		said := map[string]string{}
		for _, h := range headers.FindAllStringSubmatch(string(text), -1) {
			said[h[1]] = h[2]
		}
		m := &mutant{name: strings.TrimSuffix(p, ".patch"), breaks: said["Breaks"], folder: said["Package"], test: said["Test"], root: root}
		if m.breaks == "" || m.folder == "" || m.test == "" {
			t.Fatalf("%s: the header is to say Breaks, Package and Test", p)
		}
		if m.patch, err = filepath.Abs(p); err != nil {
			t.Fatal(err)
		}
		for _, f := range regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)$`).FindAllStringSubmatch(string(text), -1) {
			m.changed = append(m.changed, f[1])
		}
		all = append(all, m)
	}
	return all
}

// apply makes the mutant's files, beside those that stay as they are.
func (m *mutant) apply(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for _, f := range m.changed {
		text, err := os.ReadFile(filepath.Join(m.root, f))
		if err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(m.root, f)] = filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git := exec.Command("git", "apply", m.patch)
	git.Dir = dir
	git.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir), "GIT_DIR=/nonexistent")
	if out, err := git.CombinedOutput(); err != nil {
		t.Fatalf("the patch does not apply any more: make it anew from what stands there now: %v\n%s", err, out)
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	m.overlay = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(m.overlay, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// tests compiles those of a folder with the mutant in it.
func (m *mutant) tests(t *testing.T, folder string) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "tests")
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", m.overlay, "-o", binary, "./"+folder)
	build.Dir = m.root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("does not compile: %v\n%s", err, out)
	}
	return binary
}

// run runs tests and returns the names of those at the top that failed. limit ends what hangs.
func (m *mutant) run(t *testing.T, binary, folder, pattern string, limit time.Duration) (failed []string, out []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit+10*time.Second)
	defer cancel()
	run := exec.CommandContext(ctx, binary, "-test.run", pattern, "-test.v", "-test.timeout", limit.String())
	run.Dir = filepath.Join(m.root, folder)
	out, _ = run.CombinedOutput() // it fails: what it says counts
	for _, f := range regexp.MustCompile(`(?m)^--- FAIL: (\w+)`).FindAllSubmatch(out, -1) {
		failed = append(failed, string(f[1]))
	}
	return failed, out
}

// limit is how long the test of a mutant may take: all of them find it sooner.
const limit = 60 * time.Second

// TestEachMutantIsFound: the test that a mutant names fails with it, by what it asserts.
func TestEachMutantIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles the tests once for each mutant")
	}
	for _, m := range mutants(t) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			m.apply(t)
			failed, out := m.run(t, m.tests(t, m.folder), m.folder, "^"+m.test+"$", limit)
			switch {
			case bytes.Contains(out, []byte("panic: ")):
				t.Errorf("%s ended in a panic or ran out of time, want it to fail by what it asserts:\n%s", m.test, out)
			case !bytes.Contains(out, []byte("=== RUN   "+m.test)):
				t.Errorf("there is no test %s in %s", m.test, m.folder)
			case !slices.Contains(failed, m.test):
				t.Errorf("survives %s, which is to find that %s:\n%s", m.test, m.breaks, out)
			}
		})
	}
}

// TestLongEveryTestOnEveryMutant says which tests find each mutant. It is for make long.
func TestLongEveryTestOnEveryMutant(t *testing.T) {
	long.For(t)
	for _, m := range mutants(t) {
		t.Run(m.name, func(t *testing.T) {
			m.apply(t)
			found := map[string]bool{}
			for _, folder := range []string{"kvlock", "kvlock/kvtx", "kvlock/sim"} {
				failed, _ := m.run(t, m.tests(t, folder), folder, ".", 5*time.Minute)
				for _, f := range failed {
					found[fmt.Sprintf("%s.%s", filepath.Base(folder), f)] = true
				}
			}
			if len(found) == 0 {
				t.Errorf("no test finds it")
			}
			t.Logf("%d tests find it: %s", len(found), strings.Join(slices.Sorted(maps.Keys(found)), " "))
		})
	}
}
