package integration

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// An API node whose NATS server hangs or is gone answers everything in a bounded time: reads from memory, with a sign, and all else with who
// does not answer. When it is back everything goes on.
func TestAnAPINodeSaysThatNATSDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end, again func(*testing.T, *harness.Stack)
		// notice bounds the first answer, while it is not known yet.
		notice time.Duration
	}{
		"it hangs": {
			func(t *testing.T, s *harness.Stack) { s.Process().Signal(t, syscall.SIGSTOP) },
			func(t *testing.T, s *harness.Stack) { s.Process().Signal(t, syscall.SIGCONT) }, 15 * time.Second,
		},
		"it is gone": {
			func(_ *testing.T, s *harness.Stack) { s.Kill() },
			func(t *testing.T, s *harness.Stack) { s.Start(t) }, 8 * time.Second,
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

			begin := time.Now()
			if _, said, status := api.CLI(t, "verify"); status != 1 || !strings.Contains(said, server) || time.Since(begin) > c.notice {
				t.Errorf("verify: status %d after %s, said %q, want it soon and %s named", status, time.Since(begin), said, server)
			}
			begin = time.Now()
			create := api.Must(t, http.StatusServiceUnavailable, "POST", "/volumes", M{"volume": M{"size": 1}}, nil)
			_, _, text := create.Fault()
			if !strings.Contains(text, server) || !strings.Contains(text, "Nothing was submitted") || create.Header.Get("Retry-After") == "" {
				t.Errorf("create: %v %s, want %s named and what became of it", create.Header, text, server)
			}
			api.Must(t, http.StatusServiceUnavailable, "GET", "/scoria/v1/operations/7e57c0de-0000-4000-8000-000000000001", nil, nil)
			if isReady(t, api) {
				t.Error("it says that it is ready")
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("once it is known the answers took %s", took)
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

// isReady asks as a balancer does.
func isReady(t *testing.T, api *harness.API) bool {
	t.Helper()
	resp, err := http.Get(api.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
