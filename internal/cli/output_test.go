package cli

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTextTakesTheColumnsThatATerminalGivesIt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"": 0, "disk": 4, "Müller": 6, "Mu\u0308ller": 6, "山田太郎": 8, "ディスク": 8, "디스크": 6, "ｄｉｓｋ": 8, "。、": 4, "👩": 2, "диск": 4, "…": 1, "✓": 1, "❤\ufe0f": 1,
	} {
		if got := width(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
}

// A column begins below its heading whatever the names are, and a long name does not move the others out of sight.
func TestNamesDoNotMoveTheColumnsOfAList(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 255)
	url := fake(t, map[string]http.HandlerFunc{
		"GET /v3/demo/volumes/detail": say(200, `{"volumes": [{"id": "v1", "name": "山田太郎 👩", "status": "error"}, {"id": "v2", "name": "`+long+`", "status": "error"},
			{"id": "v3", "name": "`+strings.Repeat("山", 30)+`", "status": "error"}, {"id": "v4", "name": "a\tb", "status": "error"}]}`),
		"GET /v3/demo/volumes/v2":         say(200, `{"volume": {"id": "v2", "name": "`+long+`"}}`),
		"GET /v3/demo/attachments/detail": say(200, `{"attachments": []}`),
	})
	stdout, _, _ := scoria(t, "volume", "list", "--endpoint", url)
	want := ""
	for _, row := range [][2]string{{"ID  NAME", "STATUS  SIZE   AGE"}, {"v1  山田太郎 👩", "error   0 GiB  -"}, {"v2  " + long[:39] + "…", "error   0 GiB  -"},
		{"v3  " + strings.Repeat("山", 19) + "…", "error   0 GiB  -"}, {`v4  a\tb`, "error   0 GiB  -"}} {
		want += row[0] + strings.Repeat(" ", 46-width(row[0])) + row[1] + "\n"
	}
	if stdout != want {
		t.Errorf("printed\n%swant\n%s", stdout, want)
	}
	for _, args := range []string{"volume show v2", "volume list -o json"} {
		if stdout, _, _ = scoria(t, append(strings.Fields(args), "--endpoint", url)...); !strings.Contains(stdout, long) {
			t.Errorf("%s does not show the whole name: %s", args, stdout)
		}
	}
}

// What changes something says to programs what it did, and to people, if they do not wait, how to see what becomes of it.
func TestCommandsThatChangeSomethingSayWhichOperation(t *testing.T) {
	t.Parallel()
	taken := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(headerOperation, "op1")
			say(http.StatusAccepted, body)(w, r)
		}
	}
	const operation = `{"operation": {"id": "op1", "phase": "done", "ended": true}}`
	url := fake(t, map[string]http.HandlerFunc{
		"POST /v3/demo/volumes":           taken(`{"volume": {"id": "v1"}}`),
		"GET /v3/demo/volumes/v1":         say(200, `{"volume": {"id": "v1"}}`),
		"PUT /v3/demo/volumes/v1":         say(200, `{"volume": {"id": "v1", "name": "<n>"}}`),
		"DELETE /v3/demo/volumes/v1":      taken(""),
		"POST /v3/demo/volumes/v1/action": taken(""),
		"POST /v3/demo/snapshots":         taken(`{"snapshot": {"id": "s1"}}`),
		"GET /v3/demo/snapshots/s1":       say(200, `{"snapshot": {"id": "s1"}}`),
		"PUT /v3/demo/snapshots/s1":       say(200, `{"snapshot": {"id": "s1", "name": "n"}}`),
		"DELETE /v3/demo/snapshots/s1":    taken(""),
		"DELETE /v3/demo/attachments/a1":  taken(`{"attachments": []}`),
		"GET /v3/demo/attachments/detail": say(200, `{"attachments": []}`),
		"GET /scoria/v1/operations/op1":   say(200, operation),

		"POST /scoria/v1/operations/op1/cancel":  say(202, operation),
		"POST /scoria/v1/operations/op1/resume":  say(202, operation),
		"POST /scoria/v1/operations/op1/abandon": say(202, operation),
	})
	accepted := func(id string) string { return fmt.Sprintf(`[ { "id": %q, "operation": "op1" } ]`, id) }
	for args, want := range map[string]string{
		"volume create --size 1 --no-wait":             `"operation": "op1" }`,
		"snapshot create v1 --no-wait":                 `"operation": "op1" }`,
		"volume delete v1 --no-wait":                   accepted("v1"),
		"volume delete v1":                             accepted("v1"),
		"volume extend v1 --size 2 --no-wait":          accepted("v1"),
		"volume revert v1 --snapshot s1 --no-wait":     accepted("v1"),
		"snapshot delete s1 --no-wait":                 accepted("s1"),
		"volume detach a1":                             accepted("a1"),
		"volume set v1 --name x":                       `"name": "<n>"`,
		"snapshot set s1 --name x":                     `"name": "n"`,
		"operation cancel op1":                         `"id": "op1"`,
		"operation resume op1":                         `"id": "op1"`,
		"operation abandon op1 --reason its-disk-died": `"id": "op1"`,
	} {
		words := append(strings.Fields(args), "--endpoint", url)
		stdout, stderr, status := scoria(t, append(words, "-o", "json")...)
		if got := strings.Join(strings.Fields(stdout), " "); status != 0 || !strings.Contains(got, want) || stderr != "" {
			t.Errorf("%s: status %d, printed %s, want %s; said %q", args, status, got, want, stderr)
		}
		if !strings.Contains(args, flagNoWait) {
			continue
		}
		_, stderr, status = scoria(t, words...)
		if want := "operation op1; follow it with `scoria operation watch op1`\n"; status != 0 || stderr != want {
			t.Errorf("%s: status %d, said %q, want %q", args, status, stderr, want)
		}
	}
}

// A volume and the list of attachments name the place of an attachment alike; no try is counted where there is none.
func TestOneThingHasOneNameInAllCommands(t *testing.T) {
	t.Parallel()
	attachment := `{"id": "a1", "status": "attached", "volume_id": "v1", "connection_info": {"node": "n1"}, "attached_at": "2026-01-02T03:04:05.000000"}`
	url := fake(t, map[string]http.HandlerFunc{
		"GET /v3/demo/volumes/v1": say(200, `{"volume": {"id": "v1", "attachments": [{"attachment_id": "a1", "host_name": "vm.example"}]}}`),
		"GET /v3/demo/attachments/detail": func(w http.ResponseWriter, r *http.Request) {
			body := `{"attachments": [` + attachment + `]}`
			if r.URL.Query().Has("marker") {
				body = `{"attachments": []}`
			}
			say(200, body)(w, r)
		},
		"GET /v3/demo/attachments/a1": say(200, `{"attachment": `+attachment+`}`),
		"GET /v3/demo/attachments/a2": say(200, `{"attachment": {"id": "a2", "attached_at": ""}}`),
		"GET /scoria/v1/operations/op1": say(200, `{"operation": {"id": "op1", "user": "ann", "phase": "void", "ended": true, "step": "grow", "submitted": "2026-01-02T03:04:05Z",
			"ended_at": "2026-01-02T03:05:05Z", "cancel": {"by": "ann: late", "at": "2026-01-02T03:04:06Z"},
			"audit": [{"action": "break", "phase": "running", "worker": "n1-A", "reason": "bob: fire", "at": "2026-01-02T03:04:07Z"}, {"action": "leave", "phase": "queued", "reason": "canceled by ann"}]}}`),
		"GET /scoria/v1/locks/volume.v1": say(200, `{"locks": [{"key": "volume.v1", "mode": "exclusive", "holders": [{"operation": "op1", "mode": "exclusive", "phase": "granted", "since": "2026-01-02T03:04:05Z"}],
			"waiting": [{"operation": "op2", "mode": "shared", "since": "2026-01-02T03:04:05Z"}]}]}`),
	})
	for args, wants := range map[string][]string{
		"volume show v1":         {"attachment     a1 attached on node n1\n"},
		"volume show v1 -o json": {`"node": "n1"`},
		"attachment list":        {"NODE  INSTANCE\n", "n1    -\n"},
		"attachment show a1":     {"node      n1\n", "attached  ", "s ago\n"},
		"attachment show a2":     {"attached  -\n"},
		"operation show op1": {"attempt     -\n", "user        ann\n", "ended       ", "break while running at worker n1-A, ", " ago: bob: fire\n", "leave while queued, -: canceled by ann\n",
			"cancel      wished ", " ago: ann: late\n"},
		"lock explain volume.v1": {"volume.v1 is held exclusive, for ", "granted at step -, attempt -; at worker -", "operation op2 waits for it shared, for "},
	} {
		stdout, stderr, status := scoria(t, append(strings.Fields(args), "--endpoint", url)...)
		for _, want := range wants {
			if status != 0 || !strings.Contains(stdout, want) {
				t.Errorf("%s: status %d, said %q, printed\n%swant %q", args, status, stderr, stdout, want)
			}
		}
	}
}

func TestWhatIsNoAPINodeIsSaidAsSuch(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte("INFO {\"server_id\": \"\x1b[2J\"}\r\n"))
			_ = c.Close()
		}
	}()
	plainHTTP := httptest.NewServer(http.NotFoundHandler())
	defer plainHTTP.Close()
	https := "https" + strings.TrimPrefix(plainHTTP.URL, "http")
	nats := "http://" + l.Addr().String()
	for url, want := range map[string]string{
		https: "scoria: what listens at " + https + " speaks HTTP without TLS: want http://\n",
		nats:  "scoria: what listens at " + nats + " does not speak HTTP: is it an API node?\n",
	} {
		if _, stderr, status := scoria(t, "volume", "list", "--endpoint", url); status != 1 || stderr != want {
			t.Errorf("status %d, said %q, want %q", status, stderr, want)
		}
	}
}
