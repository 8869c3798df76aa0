package integration

import (
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/deploy/embednats"
	"github.com/scoria-storage/scoria/integration/harness"
)

// house is a NATS server, an API node, and the processes of one volume node that serve one file backend together.
type house struct {
	*harness.API
	nats, state, backend string
	spec                 string
	workers              []*worker
}

// worker is one process of the volume node.
type worker struct {
	*harness.Process
	metrics string // URL
	name    string // of this start, as operations show it
}

// newHouse starts everything but the volume node. Settings are those of the backend.
func newHouse(t *testing.T, dir, settings string) *house {
	t.Helper()
	server, err := embednats.Start(t.Context(), embednats.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Name: "nats"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	h := &house{nats: server.URL(), state: t.TempDir(), backend: filepath.Join(dir, "volumes")}
	h.spec = "local=file:path=" + h.backend + "," + settings
	t.Cleanup(func() { harness.EndExportServer(t, h.state) })
	api := harness.Start(t, "api-node", "--nats", h.nats, "--listen", harness.FreeAddr(t), "--metrics", harness.FreeAddr(t),
		"--quota", "volumes=-1,snapshots=-1,gigabytes=-1")
	h.API = &harness.API{URL: api.Ready(t), Project: "demo"}
	return h
}

var workerName = regexp.MustCompile(`msg="volume node ready".* worker=(\S+)`)

// start starts one more process of the volume node; further flags come last.
func (h *house) start(t *testing.T, flags ...string) *worker {
	t.Helper()
	args := []string{"volume-node", "--nats", h.nats, "--name", "host1", "--state", h.state, "--backend", h.spec,
		"--lease", "1s", "--workers", "4", "--metrics", harness.FreeAddr(t)}
	w := &worker{Process: harness.Start(t, append(args, flags...)...)}
	w.metrics = w.Ready(t)
	harness.Eventually(t, 10*time.Second, "the worker says its name", func() bool {
		m := workerName.FindStringSubmatch(w.Log())
		if m != nil {
			w.name = m[1]
		}
		return m != nil
	})
	harness.Eventually(t, 10*time.Second, "the API node knows the room of the backend", func() bool {
		var out struct{ Pools []any }
		h.Must(t, http.StatusOK, http.MethodGet, "/scoria/v1/pools", nil, &out)
		return len(out.Pools) > 0
	})
	h.workers = append(h.workers, w)
	return w
}

// runs is how many runs of the definition this process drove to the outcome.
func (w *worker) runs(t *testing.T, definition, outcome string) int {
	t.Helper()
	return int(harness.Metric(t, w.metrics, "scoria_saga_runs_total", fmt.Sprintf("definition=%q", definition), fmt.Sprintf("outcome=%q", outcome)))
}

// freeze stops the process, and proves it.
func (w *worker) freeze(t *testing.T) {
	t.Helper()
	w.Signal(t, syscall.SIGSTOP)
	harness.Eventually(t, 10*time.Second, "the process is stopped", func() bool { return harness.State(w.PID()) == 'T' })
}

func (w *worker) thaw(t *testing.T) {
	t.Helper()
	if got := harness.State(w.PID()); got != 'T' {
		t.Fatalf("process %d is in state %c, want T: somebody let it go on", w.PID(), got)
	}
	w.Signal(t, syscall.SIGCONT)
}

func (w *worker) alive() bool {
	select {
	case <-w.Ended():
		return false
	default:
		return true
	}
}

// other is the process that is not w.
func (h *house) other(w *worker) *worker {
	for _, o := range h.workers {
		if o != w && o.alive() {
			return o
		}
	}
	return nil
}

func (h *house) file(volume string) string { return filepath.Join(h.backend, "volumes", volume) }

// lock is the file lock of a volume.
func (h *house) lock(volume string) string { return filepath.Join(h.backend, "locks", volume+".lock") }

// holder is the process that holds the volume's file lock; nil if none does.
func (h *house) holder(volume string) *worker {
	for _, w := range h.workers {
		if w.alive() && harness.Locks(w.PID(), h.lock(volume)) {
			return w
		}
	}
	return nil
}

// temporaries are the files that are being made.
func (h *house) temporaries(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(h.backend, "*", ".tmp-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// holds fails unless the volume's file has the content.
func (h *house) holds(t *testing.T, volume string, want harness.Content) {
	t.Helper()
	have, _, err := harness.ReadContent(h.file(volume))
	if err != nil {
		t.Fatal(err)
	}
	if text := want.Differs(have); text != "" {
		t.Errorf("volume %s: %s", volume, text)
	}
}

// inode tells one file from another that took its place.
func (h *house) inode(t *testing.T, volume string) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(h.file(volume), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// clean fails unless nothing is under way, left over or wrong.
func (h *house) clean(t *testing.T) {
	t.Helper()
	h.Idle(t)
	if left := h.temporaries(t); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
	h.VerifyClean(t)
}
