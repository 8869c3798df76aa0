package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

const project = "bench"

// caller is the HTTP client of the load, with a connection for each worker.
type caller struct {
	endpoint string
	http     *http.Client
}

func newCaller(endpoint string, workers int) *caller {
	t := &http.Transport{MaxIdleConns: workers * 2, MaxIdleConnsPerHost: workers * 2, DisableCompression: true}
	return &caller{endpoint: endpoint, http: &http.Client{Transport: t, Timeout: 2 * time.Minute}}
}

// do sends a request and reads the whole answer.
func (c *caller) do(ctx context.Context, method, path string, body []byte) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("X-Auth-Token", "admin:"+project)
	req.Header.Set("OpenStack-API-Version", "volume 3.71")
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return nil, nil, fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, data)
	}
	return data, resp.Header, nil
}

// create asks for a volume and returns its ID and the operation's.
func (c *caller) create(ctx context.Context, body string) (volume, operation string, err error) {
	data, header, err := c.do(ctx, http.MethodPost, "/v3/"+project+"/volumes", []byte(body))
	if err != nil {
		return "", "", err
	}
	var out struct{ Volume struct{ ID string } }
	if err := json.Unmarshal(data, &out); err != nil {
		return "", "", err
	}
	return out.Volume.ID, header.Get("X-Scoria-Operation-Id"), nil
}

// ended waits until the operation has ended and did what was asked.
func (c *caller) ended(ctx context.Context, operation string) error {
	for {
		data, _, err := c.do(ctx, http.MethodGet, "/scoria/v1/operations/"+operation+"/wait?timeout=30s", nil)
		if err != nil {
			return err
		}
		var out struct {
			Operation struct {
				Phase, Error string
				Ended        bool
			}
		}
		if err := json.Unmarshal(data, &out); err != nil {
			return err
		}
		switch {
		case out.Operation.Phase == "done":
			return nil
		case out.Operation.Ended || out.Operation.Phase == "stuck":
			return fmt.Errorf("operation %s is %s: %s", operation, out.Operation.Phase, out.Operation.Error)
		}
	}
}

// drained waits until no operation of the project is under way.
func (c *caller) drained(ctx context.Context) error {
	for {
		data, _, err := c.do(ctx, http.MethodGet, "/scoria/v1/operations?live=true&limit=1&project="+project, nil)
		if err != nil {
			return err
		}
		var out struct{ Operations []json.RawMessage }
		if err := json.Unmarshal(data, &out); err != nil {
			return err
		}
		if len(out.Operations) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
