package rest

import (
	"cmp"
	"net/http"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/messages"
)

// On every route that reads a body, of two values of a key none is dropped without a word.
func TestAKeyThatStandsTwiceIsRefusedOnEveryRoute(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	volume := s.newVolume(map[string]any{"size": 1})
	snapshot := s.newSnapshot(volume, nil)
	accepted := s.post("volumes", `{"volume": {"size": 1}}`).want(202)
	attachment := s.post("attachments", `{"attachment": {"volume_uuid": "`+s.newVolume(map[string]any{"size": 1})+`"}}`).want(200).in("attachment")["id"].(string)
	ids := map[string]string{"volumes": volume, "snapshots": snapshot, "attachments": attachment, "operations": string(accepted.operation()), "locks": volume}
	before := s.bucket()
	asked := 0
	ask := func(prefix string, r route) {
		method, path, _ := strings.Cut(r.pattern, " ")
		if method == http.MethodGet || method == http.MethodDelete || path == "/verify" { // they read none
			return
		}
		asked++
		collection, _, _ := strings.Cut(path[1:], "/")
		id := cmp.Or(ids[collection], missing)
		path = strings.NewReplacer("{id}", id, "{key}", id).Replace(path)
		for body, key := range map[string]string{`{"size": 1, "size": 2}`: "size", `{"a": [{"reason": "x", "b": {"c": "reason"}, "reason": "x"}]}`: "reason"} {
			a := s.send(request{line: method + " " + prefix + path, mv: "latest", token: "admin:p1", body: body})
			if want := "Malformed request body: the key '" + key + "' stands twice in one object"; a.status != 400 || !strings.Contains(string(a.body), want) {
				t.Errorf("%s with %s: %d %s, want 400 %s", r.pattern, body, a.status, a.body, want)
			}
		}
	}
	for _, r := range built {
		ask("/v3/p1", r)
	}
	for _, r := range ownBuilt {
		ask("/scoria/v1", r)
	}
	if asked < 18 {
		t.Errorf("asked %d routes", asked)
	}
	s.post("volumes", `{"volume":{"size":1,"size":2}}`).fault(400, "Malformed request body: the key 'size' stands twice in one object")
	if s.bucket() != before {
		t.Error("refused requests changed records")
	}
}

func TestAParameterThatStandsTwiceIsRefused(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	op := string(s.post("volumes", `{"volume": {"size": 1}}`).want(202).operation())
	for _, path := range []string{"volumes", "volumes/detail", "snapshots", "snapshots/detail", "attachments", "attachments/detail", "types", "limits", "resource_filters"} {
		s.get(path+"?limit=1&x=a&limit=2").fault(400, "The parameter 'limit' stands 2 times in the URL: it may stand there once.")
	}
	for _, path := range []string{"operations", "operations/" + op + "/wait"} {
		s.get("/scoria/v1/"+path+"?limit=1&limit=1&limit=1").own(400, messages.CodeInvalid, "The parameter 'limit' stands 3 times in the URL")
	}
	s.send(request{line: "DELETE volumes/" + missing + "?cascade=true&cascade=false"}).fault(400, "The parameter 'cascade' stands 2 times…")
}

func TestAConnectorSaysInTextsWhoTheHostIs(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	volume := s.newVolume(map[string]any{"size": 1})
	id := s.post("attachments", `{"attachment": {"volume_uuid": "`+volume+`"}}`).want(200).in("attachment")["id"].(string)
	before := s.bucket()
	for connector, text := range map[string]string{
		`{"host": 5}`:           "Invalid input for field/attribute host. Value: 5. 5 is not of type 'string', 'null'",
		`{"host": ["h1"]}`:      "Invalid input for field/attribute host. Value: ['h1']. ['h1'] is not of type 'string', 'null'",
		`{"mountpoint": true}`:  "Invalid input for field/attribute mountpoint. Value: True. True is not of type 'string', 'null'",
		`{"mode": {"ro": "x"}}`: "Invalid input for field/attribute mode. Value: {'ro': 'x'}. {'ro': 'x'} is not of type 'string', 'null'",
	} {
		s.post("attachments", `{"attachment": {"volume_uuid": "`+volume+`", "connector": `+connector+`}}`).fault(400, text)
		s.send(request{line: "PUT attachments/" + id, mv: "3.44", body: `{"attachment": {"connector": ` + connector + `}}`}).fault(400, text)
	}
	if s.bucket() != before {
		t.Error("refused requests changed records")
	}
	// What cinderclient says of what it was not told.
	s.work()
	s.post("attachments", `{"attachment": {"volume_uuid": "`+s.newWorkedVolume()+`", "connector": {"host": null, "mountpoint": null, "mode": "null", "ip": null, "multipath": false}}}`).want(200)
}
