package sagatest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

// failing are tests that must fail, so each is run in a process of its own. They get the case that they are to run.
var failing = map[string]func(t *testing.T, name string){
	"bug": func(t *testing.T, name string) {
		for _, b := range bugs {
			if b.name == name {
				sagatest.Exhaust(t, b.world)
			}
		}
	},
	"versions": func(t *testing.T, lines string) {
		sagatest.Versions(t, richRegistry(t), versionsFile(t, strings.Split(lines, "|")...))
	},
	"upgrade": func(t *testing.T, name string) {
		for _, u := range upgrades {
			if u.name == name {
				prefix := toyJournals
				if u.name == gone {
					prefix = bothVersions(t)
				}
				sagatest.Replay(t, u.world, prefix)
			}
		}
	},
	"missing": func(t *testing.T, prefix string) {
		sagatest.Replay(t, changed(func(*toy, *saga.Definition[state]) {}), prefix)
	},
}

const failingEnv = "SAGATEST_FAILING"

// TestThatMustFail is what requireFails runs.
func TestThatMustFail(t *testing.T) {
	what, name, ok := strings.Cut(os.Getenv(failingEnv), ":")
	if !ok {
		t.Skip("is run by requireFails in a process of its own")
	}
	failing[what](t, name)
}

// requireFails runs a case of what must fail: it must, and say why.
func requireFails(t *testing.T, what, name, says string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestThatMustFail$")
	cmd.Env = append(os.Environ(), failingEnv+"="+what+":"+name)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), says) {
		t.Errorf("%s %s = %v, want a failure that says %q:\n%s", what, name, err, says, out)
	}
}
