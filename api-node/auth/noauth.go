package auth

import (
	"net/http"
	"strings"
)

// noauthDefault is the user and the project of a request that names none, as in Cinder.
const noauthDefault = "admin"

// NoAuth believes the token: "user:project", or "user" for a project of the same name. Every caller is an admin. It is
// for tests and for networks in which everybody is trusted.
type NoAuth struct{}

// Identify reads the token.
func (NoAuth) Identify(r *http.Request) (Identity, error) {
	token := r.Header.Get("X-Auth-Token")
	if token == "" {
		return Identity{}, ErrNoToken
	}
	user, project, _ := strings.Cut(token, ":")
	if project == "" {
		project = user
	}
	id := Identity{User: user, Project: project, Admin: true}
	if err := id.check(); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// Anonymous is the admin of the project "admin".
func (NoAuth) Anonymous() (Identity, bool) {
	return Identity{User: noauthDefault, Project: noauthDefault, Admin: true}, true
}

// Challenge hands out a token for the user and the project that the request's headers name: 204, as Cinder does.
func (NoAuth) Challenge(w http.ResponseWriter, r *http.Request) {
	user, project := r.Header.Get("X-Auth-User"), r.Header.Get("X-Auth-Project-Id")
	if user == "" {
		user = noauthDefault
	}
	if project == "" {
		project = noauthDefault
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	h := w.Header()
	h.Set("X-Auth-Token", user+":"+project)
	h.Set("X-Server-Management-Url", strings.TrimRight(scheme+"://"+r.Host+r.URL.RequestURI(), "/"))
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(http.StatusNoContent)
}
