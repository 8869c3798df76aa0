package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/scoria-storage/scoria/api-node/auth"
	"github.com/scoria-storage/scoria/messages/block"
)

// Bounds of the server.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 60 * time.Second
	idleTimeout       = 120 * time.Second
	shutdownLimit     = 15 * time.Second
	// writeMargin is how long an answer may take to be sent, beyond the longest wait.
	writeMargin    = 60 * time.Second
	maxHeaderBytes = 64 << 10
	// unusedLimit is how long a connection without a request may bring one after the end was asked for.
	unusedLimit = 200 * time.Millisecond
)

// Serve answers on the listener until ctx ends; then long waits are answered at once, running requests get some seconds,
// and it returns when every request has ended.
func (a *API) Serve(ctx context.Context, l net.Listener) error {
	var fresh unused
	srv := &http.Server{
		ConnState:         fresh.see,
		Handler:           a,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(a.cfg.Log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	close(a.closing)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	defer time.AfterFunc(unusedLimit, fresh.close).Stop()
	err := srv.Shutdown(limit)
	if err != nil {
		err = errors.Join(fmt.Errorf("http requests still ran %s after the end was asked for", shutdownLimit), srv.Close())
	}
	if ended := <-failed; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// unused are the connections that have not brought a request yet. http.Server.Shutdown closes idle connections at once, but waits 5 s for
// these (Go issue 22682), and clients and balancers keep such ones open.
type unused struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// see is told of the states of the connections.
func (u *unused) see(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state != http.StateNew {
		delete(u.conns, c)
		return
	}
	if u.conns == nil {
		u.conns = map[net.Conn]struct{}{}
	}
	u.conns[c] = struct{}{}
}

func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		_ = c.Close() // its reader learns of it and is done with it
	}
}

// longWait returns a context for waits that may take as long as limit: it ends with the request, with the limit, or as
// soon as the server shuts down.
func (c *call) longWait(limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(c.r.Context(), limit)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-c.api.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-ended }
}

// isClosing says that the server shuts down.
func (a *API) isClosing() bool {
	select {
	case <-a.closing:
		return true
	default:
		return false
	}
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := &call{ResponseWriter: w, api: a, r: r, requestID: "req-" + uuid.NewString()}
	_ = http.NewResponseController(w).SetWriteDeadline(start.Add(a.cfg.AttachWait + readWait + writeMargin))
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				panic(p)
			}
			c.log().Error("panic while answering", "method", r.Method, "route", c.route, "error", p, "stack", string(debug.Stack()))
			c.fail(errors.New("panic"))
		}
		c.answered(time.Since(start))
	}()
	a.dispatch(c)
}

// answered tells of the answer.
func (c *call) answered(took time.Duration) {
	if log := c.api.cfg.Log; log.Enabled(c.r.Context(), slog.LevelDebug) {
		log.Debug("request answered", "request_id", c.requestID, "method", c.r.Method, "route", c.route, "status", c.status, "took", took, "project", c.who.Project)
	}
	if c.api.cfg.OnRequest != nil {
		c.api.cfg.OnRequest(Event{Method: c.r.Method, Route: c.route, Status: c.status, Took: took})
	}
}

// dispatch finds out which of the two APIs is meant.
func (a *API) dispatch(c *call) {
	p := c.r.URL.EscapedPath()
	switch {
	case p == "/healthz" || p == "/readyz":
		c.own, c.route = true, p
		c.health(p)
		return
	case strings.HasPrefix(p, ownPrefix):
		c.own = true
		a.serveOwn(c)
		return
	}
	for _, prefix := range a.cfg.Prefixes {
		if p == prefix || strings.HasPrefix(p, prefix+"/") {
			c.prefix, p = prefix, p[len(prefix):]
			break
		}
	}
	switch {
	case p == "" || p == "/":
		c.route = "/"
		c.get(func() error { return c.versions(http.StatusMultipleChoices) })
	case p == "/v3":
		c.route = p
		c.get(c.redirectToVersion)
	case p == "/v3/":
		c.route = p
		c.get(func() error { return c.versions(http.StatusOK) })
	case p == "/healthcheck":
		c.route = p
		c.get(func() error {
			return c.reply(http.StatusOK, append(getBuffer(), `{"detailed": false, "reasons": ["OK"]}`...))
		})
	case strings.HasPrefix(p, "/v3/"):
		a.serveVolume(c, p[len("/v3"):])
	default:
		c.fail(notFound(textNotFound))
	}
}

// get runs the handler of a path outside of the routes.
func (c *call) get(h func() error) {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.fail(newFault(http.StatusMethodNotAllowed, "The method %s is not allowed for this resource.", clip(c.r.Method)))
		return
	}
	mv, err := negotiate(c.r.Header)
	if c.mv = mv; err == nil {
		err = h()
	}
	if err != nil {
		c.fail(err)
	}
}

// serveVolume serves the path below /v3, which begins with a slash.
func (a *API) serveVolume(c *call, p string) {
	if err := a.open(); err != nil {
		c.fail(err)
		return
	}
	who, err := a.cfg.Auth.Identify(c.r)
	if err != nil {
		c.refuse(err)
		return
	}
	c.who = who
	if err := c.reach(); err != nil {
		c.fail(err)
		return
	}
	p = a.cutProject(c, p)
	p = strings.TrimSuffix(strings.TrimSuffix(p, "/"), ".json")
	c.routed(a.volume, p)
}

// refuse answers a request whose caller is not known.
func (c *call) refuse(err error) {
	switch {
	case errors.Is(err, auth.ErrNoToken):
		c.header()
		c.api.cfg.Auth.Challenge(c, c.r)
	case errors.Is(err, auth.ErrBadToken):
		c.fail(badRequest("%v", err))
	default:
		c.fail(newFault(http.StatusServiceUnavailable, "Who asks could not be found out: %v", err))
	}
}

// cutProject takes the project off the path. What is the name of a collection is the collection, except where the
// caller's project has that name and a collection follows.
func (a *API) cutProject(c *call, p string) string {
	first, rest, more := strings.Cut(p[1:], "/")
	if !more {
		return p
	}
	if a.known[first] {
		second, _, _ := strings.Cut(rest, "/")
		if first != c.who.Project || !a.known[second] {
			return p
		}
	}
	if block.CheckToken(first) != nil {
		return p
	}
	c.project = first
	return p[1+len(first):]
}

// routed hands the call to the route of the path, which is escaped.
func (c *call) routed(mux *http.ServeMux, p string) {
	plain, err := url.PathUnescape(p)
	if err != nil || p == "" || path.Clean(plain) != plain || strings.ContainsRune(plain, 0) {
		c.fail(notFound(textNotFound))
		return
	}
	u := *c.r.URL
	u.Path, u.RawPath = plain, ""
	if plain != p {
		u.RawPath = p
	}
	r := *c.r
	r.URL = &u
	mux.ServeHTTP(c, &r)
}

// handler answers a call or says why not.
type handler func(c *call) error

// handle makes a route of the Block Storage API.
func handle(pattern string, min microversion, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		c.r, c.route = r, pattern
		if err := c.enter(min); err != nil {
			c.fail(err)
			return
		}
		if err := h(c); err != nil {
			c.fail(err)
		}
	}
}

// enter checks what all routes have in common.
func (c *call) enter(min microversion) (err error) {
	if c.mv, err = negotiate(c.r.Header); err != nil {
		return err
	}
	if c.project != "" && c.project != c.who.Project {
		return badRequest(textURL)
	}
	if c.mv < min {
		return notFound(textNotFound)
	}
	return nil
}

// unknown is the route of every path without one.
func unknown(w http.ResponseWriter, r *http.Request) {
	c := w.(*call)
	if mv, err := negotiate(r.Header); err == nil {
		c.mv = mv
	}
	c.fail(notFound(textNotFound))
}
