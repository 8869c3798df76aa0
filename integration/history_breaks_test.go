package integration

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// brawl is some clients on few volumes, an operator who breaks what they began, and a process that is killed.
type brawl struct {
	*harness.Stack
	t   *testing.T
	dir string // of the backend

	mu       sync.Mutex
	rnd      *rand.Rand
	accepted int
	broken   map[string]int // by the phase in which it was
}

func (b *brawl) intn(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rnd.IntN(n)
}

// An operator breaks operations that wait, run or are stuck at random moments, and the process is killed in between. Every operation
// has ended then; the books are right; what was broken is an error that can be deleted, and nothing is left of it on the backend.
func TestBreaksAtRandomMomentsLeaveTheBooksClean(t *testing.T) {
	t.Parallel()
	rounds, kills := 120, 4
	if testing.Short() {
		rounds, kills = 30, 1
	}
	b := &brawl{t: t, dir: filepath.Join(t.TempDir(), "volumes"), rnd: seed(t), broken: map[string]int{}}
	b.Stack = harness.Up(t, "--lease", "1s", "--quota", "volumes=-1,snapshots=-1,gigabytes=-1",
		"--backend", "local=file:path="+b.dir+",delay=20ms,oversubscription=1000")
	for range 3 {
		b.Snapshot(t, b.Create(t, M{"size": 1}))
	}
	var clients, operator sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for n := 0; n < rounds; {
				if b.round() {
					n++
				} else {
					pauseBriefly(t.Context())
				}
			}
		})
	}
	stop := make(chan struct{})
	operator.Go(func() { b.operate(stop) })
	for range kills {
		have := b.count()
		harness.Eventually(t, 2*time.Minute, "clients go on", func() bool { return b.count() >= have+rounds/4 })
		<-time.After(time.Duration(b.intn(60)) * time.Millisecond)
		b.Kill()
		b.Start(t)
	}
	clients.Wait()
	close(stop)
	operator.Wait()
	harness.Eventually(t, 2*time.Minute, "every operation has ended", func() bool {
		live := b.live()
		for _, op := range live { // a break that was cut off is gone on with by the same command
			if op.Phase == "void" || op.Phase == "stuck" {
				b.breakLocks(op)
			}
		}
		return len(live) == 0
	})
	t.Logf("%d operations accepted; broken: %v", b.accepted, b.broken)
	if len(b.broken) == 0 {
		t.Error("no operation was broken")
	}
	b.VerifyClean(t)
	b.removeAll()
	b.VerifyClean(t)
	for _, folder := range []string{"volumes", "snapshots"} {
		if left, err := os.ReadDir(filepath.Join(b.dir, folder)); len(left) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left in %s of the backend: %v, %v", folder, left, err)
		}
	}
}

func (b *brawl) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted
}

// ids lists what there is; nothing while the process is away.
func (b *brawl) ids(what string) (all []string) {
	ans, err := b.Do(b.t.Context(), http.MethodGet, "/"+what+"?limit=1000", nil)
	if err != nil || ans.Status != http.StatusOK {
		return nil
	}
	var out map[string][]struct{ ID string }
	if err := json.Unmarshal(ans.Body, &out); err != nil {
		b.t.Error(err)
	}
	for _, r := range out[what] {
		all = append(all, r.ID)
	}
	return all
}

// one is one of what there is, or an ID of nothing.
func (b *brawl) one(what string) string {
	if all := b.ids(what); len(all) > 0 {
		return all[b.intn(len(all))]
	}
	return "6f2b3f4e-9d0c-4b7e-8a65-0123456789ab"
}

// round asks for something that may be possible now. It says whether an answer came.
func (b *brawl) round() bool {
	method, path, body := http.MethodPost, "/volumes", M{}
	switch b.intn(10) {
	case 0:
		body = M{"volume": M{"size": 1}}
	case 1:
		body = M{"volume": M{"size": 4, "source_volid": b.one("volumes")}}
	case 2:
		body = M{"volume": M{"size": 4, "snapshot_id": b.one("snapshots")}}
	case 3:
		method, path, body = http.MethodDelete, "/volumes/"+b.one("volumes"), nil
	case 4:
		path, body = "/volumes/"+b.one("volumes")+"/action", M{"os-extend": M{"new_size": 2 + b.intn(3)}}
	case 5:
		path, body = "/volumes/"+b.one("volumes")+"/action", M{"revert": M{"snapshot_id": b.one("snapshots")}}
	case 6:
		path, body = "/snapshots", M{"snapshot": M{"volume_id": b.one("volumes"), "force": true}}
	case 7:
		method, path, body = http.MethodDelete, "/snapshots/"+b.one("snapshots"), nil
	case 8:
		path, body = "/attachments", M{"attachment": M{"volume_uuid": b.one("volumes"), "connector": M{"host": "n1"}}}
	case 9:
		method, path, body = http.MethodDelete, "/attachments/"+b.one("attachments"), nil
	}
	ans, err := b.Do(b.t.Context(), method, path, body, onConflict, []string{"refuse", inLine}[b.intn(2)])
	switch {
	case err != nil: // the process was killed
	case ans.Status == http.StatusInternalServerError:
		b.t.Errorf("%s %s: %s", method, path, ans.Body)
	case ans.Operation() != "" && ans.Status < http.StatusBadRequest:
		b.mu.Lock()
		b.accepted++
		b.mu.Unlock()
	}
	return err == nil
}

// live are the operations that have not ended.
func (b *brawl) live() []harness.Operation {
	ans, err := b.Do(b.t.Context(), http.MethodGet, "/scoria/v1/operations?live=true&project="+b.Project, nil)
	if err != nil || ans.Status != http.StatusOK {
		return nil
	}
	var out struct{ Operations []harness.Operation }
	if err := json.Unmarshal(ans.Body, &out); err != nil {
		b.t.Error(err)
	}
	return out.Operations
}

// operate breaks one operation after the other, whatever it does.
func (b *brawl) operate(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(b.intn(80)) * time.Millisecond):
		}
		if live := b.live(); len(live) > 0 {
			b.breakLocks(live[b.intn(len(live))])
		}
	}
}

func (b *brawl) breakLocks(op harness.Operation) {
	ans, err := b.Do(b.t.Context(), http.MethodPost, "/scoria/v1/locks/"+op.Resource+"/break", M{"operation": op.ID, "reason": "test", "force": true})
	switch {
	case err != nil || ans.Status == http.StatusServiceUnavailable: // the process was killed
	case ans.Status == http.StatusOK:
		b.mu.Lock()
		b.broken[op.Phase]++
		b.mu.Unlock()
	case ans.Status == http.StatusNotFound, ans.Status == http.StatusConflict:
		// It has ended meanwhile, or waits: of a waiter nothing can be taken away.
		if !strings.Contains(string(ans.Body), "hold") && !strings.Contains(string(ans.Body), "ended") && !strings.Contains(string(ans.Body), "not found") {
			b.t.Errorf("break of operation %s, %s: %s", op.ID, op.Phase, ans.Body)
		}
	default:
		b.t.Errorf("break of operation %s, %s: %d: %s", op.ID, op.Phase, ans.Status, ans.Body)
	}
}

// removeAll deletes everything, in whatever state it is.
func (b *brawl) removeAll() {
	b.t.Helper()
	for _, id := range b.ids("attachments") {
		b.Must(b.t, http.StatusOK, http.MethodDelete, "/attachments/"+id, nil, nil)
	}
	for _, id := range b.ids("snapshots") {
		b.Delete(b.t, "/snapshots/"+id)
	}
	for _, id := range b.ids("volumes") {
		b.Delete(b.t, "/volumes/"+id)
	}
}
