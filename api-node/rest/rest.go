// Package rest is the HTTP of an API node: the OpenStack Block Storage API v3 and Scoria's own calls.
//
// Nouns: a call is one request with what is known of its caller; a reply is its answer; a fault is an answer that says
// what is wrong, in the form that clients of the Block Storage API know; a route is a method and a path with the lowest
// microversion that has it; a row is an immutable state of a resource, read from api-node/view.
//
// # Block Storage API
//
// Every path exists twice, /v3/{project}/… and /v3/…, and below each of the configured prefixes ("/volume"). What this
// release does not do answers 501 in words, never a made-up success. Requests may carry two headers of Scoria's own:
// Idempotency-Key (a UUID is the operation's ID itself; any other text of 1 to 255 characters stands for one, of this
// project) makes a repeated request return the first one's operation; X-Scoria-On-Conflict says what to do when
// another operation has the resource: "refuse", the default. Answers carry X-Scoria-Operation-Id.
//
// # Scoria's own calls
//
// All are JSON; errors are {"error": {"code", "message", "field", "holder"}}, the Error of package messages.
//
//	GET  /scoria/v1/version                     {"release", "api", "volume_api": {"min", "max"}}
//	GET  /scoria/v1/operations                  {"operations": [operation …], "next": "ID"}; newest first; ?project= (or
//	                                            all_projects=true), kind=, phase=, resource=, live=true, limit=, marker=
//	GET  /scoria/v1/operations/{id}             {"operation": operation}, the Operation of package messages
//	GET  /scoria/v1/operations/{id}/wait        the same, once it has ended or is stuck, or after ?timeout=30s
//	GET  /scoria/v1/operations/{id}/events      server-sent events "operation" with {"operation": …} until it has ended or is stuck
//	POST /scoria/v1/operations/{id}/cancel      202; asks that it ends early
//	POST /scoria/v1/operations/{id}/resume      202; drives a stuck one on
//	POST /scoria/v1/operations/{id}/abandon     202; {"reason": "…"}; gives a stuck one up
//	GET  /scoria/v1/locks                       {"locks": [lock …]}; ?all_projects as above does not apply: locks have no project
//	GET  /scoria/v1/locks/{key}                 {"locks": [lock …]}; a key, or the ID of a volume, a snapshot or an attachment for all its keys
//	POST /scoria/v1/locks/{key}/break           200; {"reason": "…", "operation": "ID", "force": true}; admins: takes its locks away from who holds
//	                                            the key; operation where several do, force if it runs. {"operation": {"id"}} alone if it has no record
//	GET  /scoria/v1/verify (also POST)          a Report of package verify: do books, locks and backends agree
//	GET  /scoria/v1/nodes                       {"nodes": […]}
//	GET  /scoria/v1/backends                    {"backends": […]}, with "volumes", "snapshots" and who serves each now: "served_by": [{"node",
//	                                            "process", "away"}], and "unknown" if there may be others
//	DELETE /scoria/v1/backends/{name}           204; admins: forgets a backend that no process serves and nothing stands on; 409 says who and what
//	GET  /scoria/v1/pools                       {"pools": […]}
//	GET  /healthz                               200 while the process serves
//	GET  /readyz                                200, or 503 and the reason
//
// A lock is {"key", "mode", "holders": [{"operation", "kind", "mode", "project", "resource", "phase", "step", "attempt",
// "epoch", "taken_over", "worker", "since", "step_since", "step_waits", "age_seconds", "error", "released_by"}], "waiting": [{"operation", "mode", "since"}]};
// released_by says in words what will release it, step_waits what its step waits for.
//
// # While NATS does not answer
//
// GETs of lists and of resources, operations and locks are answered from memory; X-Scoria-Stale says for how many seconds what they show may
// be out of date. What would change something is refused with 503 before anything is submitted, and so is what asks NATS itself: a
// verification, an operation that is not in memory. Nothing is decided by what is out of date.
//
// Invariants:
//   - A write that was accepted is answered only when this node's read side shows it, so that the caller's next GET sees it.
//   - No input makes a 5xx, but 501 for what is not built and 503 for what cannot be done now.
//   - Text of callers reaches answers only as JSON strings.
//   - A reply is complete or not sent: bodies are built before the status goes out (server-sent events aside).
//
// It does not talk to NATS, decide about requests, or keep state: that is api-node/admit and api-node/view.
package rest

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/scoria-storage/scoria/api-node/auth"
)

// Config says what the API is made of. Reader, Submitter and Auth must be set.
type Config struct {
	Reader    Reader
	Submitter Submitter
	Auth      auth.Authenticator
	// Verifier answers /scoria/v1/verify; nil: 501.
	Verifier Verifier
	// Serving says who serves the backends; nil: that is not known.
	Serving Serving
	// Ready says why the node is not ready; nil: it always is.
	Ready func() error
	// Stream says whether what is behind the Reader and the Submitter answers; nil: it always does.
	Stream Stream
	// Log defaults to nothing.
	Log *slog.Logger
	// OnRequest is told of each request that was answered; it must not block.
	OnRequest func(Event)

	// Release is the version of the program.
	Release string
	// Prefixes are paths below which the API is served too, such as "/volume". Default: "/volume".
	Prefixes []string
	// PublicEndpoint replaces scheme, host and prefix in links, such as "https://cloud.example:8776". Default: what the
	// request names.
	PublicEndpoint string
	// MaxLimit is the largest page of a list. Default: 1000.
	MaxLimit int
	// MaxBody is the largest body of a request in bytes. Default: 114688, as in OpenStack.
	MaxBody int64
	// AttachWait is how long updates and deletes of attachments wait for the end of their operation. Default: 60 s.
	AttachWait time.Duration
	// Zone is the availability zone of backends and volumes that name none. Default: "nova".
	Zone string
}

// Event describes one answered request. Route is a pattern from a closed set, or "" for a path that is not known.
type Event struct {
	Method, Route string
	Status        int
	Took          time.Duration
}

// Validate fills in the defaults and says which field is wrong and why.
func (c *Config) Validate() error {
	switch {
	case c.Reader == nil:
		return errors.New("rest: Reader is not set")
	case c.Submitter == nil:
		return errors.New("rest: Submitter is not set")
	case c.Auth == nil:
		return errors.New("rest: Auth is not set")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Stream == nil {
		c.Stream = steady{}
	}
	if c.Prefixes == nil {
		c.Prefixes = []string{"/volume"}
	}
	for _, p := range c.Prefixes {
		if !strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || strings.ContainsAny(p, "{} ?#") || strings.HasPrefix(p, "/v3") {
			return fmt.Errorf("rest: Prefixes: %q: want a path such as /volume", p)
		}
	}
	c.PublicEndpoint = strings.TrimRight(c.PublicEndpoint, "/")
	if c.PublicEndpoint != "" {
		if u, err := url.Parse(c.PublicEndpoint); err != nil || u.Scheme == "" || u.Host == "" {
			return fmt.Errorf("rest: PublicEndpoint: %q: want a URL such as https://cloud.example:8776", c.PublicEndpoint)
		}
	}
	setDefault(&c.MaxLimit, 1000)
	setDefault(&c.MaxBody, 114688)
	setDefault(&c.AttachWait, time.Minute)
	setDefault(&c.Zone, "nova")
	setDefault(&c.Release, "unknown")
	if c.MaxLimit < 1 || c.MaxBody < 1024 || c.AttachWait < time.Second {
		return fmt.Errorf("rest: MaxLimit %d, MaxBody %d bytes, AttachWait %s: want at least 1, 1024 bytes, 1 s", c.MaxLimit, c.MaxBody, c.AttachWait)
	}
	return nil
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// API answers HTTP requests. It is safe for concurrent use.
type API struct {
	cfg     Config
	volume  *http.ServeMux // the paths below /v3/ or /v3/{project}/
	known   map[string]bool
	own     *http.ServeMux // Scoria's own
	closing chan struct{}  // closed when the server shuts down: long waits end
	// wasReady: the node was ready once.
	wasReady atomic.Bool
}

// New makes the API.
func New(cfg Config) (*API, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &API{cfg: cfg, closing: make(chan struct{})}
	a.volume, a.known = a.volumeRoutes()
	a.own = a.ownRoutes()
	return a, nil
}
