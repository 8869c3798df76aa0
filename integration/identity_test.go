package integration

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scoria-storage/scoria/integration/harness"
)

// refuses starts a process that must end by itself, with all the words on standard error, and not leave anything at path.
func refuses(t *testing.T, path string, args []string, words ...string) {
	t.Helper()
	p := harness.Start(t, args...)
	select {
	case <-p.Ended():
	case <-time.After(time.Minute):
		t.Fatalf("%v did not end", args)
	}
	for _, w := range words {
		if !strings.Contains(p.Log(), w) {
			t.Errorf("%v: want %q in\n%s", args, w, p.Log())
		}
	}
	if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
		t.Errorf("%v: %s holds %v, want nothing", args, path, entries)
	}
}

// marker is the identity in the directory of a backend.
func marker(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "scoria-backend.json"))
	var m struct{ Identity string }
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil || m.Identity == "" {
		t.Fatalf("identity of %s: %q, %v", dir, m.Identity, err)
	}
	return m.Identity
}

// differences are what verify finds, each as one text.
func differences(t *testing.T, a *harness.API) (found []string) {
	t.Helper()
	var out struct {
		Clean       bool
		Differences []struct{ Kind, Subject, Text string }
	}
	a.Must(t, http.StatusOK, http.MethodPost, "/scoria/v1/verify", M{}, &out)
	for _, d := range out.Differences {
		found = append(found, d.Kind+" "+d.Subject+": "+d.Text)
	}
	if out.Clean != (len(found) == 0) {
		t.Errorf("verify says clean=%v beside %q", out.Clean, found)
	}
	return found
}

func requireDifference(t *testing.T, found []string, words ...string) {
	t.Helper()
	for _, f := range found {
		all := true
		for _, w := range words {
			all = all && strings.Contains(f, w)
		}
		if all {
			return
		}
	}
	t.Errorf("verify found %q, want one with %q", found, words)
}

// node are the arguments of one more process of the house's volume node.
func (h *house) node(t *testing.T, name, state string, backends ...string) []string {
	t.Helper()
	args := []string{"volume-node", "--nats", h.nats, "--name", name, "--state", state, "--metrics", harness.FreeAddr(t), "--lease", "1s"}
	for _, b := range backends {
		args = append(args, "--backend", b)
	}
	return args
}

func TestABackendIsOneStorage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHouse(t, dir, "reflink=auto")
	h.start(t)
	h.Create(t, M{"size": 1})
	identity, other := marker(t, h.backend), filepath.Join(dir, "other")

	spec := "local=file:path=" + other
	refuses(t, other, h.node(t, "host1", h.state, spec), "backend local", other, identity, "not mounted, or the path is wrong", "mount it, or correct the path")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	refuses(t, other, h.node(t, "host1", h.state, spec), "backend local", other, identity, "has no scoria-backend.json")

	second := filepath.Join(dir, "second")
	two := harness.Start(t, h.node(t, "host1", h.state, "second=file:path="+second)...)
	two.Ready(t)
	refuses(t, "", h.node(t, "host1", h.state, "local=file:path="+second), "backend local", second, identity, marker(t, second))
	refuses(t, "", h.node(t, "host1", h.state, "copy=file:path="+h.backend), "backend copy", identity, "is served as backend local")
	refuses(t, "", h.node(t, "host2", t.TempDir(), "copy=file:path="+h.backend), "backend copy", identity, "is served as backend local")
	inner := filepath.Join(h.backend, "inner")
	refuses(t, inner, h.node(t, "host1", h.state, "inner=file:path="+inner), "backend inner", "lies inside "+h.backend)

	// Both processes go on, on both backends, and so does one more that is set up as the first.
	h.start(t)
	for range 4 {
		h.Create(t, M{"size": 1})
	}
	h.clean(t)
}

// A node that was started while its file system was not mounted must not serve what is underneath.
func TestAFileSystemThatIsNotMountedIsNotReplaced(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("to mount a file system needs root")
	}
	data, disk := t.TempDir(), t.TempDir()
	mount := func() {
		t.Helper()
		if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64m"); err != nil {
			t.Fatal(err)
		}
	}
	mount()
	mounted := true
	t.Cleanup(func() {
		if mounted {
			_ = unix.Unmount(disk, unix.MNT_DETACH)
		}
	})
	s := harness.UpIn(t, data, "--backend", "local=file:path="+disk)
	volume := s.Create(t, M{"size": 1})
	identity := marker(t, disk)

	// It goes away while the node runs: nothing lands underneath, and verify says so.
	if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	mounted = false
	requireDifference(t, differences(t, s.API), "backend local", "cannot list it", "is not the one that was opened")
	ans := s.Must(t, http.StatusAccepted, http.MethodDelete, "/volumes/"+volume, nil, nil)
	harness.Eventually(t, 30*time.Second, "the delete says why it does not go on", func() bool {
		out, _, _ := s.CLI(t, "operation", "show", ans.Operation())
		return strings.Contains(out, "is not the one that was opened")
	})
	s.Kill()
	refuses(t, disk, []string{
		"up", "--data", data, "--listen", s.Listen, "--nats-listen", s.NATS, "--metrics", s.Metrics, "--name", "n1", "--backend", "local=file:path=" + disk,
	}, "backend local", disk, identity, "has no scoria-backend.json", "not mounted")
}

// Verify asks every process: a copy of a directory has its identity, and only its objects show that it is another one.
func TestVerifyAsksEveryProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHouse(t, dir, "reflink=auto")
	h.start(t)
	both := h.Create(t, M{"size": 1})
	copied := filepath.Join(dir, "copied")
	if err := os.CopyFS(copied, os.DirFS(h.backend)); err != nil {
		t.Fatal(err)
	}
	if found := differences(t, h.API); len(found) != 0 {
		t.Fatalf("verify found %q before the second process", found)
	}
	later := h.Create(t, M{"size": 1})
	wrong := harness.Start(t, h.node(t, "host1", h.state, "local=file:path="+copied)...)
	wrong.Ready(t)
	requireDifference(t, differences(t, h.API), "backend local: volume "+later, "the backend does not have it", "and others do not")

	// One that hangs is not left out.
	wrong.Signal(t, syscall.SIGSTOP)
	harness.Eventually(t, 10*time.Second, "the process is stopped", func() bool { return harness.State(wrong.PID()) == 'T' })
	requireDifference(t, differences(t, h.API), "node host1: its process host1-", "runs and gives no list", "It hangs")
	wrong.Kill()
	if found := differences(t, h.API); len(found) != 0 {
		t.Errorf("verify found %q after the process was killed", found)
	}
	if err := errors.Join(os.Remove(h.file(both)), os.WriteFile(h.file("orphan"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	found := differences(t, h.API)
	requireDifference(t, found, "backend local: volume "+both, "the backend does not have it")
	requireDifference(t, found, "backend local: volume orphan", "orphan")
	for _, w := range h.workers {
		w.Kill()
	}
	requireDifference(t, differences(t, h.API), "node host1", "none of its processes")
}

func TestVolumesAreNotPutWhereNothingIsKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "volumes")
	s := harness.Up(t, "--backend", "fake=null", "--backend", "local=file:path="+dir)
	for range 5 {
		volume := s.Create(t, M{"size": 1})
		if _, err := os.Stat(filepath.Join(dir, "volumes", volume)); err != nil {
			t.Errorf("volume %s is not where data is kept: %v", volume, err)
		}
	}
	if found := differences(t, s.API); len(found) != 0 {
		t.Errorf("verify found %q", found)
	}
}

func TestPathsThatAreNoDirectoryAreRefusedInOneSentence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, want := range map[string]string{
		"/dev/null":                             "/dev/null is not a directory: give the path of one",
		"/etc/passwd/x":                         "a part of that path is a file",
		filepath.Join(dir, "missing", "parent"): filepath.Join(dir, "missing") + " does not exist",
	} {
		p := harness.Start(t, "up", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--nats-listen", "", "--metrics", "127.0.0.1:0", "--backend", "local=file:path="+path)
		<-p.Ended()
		last := strings.TrimSpace(p.Log())
		last = last[strings.LastIndexByte(last, '\n')+1:]
		if !strings.Contains(last, "backend local: ") || !strings.Contains(last, want) {
			t.Errorf("path %s: last line %q, want %q in it", path, last, want)
		}
	}
}
