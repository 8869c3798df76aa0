package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/messages"
)

func TestErrorText(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"badRequest": {"code": 400, "message": "Invalid volume: no."}}`:                   "Invalid volume: no.",
		`{"error": {"code": "invalid_request", "message": "want a kind", "field": "kind"}}`: "want a kind",
		`{"message": "from a proxy"}`:       "from a proxy",
		`{"badRequest": {"code": 400}}`:     `{"badRequest": {"code": 400}}`,
		" plain words\n":                    "plain words",
		"":                                  "502 Bad Gateway",
		"<p>" + strings.Repeat("x", 300):    "502 Bad Gateway",
		`{"a": [1], "b": {"message": "b"}}`: "b",
	} {
		if got := errorText(&http.Response{Status: "502 Bad Gateway"}, []byte(body)); got != want {
			t.Errorf("errorText(%.80q) = %q, want %q", body, got, want)
		}
	}
}

func TestTimestamp(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		`null`:                         {},
		`"2026-01-02T03:04:05.678901"`: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC),
		`"2026-01-02T03:04:05"`:        time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		`"2026-01-02T03:04:05.5"`:      time.Date(2026, 1, 2, 3, 4, 5, 500000000, time.UTC),
	} {
		var got timestamp
		if err := got.UnmarshalJSON([]byte(text)); err != nil || !got.Equal(want) {
			t.Errorf("%s is %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{`"yesterday"`, `5`, `"2026-01-02T03:04:05+02:00"`, `""`} {
		var got timestamp
		if err := got.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s was read as %v", text, got)
		}
	}
}

// fake serves canned answers, by method and path; what it has none for ends the test.
func fake(t *testing.T, answers map[string]http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.Method+" "+r.URL.Path]
		if !ok {
			t.Errorf("there was a call %s %s", r.Method, r.URL)
			http.NotFound(w, r)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// scoria runs a command line.
func scoria(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	status = Main(args, &out, &errs)
	return out.String(), errs.String(), status
}

const twoVolumes = `{"volumes": [
	{"id": "v1", "name": "disk", "status": "in-use", "size": 3, "created_at": null},
	{"id": "v2", "name": "", "status": "available", "size": 1, "created_at": null}]}`

func TestListsAreTablesForPeopleAndJSONForPrograms(t *testing.T) {
	t.Parallel()
	url := fake(t, map[string]http.HandlerFunc{"GET /v3/p1/volumes/detail": func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("X-Auth-Token"); got != "admin:p1" {
			t.Errorf("X-Auth-Token = %q, want admin:p1", got)
		}
		say(200, twoVolumes)(w, r)
	}})
	stdout, stderr, status := scoria(t, "volume", "list", "--endpoint", url+"/", "--project", "p1")
	want := "ID  NAME  STATUS     SIZE   AGE\nv1  disk  in-use     3 GiB  -\nv2  -     available  1 GiB  -\n"
	if status != 0 || stdout != want || stderr != "" {
		t.Errorf("status %d, printed\n%swant\n%sand said %q", status, stdout, want, stderr)
	}
	stdout, _, status = scoria(t, "volume", "list", "--endpoint", url, "--project", "p1", "-o", "json")
	if status != 0 || !strings.HasPrefix(stdout, "[\n") || !strings.Contains(stdout, `"id": "v2"`) {
		t.Errorf("status %d, printed %s, want a JSON list with v2", status, stdout)
	}
}

func TestAnErrorOfTheNodeIsSaidWithItsStatus(t *testing.T) {
	t.Parallel()
	url := fake(t, map[string]http.HandlerFunc{
		"GET /v3/demo/volumes/v9": say(404, `{"itemNotFound": {"code": 404, "message": "Volume v9 could not be found."}}`),
	})
	stdout, stderr, status := scoria(t, "volume", "show", "v9", "--endpoint", url)
	if want := "scoria: Volume v9 could not be found. (HTTP 404)\n"; status != 1 || stdout != "" || stderr != want {
		t.Errorf("status %d, printed %q, said %q, want status 1 and %q", status, stdout, stderr, want)
	}
}

func TestNothingListensIsSaidWithWhatToDo(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := scoria(t, "verify", "--endpoint", url)
	if status != 1 || !strings.Contains(stderr, "nothing listens at "+url) || !strings.Contains(stderr, "scoria up") {
		t.Errorf("status %d, said %q", status, stderr)
	}
}

func TestOneDeleteThatFailsDoesNotKeepTheOthersFromBeingTried(t *testing.T) {
	t.Parallel()
	tried := make(chan string, 2)
	url := fake(t, map[string]http.HandlerFunc{
		"DELETE /v3/demo/volumes/v1": func(w http.ResponseWriter, r *http.Request) {
			tried <- "v1"
			say(400, `{"badRequest": {"code": 400, "message": "it is read"}}`)(w, r)
		},
		"DELETE /v3/demo/volumes/v2": func(w http.ResponseWriter, _ *http.Request) {
			tried <- "v2"
			w.Header().Set(headerOperation, "op2")
			w.WriteHeader(http.StatusAccepted)
		},
		"GET /scoria/v1/operations/op2": say(200, `{"operation": {"id": "op2", "phase": "done", "ended": true}}`),
	})
	_, stderr, status := scoria(t, "volume", "delete", "v1", "v2", "--endpoint", url)
	if status != 1 || len(tried) != 2 || stderr != "scoria: v1: it is read (HTTP 400)\n" {
		t.Errorf("status %d after %d calls, said %q", status, len(tried), stderr)
	}
}

// A stuck operation ends the wait with what to do next.
func TestTheOutcomeOfAnOperation(t *testing.T) {
	t.Parallel()
	for phase, c := range map[string]struct {
		status int
		want   string
	}{
		"done":   {0, ""},
		"stuck":  {1, "scoria operation resume"},
		"undone": {1, "ended without doing what was asked (undone): no room"},
		"void":   {1, "ended without doing what was asked (void): no room"},
	} {
		url := fake(t, map[string]http.HandlerFunc{
			"POST /v3/demo/volumes/v1/action": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(headerOperation, "op1")
				w.WriteHeader(http.StatusAccepted)
			},
			"GET /scoria/v1/operations/op1": say(200, `{"operation": {"id": "op1", "phase": "`+phase+`", "ended": `+
				map[bool]string{true: "false", false: "true"}[phase == "stuck"]+`, "step": "grow", "error": "no room"}}`),
		})
		_, stderr, status := scoria(t, "volume", "extend", "v1", "--size", "2", "--endpoint", url)
		if status != c.status || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: status %d, said %q, want status %d and %q", phase, status, stderr, c.status, c.want)
		}
	}
}

func TestNoWaitReturnsWhenTheOperationIsAccepted(t *testing.T) {
	t.Parallel()
	url := fake(t, map[string]http.HandlerFunc{"DELETE /v3/demo/volumes/v1": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(headerOperation, "op1")
		w.WriteHeader(http.StatusAccepted)
	}})
	if _, stderr, status := scoria(t, "volume", "delete", "v1", "--no-wait", "--endpoint", url); status != 0 {
		t.Errorf("status %d, said %q", status, stderr)
	}
}

func TestVerifyEndsWithStatusOneAndNamesTheDifferences(t *testing.T) {
	t.Parallel()
	answer := `{"clean": true, "differences": [], "checked": {"volumes": 3}}`
	url := fake(t, map[string]http.HandlerFunc{"GET /scoria/v1/verify": func(w http.ResponseWriter, r *http.Request) { say(200, answer)(w, r) }})
	stdout, stderr, status := scoria(t, "verify", "--endpoint", url)
	if status != 0 || !strings.HasPrefix(stdout, "clean: 3 volumes") {
		t.Errorf("status %d, printed %q, said %q", status, stdout, stderr)
	}
	answer = `{"clean": false, "differences": [{"kind": "quota", "subject": "demo", "text": "off by one"}]}`
	stdout, stderr, status = scoria(t, "verify", "--endpoint", url)
	if status != 1 || !strings.HasPrefix(stdout, "differences found") || !strings.Contains(stdout, "quota  demo     off by one") || stderr != "" {
		t.Errorf("status %d, printed %q, said %q", status, stdout, stderr)
	}
}

// A wrong call ends with status 2 and says what is wrong, before anything is asked for.
func TestWrongCallsAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"volumes"}, "there is no command `scoria volumes`, but `scoria volume`; see `scoria --help`"},
		{[]string{"volume", "cretae"}, "there is no command `scoria volume cretae`, but `scoria volume create`; see `scoria volume --help`"},
		{[]string{"volume", "xyz"}, "there is no command `scoria volume xyz`; see"},
		{[]string{"vol\x1b[2J\nume"}, "there is no command `scoria vol\\x1b[2J\\nume`"},
		{[]string{"volume", "list", "--sp\x1b[2Jed"}, "unknown flag: --sp\\x1b[2Jed"},
		{[]string{"volume", "show"}, "accepts 1 arg(s), received 0; see `scoria volume show --help`"},
		{[]string{"verify", "x"}, "unknown command"},
		{[]string{"volume", "list", "--sped"}, "--sped"},
		{[]string{"volume", "list", "-o", "xml"}, `setting output: value "xml": want table or json`},
		{[]string{"volume", "list", "--endpoint", "nonsense"}, `setting endpoint: value "nonsense"`},
		{[]string{"volume", "create"}, `setting size: value "": want a size in GiB, or what to make the volume from: --from-snapshot or --from-volume`},
		{[]string{"volume", "list", "--no-wait"}, "unknown flag: --no-wait"},
		{[]string{"operation", "show", "o1", "--no-wait"}, "unknown flag: --no-wait"},
		{[]string{"volume", "extend", "v1"}, "setting size"},
		{[]string{"volume", "extend", "v1", "--size", "big"}, `setting size: value "big": want a whole number; see`},
		{[]string{"volume", "create", "--size", "99999999999999999999"}, "the number is too large"},
		{[]string{"volume", "delete", "v1", "--no-wait=perhaps"}, `setting no-wait: value "perhaps": want true or false`},
		{[]string{"volume", "list", "--limit", "0"}, `setting limit: value "0": want 1 or more rows`},
		{[]string{"volume", "list", "--project", "a/b"}, `setting project: value "a/b"`},
		{[]string{"operation", "list", "--phase", "foo"}, `setting phase: value "foo": want one of queued, granted, running`},
		{[]string{"operation", "list", "--kind", "volume.paint"}, `setting kind: value "volume.paint": want one of volume.create, volume.delete`},
		{[]string{"operation", "list", "--phase", ""}, `setting phase: value "": want one of`},
		{[]string{"up", "--lease", "0s"}, `setting lease: value "0s": want a time from 1s to 24h`},
		{[]string{"up", "--workers", "0"}, `setting workers: value "0": want 1 to 10000 operations`},
		{[]string{"up", "--attach-wait", "-1s"}, `setting attach-wait: value "-1s": want a time from 1s to 1h`},
		{[]string{"up", "--quota", "volumes=1,volumes=2"}, `setting quota: value "volumes=1,volumes=2": "volumes=2": volumes was said before: want it once`},
		{[]string{"up", "--quota", "volumes=1", "--quota", "gigabytes=5,volumes=2"}, `"volumes=2": volumes was said before`},
		{[]string{"up", "--data", "/nowhere", "--backend", "a=null", "--backend", "a=file:path=/x"}, `setting backend: value "a=file:path=/x": the name a is used twice`},
		{[]string{"api-node", "--replicas", "0"}, `setting replicas: value "0": want 1, 3 or 5 copies`},
		{[]string{"version", "-o", "xml"}, "want table or json"},
		{[]string{"volume", "revert", "v1"}, "setting snapshot"},
		{[]string{"volume", "set", "v1"}, "--name or --description"},
		{[]string{"operation", "abandon", "o1"}, "setting reason"},
		{[]string{"help", "volum"}, "there is no command `scoria volum`, but `scoria volume`; see `scoria --help`"},
		{[]string{"help", "volume", "shwo"}, "there is no command `scoria volume shwo`, but `scoria volume show`; see `scoria volume --help`"},
		{[]string{"completion", "csh"}, "there is no command `scoria completion csh`"},
		{[]string{"bench", "api", "--endpoint", "x"}, `setting endpoint: value "x": want a URL such as`},
		{[]string{"bench", "api", "--dir", "/nowhere/x"}, `setting dir: value "/nowhere/x": no such file or directory`},
		{[]string{"bench", "locks", "--dir", "/nowhere/x"}, `setting dir: value "/nowhere/x": no such file or directory`},
		{[]string{"bench", "data", "--endpoint", "http://127.0.0.1:1"}, `setting dir: value "": want the directory of the file backend`},
		{[]string{"bench", "api", "--length", "1ms"}, "setting length"},
		{[]string{"up", "--data", "/nowhere", "--log-format", "xml"}, "setting log-format"},
		{[]string{"export-server"}, "setting state"},
	} {
		stdout, stderr, status := scoria(t, c.args...)
		if status != 2 || stdout != "" || !strings.HasPrefix(stderr, "scoria: ") || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: status %d, printed %q, said %q, want status 2 and %q", c.args, status, stdout, stderr, c.want)
		}
		if n := strings.Count(strings.TrimSpace(stderr), "\n"); n > 0 {
			t.Errorf("%q: said %d lines", c.args, n+1)
		}
	}
}

func TestTheVersionIsForPeopleAndForPrograms(t *testing.T) {
	t.Parallel()
	if stdout, _, status := scoria(t, "version"); status != 0 || !strings.HasPrefix(stdout, "scoria "+Release+" go") {
		t.Errorf("status %d, printed %q", status, stdout)
	}
	stdout, _, status := scoria(t, "version", "-o", "json")
	var v map[string]string
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || status != 0 || v["release"] != Release || v["go"] == "" || v["platform"] == "" {
		t.Errorf("status %d, printed %q (%v)", status, stdout, err)
	}
}

func TestHelpIsNoError(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"volume"}, {"--help"}, {"help", "volume"}, {"volume", "create", "--help"}} {
		stdout, stderr, status := scoria(t, args...)
		if status != 0 || !strings.Contains(stdout, "Usage:") || stderr != "" {
			t.Errorf("%q: status %d, printed %.80q, said %q", args, status, stdout, stderr)
		}
	}
}

func TestAnOperationInOneLine(t *testing.T) {
	t.Parallel()
	for want, op := range map[string]messages.Operation{
		"o1  volume.create  granted":             {ID: "o1", Kind: "volume.create", Phase: "granted"},
		"o1  volume.create  running  step check": {ID: "o1", Kind: "volume.create", Phase: "running", Step: "check"},
		"o1  volume.create  running  step copy (2 of 4)  attempt 3  25 % of 8 MiB  slow": {
			ID: "o1", Kind: "volume.create", Phase: "running", Step: "copy", Done: 1, Total: 4, Attempt: 3,
			ProgressDone: 2 << 20, ProgressTotal: 8 << 20, Error: "slow",
		},
		"o1  volume.create  done": {ID: "o1", Kind: "volume.create", Phase: "done", Ended: true, Step: "copy", Done: 4, Total: 4, Attempt: 1},
	} {
		if got := line(op); got != want {
			t.Errorf("line(%+v) = %q, want %q", op, got, want)
		}
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	if got := age(time.Time{}); got != "-" {
		t.Errorf("age of no time = %q, want -", got)
	}
	for want, d := range map[string]time.Duration{"1h2m": time.Hour + 2*time.Minute, "2m": 2*time.Minute + 300*time.Millisecond, "4": 4*time.Second + 20*time.Millisecond} {
		if got := age(time.Now().Add(-d)); !strings.HasPrefix(got, want) || strings.Contains(got, "ms") || strings.Contains(got, "µ") {
			t.Errorf("age of %s ago = %q, want it to begin with %s and to be rounded", d, got, want)
		}
	}
}

func TestPollLooksUntilAnErrorOrTheEnd(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	looks := 0
	err := poll(t.Context(), func() (bool, error) {
		if looks++; looks == 3 {
			return false, broken
		}
		return false, nil
	})
	if looks != 3 || !errors.Is(err, broken) {
		t.Errorf("poll ended after %d looks with %v, want 3 and %v", looks, err, broken)
	}
}
