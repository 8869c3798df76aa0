package volumenode

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestIdentityIsMadeUpOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	const starts = 8
	ids := make([]string, starts)
	var wg sync.WaitGroup
	for i := range starts { // processes that begin at the same moment
		wg.Go(func() {
			id, err := identity(dir, "n1")
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("IDs %v: want one", ids)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("state directory holds %v, %v: want the identity alone", entries, err)
	}
}

func TestIdentityThatCannotBeUsedIsRefusedInWords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ content, want string }{
		"damaged":        {`{"version":1`, "is damaged"},
		"empty":          {``, "is damaged"},
		"newer":          {`{"version":2,"name":"n1","id":"x"}`, "newer release"},
		"newer, other":   {`{"version":2,"node":{"name":"n1"}}`, "newer release"},
		"of another one": {`{"version":1,"name":"n2","id":"x"}`, "belongs to node n2"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, identityFile), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := identity(dir, "n1"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: ID %q, error %v, want %q in it", name, id, err, c.want)
		}
	}
}

// The golden file is never edited: it stands for those that earlier releases wrote.
func TestIdentityEqualsItsGoldenFile(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/node-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	want := identityFields{Version: 1, Name: "n1", ID: "3f1c0e5a-58f4-4c9e-9a3b-0c3d2b1a4f10"}
	dir := t.TempDir()
	path := filepath.Join(dir, identityFile)
	if err := writeIdentity(dir, path, want); err != nil {
		t.Fatal(err)
	}
	if written, err := os.ReadFile(path); err != nil || string(written) != string(golden) {
		t.Errorf("%s is written as %s (%v), the golden file is %s", identityFile, written, err, golden)
	}
	if err := os.WriteFile(path, golden, 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := identity(dir, want.Name); err != nil || id != want.ID || KeptName(dir) != want.Name {
		t.Errorf("the golden file reads as ID %q of node %q, %v; want %+v", id, KeptName(dir), err, want)
	}
}
