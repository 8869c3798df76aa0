package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
	ready := s.isReady(t)
	harness.Eventually(t, 30*time.Second, "the process is ready again, or has ended", func() bool { return s.Process().HasEnded() || ready() })
	if !s.Process().HasEnded() {
		return
	}
	// A purge that was on its way when the disk filled up can lock the server up.
	if log := s.Process().Log(); s.Process().Status() != 1 || !strings.Contains(log, "hangs") || !strings.Contains(log, "start again") {
		t.Fatalf("ended with status %d, want 1 and the reason:\n%s", s.Process().Status(), log)
	}
	s.Start(t)
}

func (s *smallDisk) isReady(t *testing.T) func() bool {
	return func() bool {
		ans, err := http.Get("http://" + s.Metrics + "/readyz")
		if err != nil {
			t.Log(err)
			return false
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
	for _, want := range []string{s.Dir, "tmpfs on " + s.mount, " free: delete volumes or snapshots, or make room on the disk until 9.0 MiB are free"} {
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
	attached := s.Must(t, http.StatusOK, http.MethodPost, "/attachments", harness.M{"attachment": harness.M{"volume_uuid": volumes[1], "connector": harness.M{"host": "localhost"}}}, nil)
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
	// What else is written may have broken it just now: then the server ends and comes back.
	nc, err := nats.Connect(s.NATSURL(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	harness.Eventually(t, 20*time.Second, "the stream has met the full disk, or the server hangs", func() bool {
		if s.Process().HasEnded() {
			return true
		}
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
	harness.Eventually(t, 20*time.Second, "the server is started again", func() bool { return strings.Contains(s.Process().Log(), "NATS server is back") })
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

// SIGTERM on a full disk, with operations under way, ends the process soon. The next start with room ends what was accepted.
func TestSIGTERMOnAFullDisk(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]bool{"stream whole": false, "stream broken": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := upOnSmallDisk(t)
			var ids []string
			for range 4 {
				ids = append(ids, s.Create(t, harness.M{"size": 1}))
			}
			end := s.greedy(t)
			harness.Eventually(t, 10*time.Second, "the disk is full", func() bool { return harness.Free(t, s.mount) == 0 })
			var tries sync.WaitGroup
			accepted := make([]bool, len(ids))
			for i, id := range ids {
				tries.Go(func() {
					ans, err := s.Do(t.Context(), http.MethodDelete, "/volumes/"+id, nil)
					accepted[i] = err == nil && ans.Status == http.StatusAccepted
				})
			}
			if broken {
				s.breakStream(t)
			}
			begin := time.Now()
			s.Stop(t)
			if took := time.Since(begin); took > 9*time.Second { // net/http gives a client's connection without a request 5 s
				t.Errorf("the end took %s", took)
			}
			tries.Wait()
			end()
			if err := os.Remove(s.filler); err != nil {
				t.Fatal(err)
			}
			s.Start(t)
			s.Idle(t)
			for i, id := range ids {
				if accepted[i] {
					s.Must(t, http.StatusNotFound, http.MethodGet, "/volumes/"+id, nil, nil)
				}
			}
			s.VerifyClean(t)
			s.Stop(t)
		})
	}
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

// The disk fills while the process starts: it ends by itself with exit status 1 and what to do, or it is ready and SIGTERM ends it, soon in
// either case, and no export server is left.
func TestADiskThatFillsWhileTheProcessStarts(t *testing.T) {
	t.Parallel()
	seed := harness.Seed(t)
	t.Logf("SCORIA_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 8 {
		mount, volumes := harness.Tmpfs(t, "16m"), t.TempDir()
		s := &smallDisk{mount: mount, filler: filepath.Join(mount, "filler")}
		p := harness.Start(t, "up", "--data", mount+"/data", "--backend", "local=file:path="+volumes, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0",
			"--metrics", "127.0.0.1:0", "--name", "n1")
		<-time.After(upTo(random, 80*time.Millisecond))
		end := s.greedy(t)
		harness.Eventually(t, 10*time.Second, "the process has ended or is ready", func() bool { return p.HasEnded() || p.IsReady() })
		begin := time.Now()
		if p.IsReady() {
			if err := p.Stop(t); err != nil {
				t.Errorf("SIGTERM: %v\n%s", err, p.Log())
			}
		} else if log := p.Log(); p.Status() != 1 || !strings.Contains(log, "make room, then start again") {
			t.Errorf("status %d, want 1 and what to do:\n%s", p.Status(), log)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("the end took %s", took)
		}
		harness.Eventually(t, 10*time.Second, "the disk is full", func() bool { return harness.Free(t, mount) == 0 })
		if pid := harness.ExportServerPID(mount + "/data/node"); pid != 0 {
			harness.EndExportServer(t, mount+"/data/node")
			t.Errorf("export server %d was left", pid)
		}
		end()
	}
}

// The disk is full and has room in turn while volumes are made, attached, copied and deleted. In the end nothing that was acknowledged is lost,
// and the books are right, also after a start.
func TestADiskThatIsFullAgainAndAgain(t *testing.T) {
	t.Parallel()
	seed := harness.Seed(t)
	t.Logf("SCORIA_SEED=%d", seed)
	s := upOnSmallDisk(t)
	stop := make(chan struct{})
	var workers sync.WaitGroup
	var lasting [4][]string // volumes of each worker whose creation was acknowledged and whose deletion was never asked for
	for w := range lasting {
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.oneVolume(t, random, &lasting[w])
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, 99))
	for range 4 {
		end := s.greedy(t)
		harness.Eventually(t, 10*time.Second, "the disk is full", func() bool { return harness.Free(t, s.mount) == 0 })
		if random.IntN(2) == 0 {
			s.breakStream(t)
		}
		<-time.After(upTo(random, time.Second))
		end()
		s.makeRoom(t)
		<-time.After(upTo(random, 300*time.Millisecond))
	}
	close(stop)
	workers.Wait()
	s.Idle(t)
	s.removeAll(t, "attachments", http.StatusOK)
	s.removeAll(t, "snapshots", http.StatusAccepted)
	s.Idle(t)
	for _, id := range slices.Concat(lasting[:]...) {
		if got := s.Get(t, id); got.Status != "available" {
			t.Errorf("volume %s is %s", id, got.Status)
		}
	}
	s.VerifyClean(t)
	s.Stop(t)
	s.Start(t)
	s.VerifyClean(t)
	s.Stop(t)
}

// removeAll removes what is left of a collection.
func (s *smallDisk) removeAll(t *testing.T, collection string, status int) {
	t.Helper()
	var out map[string][]struct{ ID string }
	s.Must(t, http.StatusOK, http.MethodGet, "/"+collection, nil, &out)
	for _, left := range out[collection] {
		s.Must(t, status, http.MethodDelete, "/"+collection+"/"+left.ID, nil, nil)
	}
}

// upTo is a random moment.
func upTo(random *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(limit)))
}

// oneVolume makes a volume, and attaches and copies it, or deletes one. What is refused on a full disk, is in doubt or is not there yet changes
// nothing here.
func (s *smallDisk) oneVolume(t *testing.T, random *rand.Rand, mine *[]string) {
	if n := len(*mine); n > 0 && random.IntN(2) == 0 {
		id := (*mine)[n-1]
		*mine = (*mine)[:n-1]
		s.try(t, http.MethodDelete, "/volumes/"+id, nil)
		return
	}
	id := s.try(t, http.MethodPost, "/volumes", harness.M{"volume": harness.M{"size": 1}})
	if id == "" {
		<-time.After(10 * time.Millisecond)
		return
	}
	*mine = append(*mine, id)
	s.forAWhile(t, "/attachments", harness.M{"attachment": harness.M{"volume_uuid": id, "connector": harness.M{"host": "localhost"}}})
	s.forAWhile(t, "/snapshots", harness.M{"snapshot": harness.M{"volume_id": id}})
}

// forAWhile makes something and removes it.
func (s *smallDisk) forAWhile(t *testing.T, path string, body any) {
	if made := s.try(t, http.MethodPost, path, body); made != "" {
		s.try(t, http.MethodDelete, path+"/"+made, nil)
	}
}

// try sends what may be refused on a full disk, and returns the ID of what was made, if that is known.
func (s *smallDisk) try(t *testing.T, method, path string, body any) string {
	ans, err := s.Do(t.Context(), method, path, body)
	switch {
	case err != nil:
		return ""
	case ans.Status >= 500 && ans.Status != http.StatusServiceUnavailable:
		t.Errorf("%s %s: status %d: %s", method, path, ans.Status, ans.Body)
	case ans.Status < 300 && method == http.MethodPost:
		var out map[string]struct{ ID string }
		if err := json.Unmarshal(ans.Body, &out); err != nil {
			t.Error(err)
		}
		for _, made := range out {
			return made.ID
		}
	}
	return ""
}

func data(full, _ string) []string { return []string{"up", "--data", full + "/data"} }
