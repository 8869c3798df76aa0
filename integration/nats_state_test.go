package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/integration/harness"
)

// A stream whose records cannot be read any more is not started on: the refusal says what is lost and what to do, each time, and nothing is
// changed. Who accepts the loss goes on with what is left, and what revisions are given again is no old fence to the backends.
func TestADamagedStreamIsNotStartedOn(t *testing.T) {
	t.Parallel()
	s := harness.Up(t)
	kept := s.Create(t, M{"size": 1})
	snapshot := s.Snapshot(t, kept)
	revert := func() {
		t.Helper()
		s.MustEnd(t, s.Must(t, http.StatusAccepted, "POST", "/volumes/"+kept+"/action", M{"revert": M{"snapshot_id": snapshot}}, nil).Operation())
	}
	block := filepath.Join(s.Dir, "nats/jetstream/$G/streams/KV_scoria/msgs/1.blk")
	before := size(t, block)
	lost := s.Create(t, M{"size": 1})
	revert()
	s.Kill()

	f, err := os.OpenFile(block, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("these bytes were something else once"), before+50); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p := harness.Start(t, "up", "--data", s.Dir, "--listen", "127.0.0.1:0", "--nats-listen", "", "--metrics", "127.0.0.1:0")
		<-p.Ended()
		for _, want := range []string{block, " from byte ", "whole records", s.Dir + " from a copy", filepath.Join(s.Dir, "accept-loss"), "scoria verify"} {
			if !strings.Contains(p.Log(), want) {
				t.Errorf("status %d, said %q, want %q in it", p.Status(), p.Log(), want)
			}
		}
		if p.Status() != 1 || p.IsReady() {
			t.Errorf("status %d, ready %v, want a refusal", p.Status(), p.IsReady())
		}
	}

	accept := filepath.Join(s.Dir, "accept-loss")
	if err := os.WriteFile(accept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	if _, err := os.Stat(accept); !os.IsNotExist(err) {
		t.Errorf("%s: %v, want it gone: it is good for one start", accept, err)
	}
	if log := s.Process().Log(); !strings.Contains(log, "loss of data accepted") || !strings.Contains(log, block) {
		t.Errorf("log %s, want the loss in it", log)
	}
	s.Must(t, http.StatusNotFound, "GET", "/volumes/"+lost, nil, nil)
	revert() // the backend remembers the fence of the one that the records have forgotten
	if said, _, status := s.CLI(t, "verify"); status != 1 || !strings.Contains(said, lost) {
		t.Errorf("verify: status %d, said %q, want %s named, whose record is lost", status, said, lost)
	}
	s.Stop(t)
	s.Start(t)
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
