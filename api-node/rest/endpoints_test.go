package rest

import (
	"os"
	"strings"
	"testing"
)

// TestEveryEndpointOfCinderIsAnsweredHonestly goes over the list of all endpoints, with and without a project: each is known, in its
// microversion only, and says either what it is asked for or that it is not built.
func TestEveryEndpointOfCinderIsAnsweredHonestly(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	data, err := os.ReadFile("testdata/endpoints.tsv")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")[1:]
	if len(lines) != 208 {
		t.Fatalf("the list has %d endpoints, want 208", len(lines))
	}
	counts := map[int]int{}
	for _, line := range lines {
		f := strings.Split(line, "\t")
		method, path, min := f[0], f[1], strings.TrimPrefix(f[2], "3.")
		path, action, isAction := strings.Cut(path, "#")
		for _, name := range []string{"{volume_id}", "{snapshot_id}", "{attachment_id}", "{type_id}", "{backup_id}", "{id}", "{encryption_id}", "{project_id}"} {
			path = strings.ReplaceAll(path, name, missing)
		}
		path = strings.NewReplacer("{key}", "k", "{class}", "c", "{name}", "n", "{host@backend}", "h@b", "{host}", "h", "{alias}", "os-used-limits").Replace(path)
		if strings.Contains(path, "{") {
			t.Fatalf("%s: what is that in braces?", line)
		}
		var body any
		if method != "GET" && method != "DELETE" {
			body = `{}`
		}
		if isAction {
			body = `{"` + action + `": {}}`
		}
		if path == "/" || strings.HasPrefix(path, "/v3") || path == "/healthcheck" {
			s.send(request{line: method + " " + path}).want(map[string]int{"/": 300, "/v3/": 200, "/healthcheck": 200}[path])
			continue
		}
		for _, prefix := range []string{"/v3/p1", "/v3"} {
			a := s.send(request{line: method + " " + prefix + path, body: body, mv: "3.71"})
			counts[a.status]++
			if strings.Contains(string(a.body), textNotFound) || strings.Contains(string(a.body), "no such action") {
				t.Errorf("%s %s%s is not known: %d %s", method, prefix, f[1], a.status, a.body)
			}
			switch a.status {
			case 200, 501:
			case 400, 404:
				if len(a.body) == 0 {
					t.Errorf("%s %s: %d without words", method, f[1], a.status)
				}
			default:
				t.Errorf("%s %s: %d %s", method, f[1], a.status, a.body)
			}
			if min != "0" && min != "-" {
				n := 0
				for _, c := range min {
					n = n*10 + int(c-'0')
				}
				older := s.send(request{line: method + " " + prefix + path, body: body, mv: microversion(n - 1).String()})
				// Before 3.13 the paths of groups, for example, are not there.
				if older.status != 404 || !strings.Contains(string(older.body), textNotFound) {
					t.Errorf("%s %s in %s: %d %s, want the 404 of a path that is not there", method, f[1], microversion(n-1), older.status, older.body)
				}
			}
		}
	}
	t.Logf("answers by status: %v", counts)
}
