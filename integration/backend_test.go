package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// backendIs is how `backend list` shows a backend; nil: it does not.
func backendIs(t *testing.T, a *harness.API, name string) []string {
	t.Helper()
	out, errs, status := a.CLI(t, "backend", "list")
	if status != 0 {
		t.Fatalf("backend list: status %d: %s", status, errs)
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == name {
			return f[1:]
		}
	}
	return nil
}

// forgetting has a backend forgotten, or not for a reason that has the words.
func forgetting(t *testing.T, a *harness.API, name string, words ...string) {
	t.Helper()
	_, errs, status := a.CLI(t, "backend", "forget", name)
	if want := min(len(words), 1); status != want {
		t.Fatalf("backend forget %s: status %d, want %d: %s", name, status, want, errs)
	}
	for _, w := range words {
		if !strings.Contains(errs, w) {
			t.Errorf("backend forget %s said %q, want %q in it", name, errs, w)
		}
	}
}

// A backend that was started once by mistake is told of, with the command that forgets it, and is forgotten.
func TestABackendThatWasStartedByMistakeIsForgotten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := harness.UpIn(t, dir) // no --backend: it has the default, local
	s.Stop(t)
	s.Use("--backend", "other=file:path="+filepath.Join(dir, "other"))
	s.Start(t)
	requireDifference(t, differences(t, s.API), "backend local", "no process of a volume node has listed it", "nothing stands on it", "scoria backend forget local")
	if got := backendIs(t, s.API, "local"); !slices.Equal(got, []string{"file", "node", "n1", "0", "0", "nobody"}) {
		t.Errorf("backend list shows local as %q", got)
	}
	volume := s.Create(t, M{"size": 1})
	if got := backendIs(t, s.API, "other"); len(got) != 6 || got[3] != "1" || !strings.HasPrefix(got[5], "n1-") {
		t.Errorf("backend list shows other as %q", got)
	}
	forgetting(t, s.API, "nothing", `There is no backend "nothing"`)
	forgetting(t, s.API, "other", "backend other is served by process n1-")
	forgetting(t, s.API, "local")
	if got := backendIs(t, s.API, "local"); got != nil {
		t.Errorf("backend list still shows local as %q", got)
	}
	if !strings.Contains(s.Process().Log(), `msg="backend forgotten" backend=local kind=file node=n1 user=admin`) {
		t.Error("the log does not say who had the backend forgotten")
	}
	s.VerifyClean(t)

	// Its directory may be served again under another name.
	s.Stop(t)
	s.Use("--backend", "other=file:path="+filepath.Join(dir, "other"), "--backend", "again=file:path="+filepath.Join(dir, "volumes"))
	s.Start(t)
	s.Delete(t, "/volumes/"+volume)
	s.VerifyClean(t)
}

// Work for a backend that nobody serves says so, and what to do, and goes on when somebody does.
func TestWorkForABackendThatNobodyServesSaysSo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spec := []string{"--backend", "local=file:path=" + filepath.Join(dir, "local")}
	s := harness.UpIn(t, dir, spec...)
	volume := s.Create(t, M{"size": 1})
	s.Stop(t)
	s.Use("--backend", "other=file:path="+filepath.Join(dir, "other"))
	s.Start(t)
	requireDifference(t, differences(t, s.API), "backend local", "1 volumes and 0 snapshots stand on it: start a volume node with --backend local=…")
	op := s.Must(t, http.StatusAccepted, http.MethodDelete, "/volumes/"+volume, nil, nil).Operation()
	const want = "no process of a volume node serves backend local: start one with --backend local=…"
	for _, command := range [][]string{{"operation", "show", op}, {"lock", "explain", volume}} {
		harness.Eventually(t, 30*time.Second, strings.Join(command, " ")+" says why nothing happens", func() bool {
			out, _, _ := s.CLI(t, command...)
			return strings.Contains(out, want)
		})
	}
	forgetting(t, s.API, "local", "these stand on it: volume "+volume+"; operation "+op, "Start a volume node with --backend local=…")
	s.Stop(t)
	s.Use(spec...)
	s.Start(t)
	s.MustEnd(t, op)
	forgetting(t, s.API, "other")
	s.VerifyClean(t)
}

// A process that hangs may serve a backend, so that is not forgotten.
func TestABackendOfAProcessThatHangsIsNotForgotten(t *testing.T) {
	t.Parallel()
	h := newHouse(t, t.TempDir(), "reflink=auto")
	w := h.start(t)
	w.freeze(t)
	forgetting(t, h.API, "local", "backend local cannot be forgotten", "node host1 does not say which of its processes run: no answer within 2s")
	w.thaw(t)
	harness.Eventually(t, 30*time.Second, "the process answers again", func() bool {
		got := backendIs(t, h.API, "local")
		return len(got) == 6 && got[5] == w.name
	})
	forgetting(t, h.API, "local", "backend local is served by process "+w.name)
	w.Signal(t, syscall.SIGKILL)
	<-w.Ended()
	harness.Eventually(t, 30*time.Second, "the backend of a process that was killed is forgotten", func() bool {
		_, _, status := h.CLI(t, "backend", "forget", "local")
		return status == 0
	})
	h.clean(t)
	h.start(t) // and registered anew
	h.Create(t, M{"size": 1})
	h.clean(t)
}

// While the directory of a backend is away its work waits, which is told where one looks, and in the log once; then it goes on.
func TestWorkWaitsForADirectoryThatWasMovedAway(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir, away := filepath.Join(top, "local"), filepath.Join(top, "away")
	s := harness.Up(t, "--backend", "local=file:path="+dir)
	doomed, kept := s.Create(t, M{"size": 1}), s.Create(t, M{"size": 1})
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	ops := []string{s.Must(t, http.StatusAccepted, http.MethodDelete, "/volumes/"+doomed, nil, nil).Operation()}
	for range 3 {
		ops = append(ops, s.Must(t, http.StatusAccepted, http.MethodPost, "/volumes", M{"volume": M{"size": 1}}, nil).Operation())
	}
	const want, gone = "what backend local keeps is away, and waited for; process n1-", "is not the one that was opened"
	harness.Eventually(t, 30*time.Second, "operation show and lock explain say what is waited for", func() bool {
		show, _, _ := s.CLI(t, "operation", "show", ops[0])
		explain, _, _ := s.CLI(t, "lock", "explain", doomed)
		return strings.Contains(show, want) && strings.Contains(show, gone) && strings.Contains(explain, want)
	})
	if got := strings.Join(backendIs(t, s.API, "local"), " "); !strings.Contains(got, "(waits for it: ") || !strings.Contains(got, gone) {
		t.Errorf("backend list shows local as %q", got)
	}
	forgetting(t, s.API, "local", "backend local is served by process n1-")
	if n := strings.Count(s.Process().Log(), gone); n != 1 {
		t.Errorf("the log says %d times that the directory is away, want once", n)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		s.MustEnd(t, op)
	}
	if !strings.Contains(s.Process().Log(), "the storage of the backend is back") {
		t.Error("the log does not say that the directory is back")
	}
	s.Delete(t, "/volumes/"+kept)
	s.VerifyClean(t)
}
