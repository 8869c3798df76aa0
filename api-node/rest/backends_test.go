package rest

import (
	"testing"

	"github.com/scoria-storage/scoria/messages"
)

func TestBackendsAreListedWithWhatStandsOnThem(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	v := s.newVolume(nil)
	s.newVolume(nil)
	s.newSnapshot(v, nil)
	all := s.get("/scoria/v1/backends").want(200).list("backends")
	if len(all) != 1 || all[0]["name"] != "b1" || all[0]["volumes"] != 2.0 || all[0]["snapshots"] != 1.0 || all[0]["unknown"] != "this API node cannot ask" {
		t.Errorf("backends: %v", all)
	}
}

func TestOnlyAnAdminHasABackendForgotten(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *Config) { c.Auth = plainUsers{} })
	s.send(request{line: "DELETE /scoria/v1/backends/b1"}).own(403, messages.CodeInvalid, "Only an admin")
	s = newStack(t)
	s.send(request{line: "DELETE /scoria/v1/backends/b1"}).own(501, messages.CodeUnsupported, "cannot ask volume nodes")
}
