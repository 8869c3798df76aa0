package rest

import (
	"net/http"
	"strings"
	"testing"
)

func TestVersionDocumentIsAnsweredAtTheRootAndBelowPrefixes(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for _, c := range []struct {
		path   string
		status int
		self   string
	}{
		{"/", 300, "/v3/"}, {"/v3/", 200, "/v3/"},
		{"/volume", 300, "/volume/v3/"}, {"/volume/", 300, "/volume/v3/"}, {"/volume/v3/", 200, "/volume/v3/"},
	} {
		for _, token := range []string{"-", "alice:p1"} {
			v := s.send(request{line: "GET " + c.path, token: token}).want(c.status).list("versions")[0]
			links := v["links"].([]any)
			if v["id"] != "v3.0" || v["status"] != "CURRENT" || v["version"] != "3.71" || v["min_version"] != "3.0" ||
				links[1].(map[string]any)["href"] != s.url+c.self {
				t.Errorf("GET %s: %v", c.path, v)
			}
		}
	}
	for _, path := range []string{"/v3", "/volume/v3"} {
		a := s.send(request{line: "GET " + path, token: "-"}).want(http.StatusFound)
		if got, want := a.header.Get("Location"), s.url+path+"/"; got != want {
			t.Errorf("GET %s: Location %q, want %q", path, got, want)
		}
	}
}

func TestLinksSayWhatTheClientsProxySays(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	id := s.newVolume(nil)
	self := func(path string, header map[string]string) string {
		v := s.send(request{line: "GET " + path, header: header}).want(200).in("volume")
		return v["links"].([]any)[0].(map[string]any)["href"].(string)
	}
	if got, want := self("/v3/p1/volumes/"+id, nil), s.url+"/v3/p1/volumes/"+id; got != want {
		t.Errorf("self = %s, want %s", got, want)
	}
	if got, want := self("/v3/volumes/"+id, nil), s.url+"/v3/volumes/"+id; got != want {
		t.Errorf("self without a project = %s, want %s", got, want)
	}
	got := self("/volume/v3/p1/volumes/"+id, map[string]string{"X-Forwarded-Host": "a, cloud.example", "X-Forwarded-Proto": "https"})
	if want := "https://cloud.example/volume/v3/p1/volumes/" + id; got != want {
		t.Errorf("self behind a proxy = %s, want %s", got, want)
	}
	public := newStack(t, func(c *Config) { c.PublicEndpoint = "https://pub.example:443/x/" })
	v := public.get("/").list("versions")[0]["links"].([]any)[1].(map[string]any)["href"]
	if v != "https://pub.example:443/x/v3/" {
		t.Errorf("self with a public endpoint = %v", v)
	}
}

func TestMicroversionIsNegotiated(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	const path = "GET volumes"
	for _, c := range []struct {
		header string // "-": none
		echoed string
		status int
		text   string
	}{
		{"-", "volume 3.0", 200, ""},
		{"volume 3.0", "volume 3.0", 200, ""},
		{"volume 3.71", "volume 3.71", 200, ""},
		{"volume latest", "volume 3.71", 200, ""},
		{"block-storage 3.42", "volume 3.42", 200, ""},
		{"compute 2.90, volume 3.27", "volume 3.27", 200, ""},
		{"compute 2.90,volume latest", "volume 3.71", 200, ""},
		{"volume 3.72", "volume 3.72", 406, "Version 3.72 is not supported by the API. Minimum is 3.0 and maximum is 3.71."},
		{"volume 3.99999999999999999999", "volume 3.99999999999999999999", 406, "Version 3.99999999999999999999 is not supported…"},
		{"volume 2.0", "volume 2.0", 406, "Version 2.0 is not supported by the API. Minimum is 3.0 and maximum is 3.71."},
		{"volume 4.1", "volume 4.1", 406, "Version 4.1 is not supported…"},
		{"volume 3", "volume 3.0", 400, "API Version String 3 is of invalid format. Must be of format MajorNum.MinorNum."},
		{"volume 3.01", "volume 3.0", 400, "API Version String 3.01 is of invalid format…"},
		{"volume 03.1", "volume 3.0", 400, "API Version String 03.1 is of invalid format…"},
		{"volume 3.x", "volume 3.0", 400, "API Version String 3.x is of invalid format…"},
		{"volume -3.1", "volume 3.0", 400, "API Version String -3.1 is of invalid format…"},
		{"volume", "volume 3.0", 400, "OpenStack-API-Version: 'volume' is of invalid format…"},
		{"volume 3.1 3.2", "volume 3.0", 400, "OpenStack-API-Version: 'volume 3.1 3.2' is of invalid format…"},
		{"volumes 3.1", "volume 3.0", 400, "OpenStack-API-Version: 'volumes 3.1' is of invalid format…"},
		{"compute 2.1", "volume 3.0", 400, "OpenStack-API-Version names no version of the service 'volume'."},
		{"volume " + strings.Repeat("9", 400) + ".1", "", 406, "Version 999…"},
	} {
		a := s.send(request{line: path, header: map[string]string{"OpenStack-API-Version": c.header}})
		if c.status == 200 {
			a.want(200)
		} else {
			a.fault(c.status, c.text)
		}
		if got := a.header.Get("OpenStack-API-Version"); c.echoed != "" && got != c.echoed {
			t.Errorf("%q: OpenStack-API-Version %q, want %q", c.header, got, c.echoed)
		}
		if a.header.Get("Vary") != "OpenStack-API-Version" {
			t.Errorf("%q: Vary %q", c.header, a.header.Get("Vary"))
		}
	}
}

func TestEveryAnswerHasItsRequestID(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	seen := map[string]bool{}
	for _, line := range []string{"GET volumes", "GET volumes/x", "GET nothing", "GET /", "POST volumes", "DELETE volumes/" + missing} {
		a := s.send(request{line: line})
		id := a.header.Get("X-Openstack-Request-Id")
		if !strings.HasPrefix(id, "req-") || id != a.header.Get("X-Compute-Request-Id") || seen[id] {
			t.Errorf("%s: request IDs %q, %q", line, id, a.header.Get("X-Compute-Request-Id"))
		}
		seen[id] = true
	}
}

func TestTheProjectOfTheURLMustBeTheCallers(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for _, c := range []struct {
		line, token string
		status      int
		text        string
	}{
		{"GET /v3/p1/volumes", "alice:p1", 200, ""},
		{"GET /v3/volumes", "alice:p1", 200, ""},
		{"GET /v3/p1/volumes/detail", "alice:p1", 200, ""},
		{"GET /v3/volumes/detail", "alice:p1", 200, ""},
		{"GET /v3/volumes.json", "alice:p1", 200, ""},
		{"GET /v3/p1/volumes/", "alice:p1", 200, ""},
		{"GET /volume/v3/p1/volumes", "alice:p1", 200, ""},
		{"GET /v3/limits/volumes/detail", "bob:limits", 200, ""}, // a project with the name of a collection
		{"GET /v3/admin/volumes", "admin", 200, ""},
		{"GET /v3/p2/volumes", "alice:p1", 400, "Malformed request url"},
		{"GET /v3/p2/volumes", "alice:a.b", 400, "the X-Auth-Token cannot be used: project: …"},
		{"GET /v3/p1/nothing", "alice:p1", 404, "The resource could not be found."},
		{"GET /v3/p1", "alice:p1", 404, "The resource could not be found."},
		{"GET /v3/a.b/volumes", "alice:p1", 404, "The resource could not be found."},
		{"GET /v3/p1/volumes/../limits", "alice:p1", 404, "The resource could not be found."},
		{"GET /v3/p1/volumes/%2e%2e/limits", "alice:p1", 404, "The resource could not be found."},
		{"GET /v3/p1/volumes/a%2Fb", "alice:p1", 404, "Volume a/b could not be found."},
		{"GET /v3/p1//volumes", "alice:p1", 404, "The resource could not be found."},
		{"PATCH /v3/p1/volumes", "alice:p1", 404, "The resource could not be found."},
		{"GET /v2/p1/volumes", "alice:p1", 404, "The resource could not be found."},
	} {
		a := s.send(request{line: c.line, token: c.token})
		if c.status == 200 {
			a.want(200)
		} else {
			a.fault(c.status, c.text)
		}
	}
	a := s.send(request{line: "GET /v3/p1/volumes", token: "-", header: map[string]string{"X-Auth-User": "u", "X-Auth-Project-Id": "p9"}}).want(204)
	if got := a.header.Get("X-Auth-Token"); got != "u:p9" {
		t.Errorf("X-Auth-Token = %q, want u:p9", got)
	}
}
