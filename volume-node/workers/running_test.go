package workers_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/workers"
)

func TestRunningAreThoseThatHaveNotEnded(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "workers")
	one := join(t, dir, "one")
	two, err := workers.Join(dir, "two")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*workers.Member{one, two} {
		if got, err := m.Running(); err != nil || !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("Running() = %v, %v, want both", got, err)
		}
	}
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := one.Running(); err != nil || !slices.Equal(got, []string{"one"}) {
		t.Errorf("Running() = %v, %v after two has ended, want one", got, err)
	}
}
