// Package ctl is the language of the export server's control socket, and where its files are.
//
// The socket speaks HTTP/1.1 with JSON bodies; each call is a POST to a path below /v1/, answered with 200 or with a
// [Problem]. Two calls stay open: "hold" answers with one [Held] as soon as writes wait and ends with the hold; if the
// caller's connection ends, the hold does, too. "watch" says [Hello] and ends when the server does.
//
// Fields are added, never renamed, reused or retyped; unknown ones are ignored. A server that does not know a path answers
// with the code "unsupported".
//
// What it does not do: it neither listens nor connects.
package ctl

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/scoria-storage/scoria/volume-node/export"
)

// Version of the language. A server of a newer one understands older callers.
const Version = 1

// Paths of the calls.
const (
	CallExport   = "/v1/export"   // export.Request → export.Connection
	CallUnexport = "/v1/unexport" // export.Removal → Done
	CallList     = "/v1/list"     // nothing → List
	CallResize   = "/v1/resize"   // Resize → Done
	CallHold     = "/v1/hold"     // Volume → Held, open until the hold ends
	CallRelease  = "/v1/release"  // Held → Done
	CallWatch    = "/v1/watch"    // nothing → Hello, open until the server ends
	CallHello    = "/v1/hello"    // nothing → Hello
	CallShutdown = "/v1/shutdown" // nothing → Hello; the server ends soon after
)

// Hello is who serves.
type Hello struct {
	Version int `json:"version"`
	PID     int `json:"pid"`
}

// Volume names a volume.
type Volume struct {
	Volume string `json:"volume"`
}

// Held is a hold that has begun.
type Held struct {
	Token string `json:"token"`
}

// Resize asks for a larger size of a volume's exports.
type Resize struct {
	Volume string `json:"volume"`
	Bytes  int64  `json:"bytes"`
}

// List is all exports.
type List struct {
	Exports []export.Exported `json:"exports"`
}

// Done is an empty answer.
type Done struct{}

// Problem is why a call failed.
type Problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// kinds are the errors that cross the socket. The first that matches counts.
var kinds = []struct {
	err    error
	code   string
	status int
}{
	{export.ErrFenced, "fenced", http.StatusConflict},
	{export.ErrConflict, "conflict", http.StatusConflict},
	{export.ErrInvalid, "invalid", http.StatusBadRequest},
	{export.ErrNotFound, "not_found", http.StatusNotFound},
	{export.ErrHoldLost, "hold_lost", http.StatusGone},
	{export.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	{ErrUnsupported, "unsupported", http.StatusNotImplemented},
	{nil, "internal", http.StatusInternalServerError},
}

// ErrUnsupported: the server does not know the call.
var ErrUnsupported = errors.New("the export server does not know this call: it is of an older release; restart it")

// ProblemOf is how an error crosses the socket, and the HTTP status that goes with it.
func ProblemOf(err error) (Problem, int) {
	for _, k := range kinds {
		if k.err == nil || errors.Is(err, k.err) {
			return Problem{Code: k.code, Message: err.Error()}, k.status
		}
	}
	panic("the last kind matches every error")
}

// Err is the error of a problem; it matches the one that was sent.
func (p Problem) Err() error {
	for _, k := range kinds {
		if k.code == p.Code && k.err != nil {
			return &remoteError{kind: k.err, text: p.Message}
		}
	}
	return fmt.Errorf("export server: %s", p.Message)
}

// remoteError has the words of the server and matches the kind.
type remoteError struct {
	kind error
	text string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }
