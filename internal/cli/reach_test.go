package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/deploy/assembly"
)

// A node that goes away in the middle is another thing than one that was never there.
func TestACutOffAnswerIsSaidAsSuch(t *testing.T) {
	t.Parallel()
	half := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"volume": {`))
	}
	for name, c := range map[string]struct {
		call    string
		answer  http.HandlerFunc
		want    string
		changes bool
	}{
		"half an answer":             {"GET /v3/demo/volumes/v1", half, "lost in the middle of its answer", false},
		"no answer":                  {"GET /v3/demo/volumes/v1", cut, "lost before it answered", false},
		"half an answer to a change": {"DELETE /v3/demo/volumes/v1", half, "lost in the middle of its answer", true},
		"no answer to a change":      {"DELETE /v3/demo/volumes/v1", cut, "lost before it answered", true},
	} {
		args := []string{"volume", "show", "v1"}
		if c.changes {
			args[1] = "delete"
		}
		url := fake(t, map[string]http.HandlerFunc{c.call: c.answer})
		_, stderr, status := scoria(t, append(args, "--endpoint", url)...)
		if status != 1 || !strings.Contains(stderr, c.want) || !strings.Contains(stderr, url) || strings.Contains(stderr, "nothing listens") {
			t.Errorf("%s: status %d, said %q, want %q", name, status, stderr, c.want)
		}
		if got := strings.Contains(stderr, "may have been accepted"); got != c.changes {
			t.Errorf("%s: said %q, want a word of what may have been accepted: %t", name, stderr, c.changes)
		}
	}
}

func TestANodeThatGoesAwayIsNotOneThatWasNeverThere(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(nil)
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.Header().Set(headerOperation, "op1")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		srv.Listener.Close()
		w.Header().Set("Connection", "close")
		say(200, `{"operation": {"id": "op1", "phase": "running"}}`)(w, r)
	})
	srv.Start()
	defer srv.Close()
	_, stderr, status := scoria(t, "volume", "delete", "v1", "--endpoint", srv.URL)
	if status != 1 || strings.Contains(stderr, "nothing listens") || !strings.Contains(stderr, "cannot be reached any more") || !strings.Contains(stderr, "scoria operation watch op1") {
		t.Errorf("status %d, said %q", status, stderr)
	}
}

func TestWhatMayBeOutOfDateIsSaidOnce(t *testing.T) {
	t.Parallel()
	old := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(headerStale, "37")
			say(200, body)(w, r)
		}
	}
	asked := 0
	url := fake(t, map[string]http.HandlerFunc{
		"GET /v3/demo/volumes/detail": old(twoVolumes), "GET /scoria/v1/operations/op2": func(w http.ResponseWriter, r *http.Request) {
			if asked++; asked < 3 {
				old(`{"operation": {"id": "op2", "phase": "running"}}`)(w, r)
				return
			}
			old(`{"operation": {"id": "op2", "phase": "done", "ended": true}}`)(w, r)
		},
	})
	const want = "scoria: NATS has not answered the API node for 37 s: what is shown may be out of date\n"
	for _, args := range [][]string{{"volume", "list"}, {"operation", "watch", "op2"}, {"volume", "list", "-o", "json"}} {
		stdout, stderr, status := scoria(t, append(args, "--endpoint", url)...)
		if status != 0 || stderr != want || !strings.Contains(stdout, "2") {
			t.Errorf("%v: status %d, printed %q, said %q, want %q", args, status, stdout, stderr, want)
		}
	}
}

func TestTheWelcomeNamesTheEndpointWhereItIsNotTheDefault(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]int{defaultEndpoint: 0, "http://127.0.0.1:1234": 3} {
		var out bytes.Buffer
		welcome(&out, assembly.Served{URL: url}, "data")
		if got := strings.Count(out.String(), " --endpoint "+url+"\n"); got != want {
			t.Errorf("%s: %d lines name the endpoint, want %d:\n%s", url, got, want, out.String())
		}
		if !strings.Contains(out.String(), "operation watch OPERATION") {
			t.Errorf("nothing tells how to watch an operation:\n%s", out.String())
		}
	}
}
