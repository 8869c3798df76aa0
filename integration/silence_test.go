package integration

import (
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// An API node whose NATS server hangs or is gone answers everything: reads from memory, with a sign, and all else with who does not answer.
// That nothing waited until its limit is seen in what is said: who did would say that. When it is back everything goes on.
func TestAnAPINodeSaysThatNATSDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end, again func(*testing.T, *harness.Stack)
	}{
		"it hangs": {
			func(t *testing.T, s *harness.Stack) { s.Process().Signal(t, syscall.SIGSTOP) },
			func(t *testing.T, s *harness.Stack) { s.Process().Signal(t, syscall.SIGCONT) },
		},
		"it is gone": {
			func(_ *testing.T, s *harness.Stack) { s.Kill() },
			func(t *testing.T, s *harness.Stack) { s.Start(t) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.Up(t, "--backend", "fake=null")
			node := harness.Start(t, "api-node", "--nats", s.NATSURL(), "--listen", "127.0.0.1:0", "--metrics", harness.FreeAddr(t))
			api := &harness.API{URL: node.Ready(t), Project: "demo"}
			volume := api.Create(t, M{"size": 1})
			c.end(t, s)
			server := "NATS (" + s.NATSURL() + ")"

			if _, said, status := api.CLI(t, "verify"); status != 1 || !strings.Contains(said, server) {
				t.Errorf("verify: status %d, said %q, want %s named", status, said, server)
			}
			create := api.Must(t, http.StatusServiceUnavailable, "POST", "/volumes", M{"volume": M{"size": 1}}, nil)
			_, _, text := create.Fault()
			if !strings.Contains(text, server) || !strings.Contains(text, "Nothing was submitted") || create.Header.Get("Retry-After") == "" {
				t.Errorf("create: %v %s, want %s named and what became of it", create.Header, text, server)
			}
			api.Must(t, http.StatusServiceUnavailable, "GET", "/scoria/v1/operations/7e57c0de-0000-4000-8000-000000000001", nil, nil)
			if isReady(t, api) {
				t.Error("it says that it is ready")
			}
			harness.Eventually(t, 20*time.Second, "what is read says that it may be out of date", func() bool {
				shown, said, status := api.CLI(t, "volume", "show", volume)
				return status == 0 && strings.Contains(shown, volume) && strings.Contains(said, "may be out of date")
			})
			harness.Eventually(t, 30*time.Second, "the connection is given up", func() bool { return strings.Contains(node.Log(), "connection to NATS lost") })

			c.again(t, s)
			harness.Eventually(t, 30*time.Second, "it is ready again", func() bool { return isReady(t, api) })
			if _, said, status := api.CLI(t, "volume", "show", volume); status != 0 || said != "" {
				t.Errorf("show: status %d, said %q, want no word", status, said)
			}
			api.Create(t, M{"size": 1})
			api.VerifyClean(t)
		})
	}
}

func isReady(t *testing.T, api *harness.API) bool {
	t.Helper()
	status, _ := readyz(t, api.URL)
	return status == http.StatusOK
}

// A request that was sent when its server began to hang is in doubt: its answer names the server, and what makes it safe to send the request
// again.
func TestARequestInDoubtCanBeSentAgain(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null")
	node := startAPINode(t, s.NATSURL())
	api := &harness.API{URL: node.Ready(t), Project: "demo"}
	api.Create(t, M{"size": 1})
	s.Process().Signal(t, syscall.SIGSTOP)
	begin := time.Now()
	request := M{"volume": M{"size": 1, "name": "doubtful"}}
	_, _, text := api.Must(t, http.StatusServiceUnavailable, "POST", "/volumes", request, nil).Fault()
	// It is given up after 10 s without an answer, and not after the 30 s that a server has which answers.
	if took := time.Since(begin); took > 25*time.Second {
		t.Errorf("answered after %s", took)
	}
	key := regexp.MustCompile(`Idempotency-Key: ([0-9a-f-]{36})`).FindStringSubmatch(text)
	if !strings.Contains(text, "NATS ("+s.NATSURL()+")") || key == nil {
		t.Fatalf("answer %q, want the server and an Idempotency-Key in it", text)
	}
	s.Process().Signal(t, syscall.SIGCONT)
	harness.Eventually(t, 60*time.Second, "it is ready again", func() bool { return isReady(t, api) })
	for range 2 {
		again, err := api.Do(t.Context(), "POST", "/volumes", request, "Idempotency-Key", key[1])
		if err != nil || again.Status != http.StatusAccepted || again.Operation() != key[1] {
			t.Fatalf("sent again: %v, %+v, want operation %s accepted", err, again, key[1])
		}
	}
	var list struct{ Volumes []harness.Volume }
	api.Must(t, http.StatusOK, "GET", "/volumes?name=doubtful", nil, &list)
	if len(list.Volumes) != 1 {
		t.Errorf("%d volumes were made, want one", len(list.Volumes))
	}
	api.MustEnd(t, key[1])
	api.VerifyClean(t)
}
