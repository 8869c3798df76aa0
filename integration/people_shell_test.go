package integration

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/integration/harness"
)

// The shell completes commands, values and IDs with nothing but the script: as on a new machine, without the package bash-completion.
func TestBashCompletesWithNothingElseInstalled(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null")
	var made struct{ Volume struct{ ID string } }
	s.Must(t, http.StatusAccepted, http.MethodPost, "/volumes", harness.M{"volume": harness.M{"size": 1, "name": "disk"}}, &made)
	// Bash calls the function with the words as it takes them apart, here those of the end of the line.
	const ask = `
complete_line() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
    shift
    COMP_WORDS=("$@") COMP_CWORD=$(($#-1)) COMPREPLY=()
    __start_scoria 2>/dev/null
    printf '%s\n' "${COMPREPLY[*]%% *}"
}
`
	for line, c := range map[string]struct {
		words string
		want  string
	}{
		"scoria vol":                                   {"scoria vol", "volume volume-node"},
		"scoria snapshot cr":                           {"scoria snapshot cr", "create"},
		"scoria volume show ":                          {"scoria volume show ''", made.Volume.ID},
		"scoria operation list --phase st":             {"scoria operation list --phase st", "stuck"},
		"scoria operation list --phase=st":             {"scoria operation list --phase = st", "stuck"},
		"scoria operation list --phase=":               {"scoria operation list --phase =", "queued granted running undoing done undone stuck void"},
		"scoria volume list -o ":                       {"scoria volume list -o ''", "table json"},
		"scoria volume delete x --on-conflict=queue:3": {"scoria volume delete x --on-conflict = queue : 3", "30s"},
		`scoria volume create --name "a b" --siz`:      {`scoria volume create --name '"a b"' --siz`, "--size"},
	} {
		script := "scoria() { " + harness.Binary(t) + ` "$@"; }; source <(scoria completion bash --no-descriptions)` + ask + "complete_line '" + line + "' " + c.words
		cmd := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile", "-c", script)
		cmd.Env = []string{"SCORIA_ENDPOINT=" + s.URL, "PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != c.want {
			t.Errorf("%q is completed to %q (%v), want %q", line, got, err, c.want)
		}
	}
}
