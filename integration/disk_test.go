package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/integration/harness"
)

// smallDisk is a stack whose data directory is on a small disk, with a file beside it that fills the disk.
type smallDisk struct {
	*harness.Stack
	mount, filler string
}

func upOnSmallDisk(t *testing.T) *smallDisk {
	t.Helper()
	mount, volumes := harness.Tmpfs(t, "16m"), t.TempDir()
	return &smallDisk{harness.UpIn(t, filepath.Join(mount, "data"), "--backend", "local=file:path="+volumes), mount, filepath.Join(mount, "filler")}
}

func (s *smallDisk) fill(t *testing.T, leave int64) { harness.Fill(t, s.filler, leave) }

func (s *smallDisk) makeRoom(t *testing.T) {
	t.Helper()
	if err := os.Remove(s.filler); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 20*time.Second, "the process is ready again", s.isReady(t))
}

func (s *smallDisk) isReady(t *testing.T) func() bool {
	return func() bool {
		ans, err := http.Get("http://" + s.Metrics + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		ans.Body.Close()
		return ans.StatusCode == http.StatusOK
	}
}

// refused sends what needs room, and fails unless it is refused at once in words that help.
func (s *smallDisk) refused(t *testing.T, method, path string, body any) {
	t.Helper()
	begin := time.Now()
	ans, err := s.Do(t.Context(), method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	_, _, text := ans.Fault()
	for _, want := range []string{s.Dir, "tmpfs on " + s.mount, "KiB free", "delete volumes or snapshots", "make room"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s %s says %q, want %q in it", method, path, text, want)
		}
	}
	if ans.Status != http.StatusServiceUnavailable || time.Since(begin) > 5*time.Second {
		t.Errorf("%s %s: status %d after %s, want 503 at once", method, path, ans.Status, time.Since(begin))
	}
}

// On a full disk what needs room is refused at once in words, what frees room goes on, and so do all reads. When there is room, all goes on.
func TestOnAFullDiskWhatFreesRoomGoesOn(t *testing.T) {
	t.Parallel()
	s := upOnSmallDisk(t)
	var volumes []string
	for i := range 5 {
		volumes = append(volumes, s.Create(t, harness.M{"name": fmt.Sprint("v", i), "size": 1}))
	}
	snapshot := s.Snapshot(t, volumes[0])
	attached := s.Must(t, http.StatusOK, http.MethodPost, "/attachments", harness.M{"attachment": harness.M{"volume_uuid": volumes[1], "connector": harness.M{"host": "h"}}}, nil)
	attachment := strings.Split(string(attached.Body), `"`)[5]

	s.fill(t, 64<<10)
	s.refused(t, http.MethodPost, "/volumes", harness.M{"volume": harness.M{"size": 1}})
	s.refused(t, http.MethodPost, "/snapshots", harness.M{"snapshot": harness.M{"volume_id": volumes[2]}})
	s.refused(t, http.MethodPost, "/volumes/"+volumes[2]+"/action", harness.M{"os-extend": harness.M{"new_size": 2}})
	s.refused(t, http.MethodPost, "/attachments", harness.M{"attachment": harness.M{"volume_uuid": volumes[2]}})
	s.refused(t, http.MethodPut, "/volumes/"+volumes[2], harness.M{"volume": harness.M{"name": "new"}})
	for _, path := range []string{"/volumes/detail", "/volumes/" + volumes[0], "/attachments/" + attachment, "/scoria/v1/operations", "/scoria/v1/locks"} {
		s.Must(t, http.StatusOK, http.MethodGet, path, nil, nil)
	}
	if s.isReady(t)() {
		t.Error("the process is ready on a full disk")
	}

	begin := time.Now()
	s.Must(t, http.StatusOK, http.MethodDelete, "/attachments/"+attachment, nil, nil)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the detach took %s", took)
	}
	s.Delete(t, "/snapshots/"+snapshot)
	for _, id := range volumes[:4] {
		s.Delete(t, "/volumes/"+id)
	}
	s.VerifyClean(t)
	s.refused(t, http.MethodPost, "/volumes", harness.M{"volume": harness.M{"size": 1}})

	s.makeRoom(t)
	s.Create(t, harness.M{"size": 1})
	if got := s.Get(t, volumes[4]); got.Name != "v4" || got.Status != "available" {
		t.Errorf("volume %+v, want v4 available", got)
	}
	s.VerifyClean(t)
	s.Stop(t)
}

// greedy takes all room that there is, as fast as it can, until end is called.
func (s *smallDisk) greedy(t *testing.T) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			harness.Fill(t, s.filler, 0)
		}
	})
	end = func() { cancel(); done.Wait() }
	t.Cleanup(end)
	return end
}

// breakStream writes to the stream, which is on a full disk, until that has broken it.
func (s *smallDisk) breakStream(t *testing.T) {
	t.Helper()
	nc, err := nats.Connect(s.NATSURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	harness.Eventually(t, 20*time.Second, "the stream has met the full disk", func() bool {
		if err := nc.Publish("$KV.scoria.bare.test", make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		log := s.Process().Log()
		return strings.Contains(log, "critical write error: ") && strings.Contains(log, "no space left on device")
	})
}

// Something else takes all room, the reserve too, until the stream itself meets the full disk: it writes no more then, whatever room there
// is. When there is room the process goes on by itself; what was accepted is done, and what was not known to be accepted can be repeated.
func TestAStreamThatMetAFullDiskGoesOn(t *testing.T) {
	t.Parallel()
	s := upOnSmallDisk(t)
	kept := s.Create(t, harness.M{"name": "kept", "size": 1})
	var gone []string
	for range 8 {
		gone = append(gone, s.Create(t, harness.M{"size": 1}))
	}
	end := s.greedy(t)
	accepted := make([]bool, len(gone))
	var tries sync.WaitGroup
	for i, id := range gone {
		tries.Go(func() {
			ans, err := s.Do(t.Context(), http.MethodDelete, "/volumes/"+id, nil, "Idempotency-Key", "delete "+id)
			if err != nil || ans.Status != http.StatusAccepted && ans.Status != http.StatusServiceUnavailable {
				t.Errorf("delete on a full disk: %+v, %v", ans, err)
				return
			}
			accepted[i] = ans.Status == http.StatusAccepted
		})
	}
	s.breakStream(t)
	s.Must(t, http.StatusOK, http.MethodGet, "/volumes/"+kept, nil, nil)
	s.refused(t, http.MethodPost, "/volumes", harness.M{"volume": harness.M{"size": 1}})
	end()
	s.makeRoom(t)
	if !strings.Contains(s.Process().Log(), "NATS server is back") {
		t.Error("the server was not started again: what healed it?")
	}
	tries.Wait()
	s.Idle(t)
	for i, id := range gone {
		if !accepted[i] {
			ans, err := s.Do(t.Context(), http.MethodDelete, "/volumes/"+id, nil, "Idempotency-Key", "delete "+id)
			if err != nil || ans.Status != http.StatusAccepted {
				t.Fatalf("repeated delete: %+v, %v", ans, err)
			}
			s.MustEnd(t, ans.Operation())
		}
		s.Must(t, http.StatusNotFound, http.MethodGet, "/volumes/"+id, nil, nil)
	}
	s.Create(t, harness.M{"size": 1})
	if got := s.Get(t, kept); got.Name != "kept" || got.Status != "available" {
		t.Errorf("volume %+v, want kept available", got)
	}
	s.VerifyClean(t)
	s.Stop(t)
}

// A start on a full disk ends within seconds with exit status 1 and a sentence that says what to do, whatever fails first, and leaves no
// export server.
func TestAStartOnAFullDiskSaysWhatToDo(t *testing.T) {
	t.Parallel()
	full := func(leave int64) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			dir := harness.Tmpfs(t, "16m")
			harness.Fill(t, filepath.Join(dir, "filler"), leave)
			return dir
		}
	}
	files := func(n int) func(*testing.T) string {
		return func(t *testing.T) string { t.Helper(); return harness.Tmpfs(t, fmt.Sprintf("16m,nr_inodes=%d", n)) }
	}
	for name, c := range map[string]struct {
		disk func(*testing.T) string
		args func(full, roomy string) []string
	}{
		"nothing left":            {full(0), data},
		"less than a start needs": {full(1 << 20), data},
		"no file left":            {files(1), data},
		"some files left":         {files(30), data},
		"state of a node": {full(0), func(full, roomy string) []string {
			return []string{"up", "--data", roomy, "--backend", "local=file:path=" + full + "/volumes"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			full, roomy := c.disk(t), t.TempDir()
			begin := time.Now()
			_, stderr, status := run(t, nil, append(c.args(full, roomy), "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--name", "n1")...)
			if status != 1 || !strings.Contains(stderr, "full") || !strings.Contains(stderr, full) || !strings.Contains(stderr, "make room, then start again") {
				t.Errorf("status %d, want 1 and what to do about %s; it said:\n%s", status, full, stderr)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			for _, dir := range []string{full + "/data/node", roomy + "/node"} {
				if pid := harness.ExportServerPID(dir); pid != 0 {
					harness.EndExportServer(t, dir)
					t.Errorf("export server %d was left", pid)
				}
			}
		})
	}
}

func data(full, _ string) []string { return []string{"up", "--data", full + "/data"} }
