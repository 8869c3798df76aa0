package integration

import (
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// While the export server cannot hold writes, no copy of an attached volume is made; while it cannot cut hosts off, no
// detach is answered. Both come to their end when it goes on.
func TestNothingIsSaidDoneThatTheExportServerHasNotDone(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	dir := filepath.Join(harness.XFS(t, "16G"), "volumes")
	s := harness.Up(t, "--backend", "local=file:path="+dir+",reflink=always", "--quota", "volumes=-1,snapshots=-1,gigabytes=-1")
	volume := s.Create(t, M{"size": 1})
	attachment, uri := attach(t, s.API, volume)
	host := newTraffic(t, uri, false, nil, rnd)
	host.goesOn(t, "before the stop")

	pid := harness.ExportServerPID(filepath.Join(s.Dir, "node"))
	stop := func() {
		t.Helper()
		signal(t, pid, syscall.SIGSTOP)
		harness.Eventually(t, 10*time.Second, "the export server is stopped", func() bool { return harness.State(pid) == 'T' })
	}
	stop()
	var out struct{ Snapshot struct{ ID string } }
	snapshot := s.Must(t, http.StatusAccepted, http.MethodPost, "/snapshots", M{"snapshot": M{"volume_id": volume}}, &out).Operation()
	harness.Eventually(t, 10*time.Second, "the snapshot waits within the call of the driver", func() bool {
		found, _ := filepath.Glob(filepath.Join(dir, "snapshots", ".tmp-"+snapshot+".*"))
		return len(found) == 1
	})
	othersGoOn(t, s)
	if op := operation(t, s.API, snapshot); op.Ended {
		t.Fatalf("the snapshot is %s without a hold", op.Phase)
	}
	signal(t, pid, syscall.SIGCONT)
	s.MustEnd(t, snapshot)
	host.goesOn(t, "after the snapshot")

	stop()
	answered := make(chan *harness.Answer, 1)
	go func() {
		ans, err := s.Do(t.Context(), http.MethodDelete, "/attachments/"+attachment, nil)
		if err != nil {
			t.Errorf("detach: %v", err)
		}
		answered <- ans
	}()
	harness.Eventually(t, 10*time.Second, "the detach is under way", func() bool {
		var list struct{ Operations []harness.Operation }
		s.Must(t, http.StatusOK, http.MethodGet, "/scoria/v1/operations?live=true&kind=volume.detach", nil, &list)
		return len(list.Operations) == 1 && list.Operations[0].Step == "unexport"
	})
	othersGoOn(t, s)
	select {
	case ans := <-answered:
		t.Fatalf("the detach is answered with %v while nobody is cut off", ans)
	default:
	}
	signal(t, pid, syscall.SIGCONT)
	if ans := <-answered; ans == nil || ans.Status != http.StatusOK {
		t.Fatalf("detach: %+v", ans)
	}
	before, _, err := harness.ReadContent(filepath.Join(dir, "volumes", volume))
	if err != nil {
		t.Fatal(err)
	}
	<-host.ended
	if !cutOff(host.err) {
		t.Errorf("the host was not cut off: %v", host.err)
	}
	wantContent(t, filepath.Join(dir, "volumes", volume), before)
	s.VerifyClean(t)
}

// othersGoOn proves that time goes by for everybody else: whole operations that need no export server, one after the other.
func othersGoOn(t *testing.T, s *harness.Stack) {
	t.Helper()
	for range 10 {
		s.Create(t, M{"size": 1})
	}
}

func operation(t *testing.T, a *harness.API, id string) harness.Operation {
	t.Helper()
	var out struct{ Operation harness.Operation }
	a.Must(t, http.StatusOK, http.MethodGet, "/scoria/v1/operations/"+id, nil, &out)
	return out.Operation
}

// signal sends a signal to an export server that a process of the test started.
func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}
