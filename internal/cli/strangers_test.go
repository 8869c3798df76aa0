package cli

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestVariablesThatNameNoSettingAreTold(t *testing.T) {
	for _, entry := range os.Environ() { // of whoever runs the tests
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, envPrefix) {
			t.Setenv(name, "") // so that it is put back
			os.Unsetenv(name)
		}
	}
	for _, name := range []string{
		"SCORIA_WOKERS", "SCORIA_ROUNDS", // a slip, and somebody else's
		"SCORIA_CONFIG", "SCORIA_WORKERS", "SCORIA_STATE", "SCORIA_NATS_LISTEN", "SCORIA_ENDPOINT", "SCORIA_NO_WAIT", // settings
		"SCORIA_SERVICE_HOST", "SCORIA_SERVICE_PORT", "SCORIA_SERVICE_PORT_HTTP", "SCORIA_PORT", "SCORIA_PORT_8776_TCP", // of Kubernetes
		"SCORIA_PORT_8776_TCP_PROTO", "SCORIA_PORT_8776_TCP_PORT", "SCORIA_PORT_8776_TCP_ADDR", "SCORIA_API_SERVICE_HOST",
	} {
		t.Setenv(name, "x")
	}
	got := strangers(newRoot())
	if want := []stranger{{"SCORIA_ROUNDS", ""}, {"SCORIA_WOKERS", "SCORIA_WORKERS"}}; !slices.Equal(got, want) {
		t.Errorf("strangers %v, want %v", got, want)
	}
}

func TestProcessesThatStayLogThem(t *testing.T) {
	t.Setenv("SCORIA_WOKERS", "3")
	t.Setenv("SCORIA_ROUNDS", "3")
	t.Setenv("SCORIA_SERVICE_HOST", "10.0.0.1")
	_, stderr, _ := scoria(t, "up", "--data", t.TempDir(), "--backend", "3") // it ends at once
	for _, want := range []string{"key=SCORIA_WOKERS", `note="is SCORIA_WORKERS meant?"`, "key=SCORIA_ROUNDS", "setting backend"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("said %q, want %q in it", stderr, want)
		}
	}
	if strings.Contains(stderr, "SERVICE_HOST") {
		t.Errorf("said %q: what Kubernetes sets is no slip", stderr)
	}
}

func TestPeopleAreToldOfASlipOnly(t *testing.T) {
	t.Setenv("SCORIA_ENDPONT", "http://127.0.0.1:1")
	t.Setenv("SCORIA_ROUNDS", "3")
	stdout, stderr, status := scoria(t, "version")
	if want := "scoria: " + noSetting + ": SCORIA_ENDPONT: is SCORIA_ENDPOINT meant?\n"; status != 0 || stderr != want || !strings.HasPrefix(stdout, "scoria ") {
		t.Errorf("status %d, printed %q, said %q, want %q", status, stdout, stderr, want)
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"workers", "workers", 0}, {"wokers", "workers", 1}, {"workerss", "workers", 1}, {"wirkers", "workers", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
