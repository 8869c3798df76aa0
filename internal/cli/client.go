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

	"github.com/scoria-storage/scoria/deploy/assembly"
)

// client speaks HTTP to an API node, for the commands of people.
type client struct {
	endpoint, project string
	http              *http.Client
}

// apiError is an answer that is no success.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (HTTP %d)", e.message, e.status) }

func newClient(endpoint, project string) (*client, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &usageError{&assembly.SettingError{Name: "endpoint", Value: endpoint, Want: "want a URL such as http://127.0.0.1:8776"}}
	}
	return &client{endpoint: strings.TrimRight(endpoint, "/"), project: project, http: &http.Client{}}, nil
}

// volumeAPI is a path of the Block Storage API.
func (c *client) volumeAPI(format string, args ...any) string {
	return "/v3/" + url.PathEscape(c.project) + fmt.Sprintf(format, args...)
}

// call sends in as JSON and reads the answer into out; either may be nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return nil, &apiError{resp.StatusCode, errorText(resp, data)}
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			return nil, fmt.Errorf("%s %s: the answer is not the JSON expected: %w", method, path, err)
		}
	}
	return resp.Header, nil
}

func (c *client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
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
	req.Header.Set("X-Auth-Token", "admin:"+c.project)
	req.Header.Set("OpenStack-API-Version", "volume 3.71")
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return resp, nil
}

func (c *client) unreachable(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && errors.Is(op, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens at %s: start it with `scoria up --data DIR`, or name another with --endpoint or SCORIA_ENDPOINT", c.endpoint)
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
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(pause*3/2, time.Second)
	}
}
