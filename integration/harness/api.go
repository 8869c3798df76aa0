package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// API speaks HTTP to an API node.
type API struct{ URL, Project string }

// Answer is what came back.
type Answer struct {
	Status int
	Body   []byte
	Header http.Header
}

// Operation is the ID of the operation that the answer names.
func (a *Answer) Operation() string { return a.Header.Get("X-Scoria-Operation-Id") }

// Fault is the key, the code and the message of an error body.
func (a *Answer) Fault() (key string, code int, message string) {
	var body map[string]struct {
		Code    int
		Message string
	}
	if json.Unmarshal(a.Body, &body) == nil {
		for k, v := range body {
			return k, v.Code, v.Message
		}
	}
	return "", 0, string(a.Body)
}

var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}, Timeout: 90 * time.Second}

// Do sends a request. The path is below /v3/PROJECT unless it begins with /scoria or /v3. An error means that no answer came.
func (a *API) Do(ctx context.Context, method, path string, in any, header ...string) (*Answer, error) {
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case string:
		body = bytes.NewReader([]byte(in))
	case []byte:
		body = bytes.NewReader(in)
	default:
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	if len(path) < 3 || path[:3] != "/v3" && path[:3] != "/sc" {
		path = "/v3/" + a.Project + path
	}
	req, err := http.NewRequestWithContext(ctx, method, a.URL+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Auth-Token", "admin:"+a.Project)
	req.Header.Set("OpenStack-API-Version", "volume 3.71")
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &Answer{resp.StatusCode, data, resp.Header}, nil
}

// M is a JSON object.
type M = map[string]any

// Volume is what tests read of a volume.
type Volume struct {
	ID, Name, Status string
	Size             int64
	SnapshotID       string `json:"snapshot_id"`
}

// Operation is what tests read of an operation.
type Operation struct {
	ID, Kind, Phase, Resource, Step, Error, Worker string
	Ended                                          bool
	Epoch                                          uint64
	Waits                                          *struct {
		Place int
		For   []struct{ Operation string }
	}
}

// Must sends a request that must have the status, and reads the answer into out, which may be nil.
func (a *API) Must(t testing.TB, status int, method, path string, in, out any) *Answer {
	t.Helper()
	ans, err := a.Do(t.Context(), method, path, in)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if ans.Status != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, ans.Status, status, ans.Body)
	}
	if out != nil {
		if err := json.Unmarshal(ans.Body, out); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, ans.Body)
		}
	}
	return ans
}

// Wait waits until the operation has ended or is stuck.
func (a *API) Wait(ctx context.Context, id string) (Operation, error) {
	for {
		ans, err := a.Do(ctx, http.MethodGet, "/scoria/v1/operations/"+id+"/wait?timeout=30s", nil)
		if err != nil {
			return Operation{}, err
		}
		if ans.Status != http.StatusOK {
			return Operation{}, fmt.Errorf("operation %s: status %d: %s", id, ans.Status, ans.Body)
		}
		var out struct{ Operation Operation }
		if err := json.Unmarshal(ans.Body, &out); err != nil {
			return Operation{}, err
		}
		if out.Operation.Ended || out.Operation.Phase == "stuck" {
			return out.Operation, nil
		}
	}
}

// MustEnd waits for the end of an operation, which must be done.
func (a *API) MustEnd(t testing.TB, id string) Operation {
	t.Helper()
	op, err := a.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if op.Phase != "done" {
		t.Fatalf("operation %s (%s of %s) is %s at step %s: %s", id, op.Kind, op.Resource, op.Phase, op.Step, op.Error)
	}
	return op
}

// Create creates a volume, waits until it is there and returns its ID.
func (a *API) Create(t testing.TB, fields M) string {
	t.Helper()
	var out struct{ Volume Volume }
	ans := a.Must(t, http.StatusAccepted, http.MethodPost, "/volumes", M{"volume": fields}, &out)
	a.MustEnd(t, ans.Operation())
	return out.Volume.ID
}

// Snapshot makes a snapshot of the volume, waits until it is there and returns its ID.
func (a *API) Snapshot(t testing.TB, volume string) string {
	t.Helper()
	var out struct{ Snapshot struct{ ID string } }
	ans := a.Must(t, http.StatusAccepted, http.MethodPost, "/snapshots", M{"snapshot": M{"volume_id": volume}}, &out)
	a.MustEnd(t, ans.Operation())
	return out.Snapshot.ID
}

// Get reads a volume.
func (a *API) Get(t testing.TB, volume string) Volume {
	t.Helper()
	var out struct{ Volume Volume }
	a.Must(t, http.StatusOK, http.MethodGet, "/volumes/"+volume, nil, &out)
	return out.Volume
}

// Delete deletes and waits until it is gone. Path is such as /volumes/ID.
func (a *API) Delete(t testing.TB, path string) {
	t.Helper()
	ans := a.Must(t, http.StatusAccepted, http.MethodDelete, path, nil, nil)
	a.MustEnd(t, ans.Operation())
}

// VerifyClean fails the test unless verify finds nothing.
func (a *API) VerifyClean(t testing.TB) {
	t.Helper()
	var out struct {
		Clean       bool
		Differences []struct{ Kind, Subject, Text string }
	}
	a.Must(t, http.StatusOK, http.MethodPost, "/scoria/v1/verify", M{}, &out)
	if !out.Clean {
		t.Errorf("verify is not clean: %+v", out.Differences)
	}
}

// Idle waits until no operation of the project is under way, and fails if one is stuck.
func (a *API) Idle(t testing.TB) {
	t.Helper()
	Eventually(t, 3*time.Minute, "no operation is under way", func() bool {
		var out struct{ Operations []Operation }
		a.Must(t, http.StatusOK, http.MethodGet, "/scoria/v1/operations?live=true&project="+a.Project, nil, &out)
		for _, op := range out.Operations {
			if op.Phase == "stuck" {
				t.Fatalf("operation %s (%s of %s) is stuck at step %s: %s", op.ID, op.Kind, op.Resource, op.Step, op.Error)
			}
		}
		return len(out.Operations) == 0
	})
}
