package rest

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/auth"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/block"
)

// call is one request. It is also the ResponseWriter that the routes are given, which is how they find it.
type call struct {
	http.ResponseWriter
	api   *API
	r     *http.Request
	who   auth.Identity
	mv    microversion
	route string // the pattern that matched
	// project is what the URL says, "" where it says none; prefix is the path before /v3.
	project, prefix string
	requestID       string
	status          int
	// own: one of Scoria's own calls, whose errors have their own form.
	own bool
}

// WriteHeader notes the status.
func (c *call) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *call) log() *slog.Logger { return c.api.cfg.Log.With("request_id", c.requestID) }

func (c *call) reader() Reader { return c.api.cfg.Reader }

func (c *call) caller() admit.Caller {
	return admit.Caller{Project: c.who.Project, User: c.who.User, RequestID: c.requestID, Admin: c.who.Admin}
}

// mine reports whether the caller may see what belongs to the project.
func (c *call) mine(project string) bool { return c.who.Admin || project == c.who.Project }

// readWait bounds how long an accepted write waits for the read side.
const readWait = 20 * time.Second

// wait returns when the read side shows what the operation's commit wrote. The error says that the operation goes on.
func (c *call) wait(rev kvtx.Revision, op block.OperationID) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), readWait)
	defer cancel()
	if err := c.reader().Wait(ctx, rev); err != nil {
		f := newFault(http.StatusServiceUnavailable, "The request was accepted, but this API node does not show it yet (%v). Do not repeat it; look at the resource in a moment.", err)
		if op != "" {
			f.message += " Operation " + string(op) + "."
		}
		f.operation, f.retryAfter = op, "1"
		return f
	}
	return nil
}

var (
	jsonType    = []string{"application/json"}
	varyVersion = []string{headerName}
)

// header sets what every answer has.
func (c *call) header() http.Header {
	h := c.Header()
	h["Content-Type"] = jsonType
	id := []string{c.requestID}
	h["X-Openstack-Request-Id"] = id
	if !c.own {
		h["X-Compute-Request-Id"] = id
		if _, set := h[versionHeader]; !set {
			h[versionHeader] = versionStrings[c.mv]
		}
		h["Vary"] = varyVersion
	}
	return h
}

func (c *call) setOperation(op block.OperationID) {
	if op != "" {
		c.Header()["X-Scoria-Operation-Id"] = []string{string(op)}
	}
}

// reply sends a body that was built in a buffer of getBuffer and gives the buffer back.
func (c *call) reply(status int, body []byte) error {
	c.header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.WriteHeader(status)
	_, err := c.Write(body)
	putBuffer(body)
	if err != nil { // the client is gone: nobody to tell
		c.log().Debug("answer not sent", "error", err)
	}
	return nil
}

// empty sends an answer without a body.
func (c *call) empty(status int) error {
	h := c.header()
	if status == http.StatusNoContent {
		delete(h, "Content-Type")
	} else {
		h["Content-Length"] = []string{"0"}
	}
	c.WriteHeader(status)
	return nil
}

// fail answers with the error.
func (c *call) fail(err error) {
	if c.status != 0 {
		c.log().Warn("error after the answer began", "error", err)
		return
	}
	f, known := asFault(err)
	if !known {
		c.log().Error("request not answered", "method", c.r.Method, "route", c.route, "error", err)
	}
	h := c.Header()
	if f.version != "" {
		h[versionHeader] = []string{f.version}
	}
	if f.retryAfter != "" {
		h["Retry-After"] = []string{f.retryAfter}
	}
	c.setOperation(f.operation)
	if c.own {
		_ = c.reply(f.status, appendOwnError(getBuffer(), err, f))
		return
	}
	_ = c.reply(f.status, appendFault(getBuffer(), f))
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// maxPooled bounds the buffers that are kept: a page of a thousand volumes fits.
const maxPooled = 4 << 20

func getBuffer() []byte { return (*buffers.Get().(*[]byte))[:0] }

func putBuffer(b []byte) {
	if cap(b) <= maxPooled {
		buffers.Put(&b)
	}
}

// root is the URL under which the API is reached, without /v3 and without a slash at its end.
func (c *call) root() string {
	if c.api.cfg.PublicEndpoint != "" {
		return c.api.cfg.PublicEndpoint
	}
	scheme, host := "http", c.r.Host
	if c.r.TLS != nil {
		scheme = "https"
	}
	if p := c.r.Header.Get("X-Forwarded-Proto"); p == "http" || p == "https" {
		scheme = p
	}
	if h := c.r.Header.Get("X-Forwarded-Host"); h != "" {
		host = strings.TrimSpace(h[strings.LastIndexByte(h, ',')+1:])
	}
	prefix := c.prefix
	if p := c.r.Header.Get("X-Forwarded-Prefix"); strings.HasPrefix(p, "/") {
		prefix = strings.TrimRight(p, "/") + prefix
	}
	return scheme + "://" + host + prefix
}

// links are the beginnings of a collection's links: self goes on with the version, bookmark without.
func (c *call) links(collection string) (self, bookmark string) {
	root, project := c.root(), ""
	if c.project != "" {
		project = "/" + c.project
	}
	return root + "/v3" + project + "/" + collection + "/", root + project + "/" + collection + "/"
}
