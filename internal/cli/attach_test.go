package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// attaching is an API node that answers the calls of an attach as it was told, and notes them.
type attaching struct {
	reserve, update, complete, remove, ask http.HandlerFunc
	phase                                  string // of the operation that answers name

	mu    sync.Mutex
	id    string
	calls []string
}

func (a *attaching) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	step, answer := "", http.HandlerFunc(nil)
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/attachments"):
		a.id, step, answer = r.Header.Get("Idempotency-Key"), "reserve", a.reserve
	case r.URL.Path == "/v3/demo/attachments/"+a.id && r.Method == http.MethodPut:
		step, answer = "update", a.update
	case r.URL.Path == "/v3/demo/attachments/"+a.id+"/action":
		step, answer = "complete", a.complete
	case r.URL.Path == "/v3/demo/attachments/"+a.id && r.Method == http.MethodDelete:
		step, answer = "remove", a.remove
	case r.URL.Path == "/v3/demo/attachments/"+a.id:
		step, answer = "ask", a.ask
	case r.URL.Path == "/scoria/v1/operations/op1":
		answer = say(200, `{"operation": {"id": "op1", "phase": "`+a.phase+`", "ended": `+map[bool]string{true: "true", false: "false"}[a.phase == "undone"]+`}}`)
	}
	if step != "" {
		a.calls = append(a.calls, step)
	}
	if answer == nil {
		answer = say(200, `{"attachment": {"id": "`+a.id+`", "status": "reserved", "connection_info": {"uri": "nbd://x"}}}`)
	}
	answer(w, r)
}

// named is an answer that names the operation op1.
func named(answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(headerOperation, "op1")
		answer(w, r)
	}
}

// cut ends the connection in place of an answer.
func cut(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

// What was refused leaves no reservation; where that is not known it is asked for, and what is left is named with what to type next.
func TestAFailedAttachLeavesNothingBehindOrNamesIt(t *testing.T) {
	t.Parallel()
	no := say(400, `{"badRequest": {"code": 400, "message": "no room"}}`)
	busy := say(503, `{"serviceUnavailable": {"code": 503, "message": "later"}}`)
	gone := say(404, `{}`)
	const removed, left, isLeft, mayBeLeft = "reserve update remove", "reserve update ask", "is left, reserved,", "may be left"
	for name, c := range map[string]struct {
		api   *attaching
		calls string
		named bool
		want  string
	}{
		"reserve refused":               {&attaching{reserve: no}, "reserve", false, "no room"},
		"reserve not known":             {&attaching{reserve: busy}, "reserve ask", true, isLeft},
		"reserve not made":              {&attaching{reserve: busy, ask: gone}, "reserve ask", false, "later (HTTP 503); no attachment was there"},
		"reserve not known, nor asked":  {&attaching{reserve: busy, ask: busy}, "reserve ask", true, mayBeLeft},
		"reserve cut off":               {&attaching{reserve: cut, ask: gone}, "reserve ask", true, mayBeLeft},
		"reserve cut off and made":      {&attaching{reserve: cut}, "reserve ask", true, isLeft},
		"update refused":                {&attaching{update: no}, removed, false, "no room"},
		"update not built":              {&attaching{update: say(501, `{"notImplemented": {"code": 501, "message": "keeps no data"}}`)}, removed, false, "keeps no data"},
		"update undone":                 {&attaching{update: named(busy), phase: "undone"}, removed, false, "later"},
		"update still running":          {&attaching{update: named(busy), phase: "running"}, left, true, isLeft},
		"update stuck":                  {&attaching{update: named(busy), phase: "stuck"}, left, true, isLeft},
		"update not known":              {&attaching{update: busy}, left, true, isLeft},
		"update cut off":                {&attaching{update: cut}, left, true, "may have been accepted"},
		"complete refused":              {&attaching{complete: no}, "reserve update complete remove", false, "no room"},
		"complete not known":            {&attaching{complete: busy}, "reserve update complete ask", true, isLeft},
		"refused and it stays":          {&attaching{update: no, remove: busy}, removed + " ask", true, "no room (HTTP 400); and it could not be removed: later"},
		"refused and it has gone since": {&attaching{update: no, remove: gone}, removed, false, "no room"},
	} {
		srv := httptest.NewServer(c.api)
		stdout, stderr, status := scoria(t, "volume", "attach", "v1", "--endpoint", srv.URL)
		srv.Close()
		if status != 1 || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: status %d, printed %q, said %q, want %q", name, status, stdout, stderr, c.want)
		}
		if got := strings.Join(c.api.calls, " "); got != c.calls {
			t.Errorf("%s: calls %s, want %s", name, got, c.calls)
		}
		if got := strings.Contains(stderr, "`scoria volume detach "+c.api.id+"`"); got != c.named {
			t.Errorf("%s: said %q, want the attachment named: %t", name, stderr, c.named)
		}
	}
}

func TestAnAttachPrintsTheURIAndTheAttachment(t *testing.T) {
	t.Parallel()
	api := &attaching{}
	srv := httptest.NewServer(api)
	defer srv.Close()
	stdout, stderr, status := scoria(t, "volume", "attach", "v1", "--endpoint", srv.URL)
	if status != 0 || stdout != "nbd://x\n" || !strings.Contains(stderr, "scoria volume detach "+api.id) {
		t.Errorf("status %d, printed %q, said %q", status, stdout, stderr)
	}
	stdout, _, status = scoria(t, "volume", "attach", "v1", "--endpoint", srv.URL, "-o", "json")
	var out map[string]string
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || status != 0 || out["uri"] != "nbd://x" || out["attachment"] != api.id || api.id == "" {
		t.Errorf("status %d, printed %s (%v)", status, stdout, err)
	}
}
