package integration

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

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
	block := filepath.Join(s.Dir, firstBlock)
	before := size(t, block)
	lost := s.Create(t, M{"size": 1})
	revert()
	s.Kill()

	damage(t, block, before+50)
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

	accept := acceptLoss(t, s)
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

// firstBlock is where the stream begins, in the data directory.
const firstBlock = "nats/jetstream/$G/streams/KV_scoria/msgs/1.blk"

func damage(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("these bytes were something else once"), at); err != nil {
		t.Fatal(err)
	}
}

// acceptLoss lets the next start go on without what is lost.
func acceptLoss(t *testing.T, s *harness.Stack) string {
	t.Helper()
	path := filepath.Join(s.Dir, "accept-loss")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// Free ports that were asked for are chosen, and said.
func TestTheChosenPortsAreSaid(t *testing.T) {
	t.Parallel()
	free := []string{"--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"}
	up := harness.Start(t, append([]string{"up", "--data", t.TempDir(), "--nats-listen", "127.0.0.1:0", "--backend", "fake=null"}, free...)...)
	up.Ready(t)
	nats := said(t, up, `NATS (nats://[0-9.:]+)`)
	api := harness.Start(t, append([]string{"api-node", "--nats", nats}, free...)...)
	api.Ready(t)
	for who, url := range map[string]string{"up": said(t, up, `metrics (http://\S+)`), "api-node": said(t, api, `metrics (http://\S+)`)} {
		if got := harness.Metric(t, strings.TrimSuffix(url, "/metrics"), "scoria_build_info"); got != 1 {
			t.Errorf("%s: scoria_build_info at %s is %v, want 1", who, url, got)
		}
	}
}

// said waits until the process has printed something, and returns the part in brackets.
func said(t *testing.T, p *harness.Process, pattern string) string {
	t.Helper()
	text := regexp.MustCompile(pattern)
	harness.Eventually(t, 10*time.Second, pattern+" is printed", func() bool { return text.MatchString(p.Output()) })
	return text.FindStringSubmatch(p.Output())[1]
}

// Nodes whose NATS server comes back without what it had acknowledged do not go on as if nothing had happened: what they remember of it would
// hide what is written next. They end with the reason; who starts then takes what there is.
func TestNodesNoticeThatTheirServerHasLostData(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null")
	block := filepath.Join(s.Dir, firstBlock)
	s.Create(t, M{"size": 1})
	before := size(t, block)
	node := startVolumeNode(t, s.NATSURL())
	node.Ready(t)
	api := startAPINode(t, s.NATSURL())
	seen := (&harness.API{URL: api.Ready(t), Project: "demo"}).Create(t, M{"size": 1})
	s.Kill()
	damage(t, block, before+50)
	acceptLoss(t, s)
	s.Start(t)

	for who, p := range map[string]*harness.Process{"API node": api, "volume node": node} {
		<-p.Ended()
		if !strings.Contains(p.Log(), "has lost data") || p.Status() != 1 {
			t.Errorf("the %s: status %d, log %s, want it ended because its server has lost data", who, p.Status(), p.Log())
		}
	}
	again := startAPINode(t, s.NATSURL())
	(&harness.API{URL: again.Ready(t), Project: "demo"}).Must(t, http.StatusNotFound, "GET", "/volumes/"+seen, nil, nil)
}

func startAPINode(t *testing.T, nats string) *harness.Process {
	t.Helper()
	return harness.Start(t, "api-node", "--nats", nats, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
}

func startVolumeNode(t *testing.T, nats string) *harness.Process {
	t.Helper()
	return harness.Start(t, "volume-node", "--nats", nats, "--name", "n2", "--state", t.TempDir(), "--backend", "other=null", "--metrics", "127.0.0.1:0")
}

// A volume node whose NATS server is gone, or hangs, is not ready, and says which one; when it is back it is ready again.
func TestAVolumeNodeIsNotReadyWithoutNATS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end, again func(*testing.T, *harness.Stack)
	}{
		"gone": {
			func(_ *testing.T, s *harness.Stack) { s.Kill() },
			func(t *testing.T, s *harness.Stack) { s.Start(t) },
		},
		"hangs": {
			func(t *testing.T, s *harness.Stack) { s.Process().Signal(t, syscall.SIGSTOP) },
			func(t *testing.T, s *harness.Stack) { s.Process().Signal(t, syscall.SIGCONT) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.Up(t, "--backend", "fake=null")
			node := startVolumeNode(t, s.NATSURL())
			url := node.Ready(t)
			harness.Eventually(t, 30*time.Second, "it is ready", func() bool { status, _ := readyz(t, url); return status == http.StatusOK })
			c.end(t, s)
			harness.Eventually(t, 60*time.Second, "it says who does not answer", func() bool {
				status, text := readyz(t, url)
				return status == http.StatusServiceUnavailable && strings.Contains(text, "NATS ("+s.NATSURL()+")")
			})
			c.again(t, s)
			harness.Eventually(t, 60*time.Second, "it is ready again", func() bool { status, _ := readyz(t, url); return status == http.StatusOK })
		})
	}
}

// readyz asks as a balancer does.
func readyz(t *testing.T, url string) (status int, text string) {
	t.Helper()
	resp, err := http.Get(url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
