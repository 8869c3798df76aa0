package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/scoria-storage/scoria/api-node/auth"
	"github.com/scoria-storage/scoria/messages"
)

// ownPrefix is where Scoria's own calls are.
const ownPrefix = "/scoria/v1/"

// ownBuilt are the routes below ownPrefix.
var ownBuilt = []route{
	{"GET /version", 0, (*call).showRelease},
	{"GET /operations", 0, (*call).listOperations},
	{"GET /operations/{id}", 0, (*call).showOperation},
	{"GET /operations/{id}/wait", 0, (*call).waitOperation},
	{"GET /operations/{id}/events", 0, (*call).followOperation},
	{"POST /operations/{id}/cancel", 0, (*call).cancelOperation},
	{"POST /operations/{id}/resume", 0, (*call).resumeOperation},
	{"POST /operations/{id}/abandon", 0, (*call).abandonOperation},
	{"GET /locks", 0, (*call).listLocks},
	{"GET /locks/{key}", 0, (*call).explainLock},
	{"POST /locks/{key}/break", 0, (*call).breakLock},
	{"GET /verify", 0, (*call).verify},
	{"POST /verify", 0, (*call).verify},
	{"GET /nodes", 0, (*call).listNodes},
	{"GET /backends", 0, (*call).listBackends},
	{"DELETE /backends/{name}", 0, (*call).forgetBackend},
	{"GET /pools", 0, (*call).listPools},
}

func (a *API) ownRoutes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range ownBuilt {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
			c := w.(*call)
			c.r, c.route = req, r.pattern
			if err := r.do(c); err != nil {
				c.fail(err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.(*call).fail(notFound(textNotFound)) })
	return mux
}

// serveOwn serves Scoria's own calls. A request without a token is let in where the authenticator knows who that is.
func (a *API) serveOwn(c *call) {
	if err := a.open(); err != nil {
		c.fail(err)
		return
	}
	who, err := a.cfg.Auth.Identify(c.r)
	if errors.Is(err, auth.ErrNoToken) {
		if anonymous, ok := a.cfg.Auth.Anonymous(); ok {
			who, err = anonymous, nil
		}
	}
	if err != nil {
		if errors.Is(err, auth.ErrNoToken) {
			err = newFault(http.StatusUnauthorized, "The request needs an X-Auth-Token.")
		}
		c.refuse(err)
		return
	}
	c.who = who
	if err := c.reach(); err != nil {
		c.fail(err)
		return
	}
	p := strings.TrimPrefix(c.r.URL.EscapedPath(), ownPrefix)
	c.routed(a.own, "/"+strings.TrimSuffix(p, "/"))
}

// ownCodes are the codes of faults that admission did not make.
var ownCodes = map[int]messages.Code{
	http.StatusBadRequest:            messages.CodeInvalid,
	http.StatusUnauthorized:          messages.CodeInvalid,
	http.StatusForbidden:             messages.CodeInvalid,
	http.StatusNotFound:              messages.CodeNotFound,
	http.StatusConflict:              messages.CodeConflict,
	http.StatusRequestEntityTooLarge: messages.CodeTooLarge,
	http.StatusUnsupportedMediaType:  messages.CodeInvalid,
	http.StatusNotImplemented:        messages.CodeUnsupported,
	http.StatusServiceUnavailable:    messages.CodeUnavailable,
}

// appendOwnError is the body of an error in the form of Scoria's own calls.
func appendOwnError(b []byte, err error, f *fault) []byte {
	e, ok := errors.AsType[*messages.Error](err)
	if !ok || e.Code == messages.CodeInternal {
		code, known := ownCodes[f.status]
		if !known {
			code = messages.CodeInternal
		}
		e = &messages.Error{Code: code, Message: f.message}
	}
	data, errJSON := json.Marshal(map[string]*messages.Error{"error": e})
	if errJSON != nil { // an Error holds nothing that JSON has not
		return append(b, `{"error": {"code": "internal"}}`...)
	}
	return append(b, data...)
}

// replyJSON answers with a value that is marshalled; for calls that are not hot.
func (c *call) replyJSON(status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.reply(status, append(getBuffer(), data...))
}

// ownBody decodes the optional body of one of Scoria's own calls.
func (c *call) ownBody() (object, error) {
	data, err := c.readBody()
	if err != nil || data == nil {
		return nil, err
	}
	return parseObject(data)
}

func (c *call) showRelease() error {
	return c.replyJSON(http.StatusOK, map[string]any{
		"release": c.api.cfg.Release, "api": "v1",
		"volume_api": map[string]string{"min": microversion(0).String(), "max": mvMax.String()},
	})
}

// health answers probes.
func (c *call) health(path string) {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.fail(newFault(http.StatusMethodNotAllowed, "The method %s is not allowed for this resource.", clip(c.r.Method)))
		return
	}
	if path == "/readyz" {
		if err := c.api.ready(); err != nil {
			c.fail(newFault(http.StatusServiceUnavailable, "not ready: %v", err))
			return
		}
	}
	_ = c.reply(http.StatusOK, append(getBuffer(), `{"status": "ok"}`...))
}

// errEnding is why a node that shuts down is not ready.
var errEnding = errors.New("the node is ending")

func (a *API) ready() error {
	select {
	case <-a.closing:
		return errEnding
	default:
	}
	if a.cfg.Ready == nil {
		return nil
	}
	err := a.cfg.Ready()
	if err == nil {
		a.wasReady.Store(true)
	}
	return err
}

// Open lets requests in although the node is not ready for a reason that does not keep it from answering, such as a full disk. Its lists
// must be whole.
func (a *API) Open() { a.wasReady.Store(true) }

// open refuses requests until the node was ready for the first time: before that its lists are not whole. Later it
// answers even where it is not ready for a moment, with what it knows.
func (a *API) open() error {
	if a.wasReady.Load() || a.cfg.Ready == nil {
		return nil
	}
	if err := a.ready(); err != nil {
		f := newFault(http.StatusServiceUnavailable, "The API node is starting: %v", err)
		f.retryAfter = "1"
		return f
	}
	return nil
}

// verify compares the books with what there is.
func (c *call) verify() error {
	if !c.who.Admin {
		return newFault(http.StatusForbidden, "Only an admin may verify.")
	}
	if c.api.cfg.Verifier == nil {
		return notImplemented("This API node has no verifier.")
	}
	waiting, cancel := c.longWait(verifyWait)
	defer cancel()
	ctx, stop := c.api.cfg.Stream.While(waiting)
	defer stop()
	report, err := c.api.cfg.Verifier.Verify(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return newFault(http.StatusServiceUnavailable, "The verification could not be done: %v", err)
	}
	return c.replyJSON(http.StatusOK, report)
}
