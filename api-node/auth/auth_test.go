package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestNoAuthReadsUserAndProjectFromTheToken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		token         string
		user, project string
		err           error
	}{
		{"alice:p1", "alice", "p1", nil},
		{"admin", "admin", "admin", nil},
		{"alice:", "alice", "alice", nil},
		{"", "", "", ErrNoToken},
		{"alice:a.b", "", "", ErrBadToken},
		{"alice:>", "", "", ErrBadToken},
		{"alice:" + strings.Repeat("x", 65), "", "", ErrBadToken},
		{strings.Repeat("x", 256) + ":p", "", "", ErrBadToken},
		{"\xff:p", "", "", ErrBadToken},
		{"\u009b2J:p", "", "", ErrBadToken},
		{"\u202enimda:p", "", "", ErrBadToken},
		{"José 山田:p", "José 山田", "p", nil},
		{":", "", "", ErrBadToken},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v3/p1/volumes", nil)
		if c.token != "" {
			r.Header.Set("X-Auth-Token", c.token)
		}
		id, err := NoAuth{}.Identify(r)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("Identify(%q) = %v, want %v", c.token, err, c.err)
		}
		if id.User != c.user || id.Project != c.project || id.Admin != (c.err == nil) {
			t.Errorf("Identify(%q) = %+v", c.token, id)
		}
	}
}

func TestNoAuthHandsOutATokenToARequestWithoutOne(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, "http://api:8776/v3/p1/volumes", nil)
	r.Header.Set("X-Auth-User", "bob")
	w := httptest.NewRecorder()
	NoAuth{}.Challenge(w, r)
	if w.Code != 204 || w.Header().Get("X-Auth-Token") != "bob:admin" ||
		w.Header().Get("X-Server-Management-Url") != "http://api:8776/v3/p1/volumes" {
		t.Errorf("Challenge = %d %v", w.Code, w.Header())
	}
}
