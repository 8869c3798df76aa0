// Package auth says who asks: it turns the headers of an HTTP request into an Identity.
//
// Nouns: an Identity is a user in a project; an Authenticator finds it; a challenge is what a request without a token is
// answered.
//
// Invariants:
//   - An Identity's project is a token of keys and subjects (block.CheckToken), so that no caller can name another record
//     or subject by the project.
//   - An Identity's user is at most 255 characters of valid UTF-8, all of which can be printed.
//
// It does not decide what an Identity may do with a resource: that is api-node/rest for reading and api-node/admit for
// writing.
package auth

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

var (
	// ErrNoToken: the request brought no token; answer with Challenge.
	ErrNoToken = errors.New("the request has no X-Auth-Token")
	// ErrBadToken: the token cannot be used; the text says why.
	ErrBadToken = errors.New("the X-Auth-Token cannot be used")
)

// Identity is who asks.
type Identity struct {
	User    string
	Project string
	// Admin may see and change the resources of all projects.
	Admin bool
}

// Authenticator finds out who asks. Implementations are safe for concurrent use.
type Authenticator interface {
	// Identify returns who asks. Errors: ErrNoToken, ErrBadToken.
	Identify(r *http.Request) (Identity, error)
	// Anonymous returns who a request without a token is on Scoria's own calls; false: nobody.
	Anonymous() (Identity, bool)
	// Challenge answers a request without a token.
	Challenge(w http.ResponseWriter, r *http.Request)
}

// check refuses identities that cannot be used in records and keys.
func (id Identity) check() error {
	if err := block.CheckToken(id.Project); err != nil {
		return fmt.Errorf("%w: project: %w", ErrBadToken, err)
	}
	if err := messages.CheckPrintable("user", id.User); err != nil {
		return fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	return nil
}
