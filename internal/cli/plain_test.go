package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                       "",
		"disk 1":                 "disk 1",
		"Größe 山田\u3000é 👩":      "Größe 山田\u3000é 👩",
		`C:\temp`:                `C:\temp`,
		"\x1b[2J":                `\x1b[2J`,
		"a\nb\r\tc\x00\x7f":      `a\nb\r\tc\x00\x7f`,
		"\u009b31m":              `\u009b31m`,
		"\u202etxt.exe\u2066":    `\u202etxt.exe\u2066`,
		"\u200b\u2028\ufeff":     `\u200b\u2028\ufeff`,
		"\xff\xfe ok":            `\xff\xfe ok`,
		"\U000e0041":             `\U000e0041`,
		"\ufffd and \xc3\x28":    `\ufffd and \xc3(`,
		strings.Repeat("é", 300): strings.Repeat("é", 300),
	} {
		if got := plain(s); got != want {
			t.Errorf("plain(%q) = %q, want %q", s, got, want)
		}
	}
	if got := plainLines("a\x1b\nb\u202e"); got != `a\x1b`+"\n"+`b\u202e` {
		t.Errorf("plainLines = %q", got)
	}
}

// evil clears the screen, begins a line of its own, and turns the direction of the text.
const evil = "e\x1b[2J\x9b\nID  fake\ttab\u202e"

// quoted is a JSON string; bytes that JSON cannot hold are left out.
func quoted(s string) string {
	data, err := json.Marshal(strings.ReplaceAll(s, "\x9b", "\u009b"))
	if err != nil {
		panic(err)
	}
	return string(data)
}

func TestWhatOthersWroteDoesNotRuleTheTerminal(t *testing.T) {
	t.Parallel()
	e := quoted(evil)
	operation := `{"id": "op1", "kind": "volume.create", "phase": ` + e + `, "step": ` + e + `, "resource": ` + e + `, "error": ` + e + `, "ended": true,
		"claims": [{"key": ` + e + `, "mode": "shared"}]}`
	volume := `{"id": "v1", "name": ` + e + `, "status": ` + e + `, "volume_type": ` + e + `, "attachments": [{"attachment_id": "a1", "host_name": ` + e + `}]}`
	snapshot := `{"id": "s1", "name": ` + e + `, "status": ` + e + `, "volume_id": ` + e + `}`
	locks := `{"locks": [{"key": ` + e + `, "holders": [{"operation": ` + e + `, "kind": ` + e + `, "mode": "shared", "step": ` + e + `, "worker": ` + e +
		`, "error": ` + e + `, "released_by": ` + e + `}], "waiting": [{"operation": ` + e + `}]}]}`
	attachment := `{"id": ` + e + `, "status": ` + e + `, "instance": ` + e + `, "connection_info": {"uri": ` + e + `, "node": ` + e + `}}`
	attachments := func(w http.ResponseWriter, r *http.Request) {
		body := `{"attachments": [` + attachment + `]}`
		if r.URL.Query().Has("marker") {
			body = `{"attachments": []}`
		}
		say(200, body)(w, r)
	}
	url := fake(t, map[string]http.HandlerFunc{
		"GET /v3/demo/attachments/detail": attachments, "GET /v3/demo/attachments/a1": say(200, `{"attachment": `+attachment+`}`),
		"GET /v3/demo/volumes/detail":   say(200, `{"volumes": [`+volume+`]}`),
		"GET /v3/demo/volumes/v1":       say(200, `{"volume": `+volume+`}`),
		"GET /v3/demo/volumes/v2":       say(404, `{"itemNotFound": {"code": 404, "message": `+e+`}}`),
		"GET /v3/demo/volumes/v3":       say(502, evil),
		"DELETE /v3/demo/volumes/v1":    say(400, `{"badRequest": {"code": 400, "message": `+e+`}}`),
		"DELETE /v3/demo/volumes/v2":    say(400, `{"badRequest": {"code": 400, "message": `+e+`}}`),
		"GET /v3/demo/snapshots/detail": say(200, `{"snapshots": [`+snapshot+`]}`),
		"GET /v3/demo/snapshots/s1":     say(200, `{"snapshot": `+snapshot+`}`),
		"GET /scoria/v1/operations":     say(200, `{"operations": [`+operation+`]}`),
		"GET /scoria/v1/operations/op1": say(200, `{"operation": `+operation+`}`),
		"GET /scoria/v1/locks":          say(200, locks),
		"GET /scoria/v1/locks/v1":       say(200, locks),
		"GET /scoria/v1/verify":         say(200, `{"clean": false, "differences": [{"kind": `+e+`, "subject": `+e+`, "text": `+e+`}]}`),
	})
	for _, line := range []string{"volume list", "volume show v1", "volume show v2", "volume show v3", "volume delete v1 v2", "snapshot list", "snapshot show s1", "attachment list", "attachment show a1",
		"operation list", "operation show op1", "operation watch op1", "lock list", "lock explain v1", "verify", "__complete volume show ", "__complete lock explain "} {
		args := append(strings.Split(line, " "), "--endpoint", url)
		if strings.HasPrefix(line, "__complete") { // what is being completed stands last
			args = append([]string{"__complete", args[1], args[2], "--endpoint", url}, "")
		}
		stdout, stderr, _ := scoria(t, args...)
		all := stdout + stderr
		if !strings.Contains(all, `\x1b[2J`) || !strings.Contains(all, `\nID  fake`) {
			t.Errorf("%s: the text is not shown: %q", line, all)
		}
		for _, bad := range []string{"\x1b", "\x9b", "\u009b", "\u202e", "\nID  fake"} {
			if strings.Contains(all, bad) {
				t.Errorf("%s: %q is shown raw: %q", line, bad, all)
			}
		}
	}
	stdout, _, _ := scoria(t, "volume", "show", "v1", "-o", "json", "--endpoint", url)
	var v struct{ Name string }
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || v.Name != strings.ReplaceAll(evil, "\x9b", "\u009b") {
		t.Errorf("as JSON the name is %q (%v), want it as it is", v.Name, err)
	}
}

func TestErrorsOfSeveralStandInALineEach(t *testing.T) {
	t.Parallel()
	url := fake(t, map[string]http.HandlerFunc{
		"DELETE /v3/demo/volumes/v1": say(400, `{"badRequest": {"code": 400, "message": "one"}}`),
		"DELETE /v3/demo/volumes/v2": say(400, `{"badRequest": {"code": 400, "message": "two"}}`),
	})
	_, stderr, _ := scoria(t, "volume", "delete", "v1", "v2", "--endpoint", url)
	if want := "scoria: v1: one (HTTP 400)\nv2: two (HTTP 400)\n"; stderr != want {
		t.Errorf("said %q, want %q", stderr, want)
	}
}
