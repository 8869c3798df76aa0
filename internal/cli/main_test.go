package cli_test

import (
	"os"
	"strings"
	"testing"
)

// TestMain takes the settings of whoever runs the tests out of the environment: the commands would read them, or speak of them.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "SCORIA_") {
			_ = os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}
