package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	apinode "github.com/scoria-storage/scoria/api-node"
	"github.com/scoria-storage/scoria/deploy/assembly"
	"github.com/scoria-storage/scoria/messages/block"
)

// defaultEndpoint is where an API node listens that was told nothing else.
const defaultEndpoint = "http://" + apinode.DefaultListen

// client speaks HTTP to an API node, for the commands of people.
type client struct {
	endpoint, project string
	http              *http.Client
	// answered: there was an answer, so something listens or did.
	answered bool
	// onConflict goes with requests that start an operation; "" refuses.
	onConflict string
	// warn is where it is told, once, that what is shown may be out of date; nil: nowhere.
	warn   io.Writer
	warned bool
}

// apiError is an answer that is no success.
type apiError struct {
	status  int
	message string
	// operation is what the answer names, or "".
	operation string
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (HTTP %d)", e.message, e.status) }

// hasStatus reports whether err is an answer with the status.
func hasStatus(err error, status int) bool {
	answer, ok := errors.AsType[*apiError](err)
	return ok && answer.status == status
}

func newClient(endpoint, project string) (*client, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &usageError{&assembly.SettingError{Name: flagEndpoint, Value: endpoint, Want: "want a URL such as " + defaultEndpoint}}
	}
	if block.CheckToken(project) != nil {
		return nil, &usageError{&assembly.SettingError{Name: flagProject, Value: project, Want: "want 1 to 64 letters, digits, _ and -"}}
	}
	return &client{endpoint: strings.TrimRight(endpoint, "/"), project: project, http: &http.Client{}}, nil
}

// volumeAPI is a path of the Block Storage API: each part is escaped.
func (c *client) volumeAPI(parts ...string) string {
	return apiPath("/v3", append([]string{c.project}, parts...)...)
}

// ownAPI is a path of Scoria's own calls: each part is escaped.
func ownAPI(parts ...string) string { return apiPath("/scoria/v1", parts...) }

func apiPath(path string, parts ...string) string {
	for _, part := range parts {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// call sends in as JSON and reads the answer into out; either may be nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	return c.callWith(ctx, nil, method, path, in, out)
}

// callWith is call with headers.
func (c *client) callWith(ctx context.Context, header http.Header, method, path string, in, out any) (http.Header, error) {
	resp, err := c.send(ctx, header, method, path, in)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, c.lost(ctx, method, "in the middle of its answer", err)
	}
	if resp.StatusCode >= 300 {
		return nil, &apiError{resp.StatusCode, plain(errorText(resp, data)), resp.Header.Get(headerOperation)}
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			return nil, fmt.Errorf("%s %s: the answer is not the JSON expected: %w", method, path, err)
		}
	}
	return resp.Header, nil
}

func (c *client) send(ctx context.Context, header http.Header, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("X-Auth-Token", "admin:"+c.project)
	req.Header.Set("OpenStack-API-Version", "volume 3.71")
	req.Header.Set("Accept", "application/json")
	if c.onConflict != "" && method != http.MethodGet {
		req.Header.Set("X-Scoria-On-Conflict", c.onConflict)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, method, err)
	}
	c.answered = true
	c.tellStale(resp.Header.Get(headerStale))
	return resp, nil
}

// tellStale says that the API node has had no answer from NATS for some seconds, if the answer says so.
func (c *client) tellStale(seconds string) {
	if seconds == "" || c.warn == nil || c.warned {
		return
	}
	c.warned = true
	fmt.Fprintf(c.warn, "scoria: NATS has not answered the API node for %s s: what is shown may be out of date\n", plain(seconds))
}

// unreachable says in words why there is no answer.
func (c *client) unreachable(ctx context.Context, method string, err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // the rest of its text is the URL
	}
	op, ok := errors.AsType[*net.OpError](err)
	stop := interrupted(ctx)
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("what listens at %s speaks HTTP without TLS: want http://", c.endpoint)
	case strings.Contains(err.Error(), "malformed HTTP"): // what else it is has no name in Go
		return fmt.Errorf("what listens at %s does not speak HTTP: is it an API node?", c.endpoint)
	case !ok || op.Op != "dial":
		return c.lost(ctx, method, "before it answered", err)
	case stop != nil:
		return stop
	case c.answered:
		return fmt.Errorf("the API node at %s answered before and cannot be reached any more (%w): what it accepted goes on when it is back", c.endpoint, op.Err)
	case errors.Is(op, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s: start it with `scoria up --data DIR`, or name another with --endpoint or SCORIA_ENDPOINT", c.endpoint)
	}
	return fmt.Errorf("%s cannot be reached: %w; name another API node with --endpoint or SCORIA_ENDPOINT", c.endpoint, op.Err)
}

// lost says that a connection over which a request may have been sent is gone. What was to be changed may have been.
func (c *client) lost(ctx context.Context, method, when string, err error) error {
	err = fmt.Errorf("the connection to %s was lost %s (%w)", c.endpoint, when, err)
	if stop := interrupted(ctx); stop != nil {
		err = stop
	}
	if method != http.MethodGet {
		return fmt.Errorf("%w; the request may have been accepted: look before you repeat it", err)
	}
	return err
}

// errorText takes the message out of an OpenStack error body: one key that holds code and message.
func errorText(resp *http.Response, data []byte) string {
	var body map[string]json.RawMessage
	if json.Unmarshal(data, &body) == nil {
		for _, raw := range body {
			var e struct{ Message string }
			if json.Unmarshal(raw, &e) == nil && e.Message != "" {
				return e.Message
			}
		}
		var text string
		if raw, ok := body["message"]; ok && json.Unmarshal(raw, &text) == nil {
			return text
		}
	}
	if text := strings.TrimSpace(string(data)); text != "" && len(text) < 300 {
		return text
	}
	return resp.Status
}

// poll calls look until it says done, with a growing pause.
func poll(ctx context.Context, look func() (done bool, err error)) error {
	pause := 20 * time.Millisecond
	for {
		done, err := look()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(pause*3/2, time.Second)
	}
}
