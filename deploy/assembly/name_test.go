package assembly

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A node that was started without a name keeps the one that it has, also when the host got another one since.
func TestANodeKeepsItsNameWhenTheHostIsRenamed(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	for _, c := range []struct {
		given, kept, want string
		told              bool
	}{
		{given: "", kept: "", want: host},
		{given: "", kept: host, want: host},
		{given: "", kept: "before", want: "before", told: true},
		{given: "other", kept: "before", want: "other"}, // refused later, in words
	} {
		state := t.TempDir()
		if c.kept != "" {
			if err := os.WriteFile(filepath.Join(state, "node.json"), []byte(`{"version":1,"name":"`+c.kept+`","id":"x"}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		v := VolumeConfig{Name: c.given, State: state, Backends: []string{"b=null"}}
		cfg, err := v.node("test", slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil || cfg.Name != c.want {
			t.Errorf("%+v: name %q, %v", c, cfg.Name, err)
		}
		if told := strings.Contains(log.String(), "node="+c.kept) && log.Len() > 0; told != c.told {
			t.Errorf("%+v: log %q", c, log.String())
		}
	}
}
