package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/auth"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// stack is an API node on a real server, reached by HTTP, and a worker in the place of a volume node.
type stack struct {
	t      testing.TB
	store  *kvtx.Store
	view   *view.View
	admit  *admit.Admitter
	worker *admittest.Worker
	api    *API
	url    string
	log    lines // of admission and the API
	// stop ends the HTTP server.
	stop func()
}

var unlimited = records.Limits{Volumes: records.Unlimited, Snapshots: records.Unlimited, GiB: records.Unlimited}

func newStack(t testing.TB, change ...func(*Config)) *stack {
	t.Helper()
	return newLimitedStack(t, unlimited, change...)
}

func newLimitedStack(t testing.TB, limits records.Limits, change ...func(*Config)) *stack {
	t.Helper()
	srv := natstest.Start(t)
	ctx, cancel := context.WithCancel(context.Background())
	store, err := kvtx.Ensure(ctx, srv.JetStream(t), kvtx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	locks := kvlock.New(store)
	s := &stack{t: t, store: store, view: view.New(store, nil, view.WithLimits(limits))}
	fed := make(chan error, 1)
	go func() { fed <- s.view.Run(ctx) }()
	s.worker = admittest.New(store, locks, "n1")
	if err := s.worker.Register(ctx, records.Backend{Name: "b1", Kind: "file", Fencing: "node", Reflink: true, KeepsData: true}, -1); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	s.admit = admit.New(store, locks, s.view, admit.Defaults{Limits: limits}, log, admit.WithFences(raised{}))
	cfg := Config{Reader: s.view, Submitter: s.admit, Auth: auth.NoAuth{}, Release: "test", Log: log}
	for _, f := range change {
		f(&cfg)
	}
	if s.api, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	served := make(chan error, 1)
	serving, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { served <- s.api.Serve(serving, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
		cancel()
		if err := <-fed; err != nil {
			t.Errorf("view.Run = %v", err)
		}
		_ = store.Close()
	})
	s.until("backend b1 is in the view", func() bool { _, ok := s.view.Pool("b1"); return ok })
	return s
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// with returns the lines that hold the text.
func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func (s *stack) until(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain until %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// raised is the way to backends that nothing can land on.
type raised struct{}

func (raised) RaiseFence(context.Context, string, block.OperationID) error { return nil }

// answer is what the API said.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   []byte
}

// request is one call: "METHOD PATH", where a path without a slash at its start is below /v3/p1/.
type request struct {
	line   string
	body   any // a string is sent as it is
	mv     string
	token  string
	header map[string]string
}

func (s *stack) send(r request) answer {
	s.t.Helper()
	method, path, _ := strings.Cut(r.line, " ")
	if !strings.HasPrefix(path, "/") {
		path = "/v3/p1/" + path
	}
	var body io.Reader
	switch b := r.body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if r.token == "" {
		r.token = "alice:p1"
	}
	if r.token != "-" {
		req.Header.Set("X-Auth-Token", r.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.mv != "" {
		req.Header.Set("OpenStack-API-Version", "volume "+r.mv)
	}
	for k, v := range r.header {
		if v == "-" {
			req.Header.Del(k)
			continue
		}
		req.Header.Set(k, v)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatalf("%s: %v", r.line, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s: %v", r.line, err)
	}
	return answer{s.t, r.line, resp.StatusCode, resp.Header, data}
}

// get and post use the newest microversion.
func (s *stack) get(path string) answer {
	s.t.Helper()
	return s.send(request{line: "GET " + path, mv: "latest"})
}

func (s *stack) post(path string, body any) answer {
	s.t.Helper()
	return s.send(request{line: "POST " + path, body: body, mv: "latest"})
}

// want checks the status.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.what, a.status, status, a.body)
	}
	return a
}

// fault checks status and text of an error; a text that ends in "…" is a beginning.
func (a answer) fault(status int, text string) answer {
	a.t.Helper()
	a.want(status)
	var body map[string]struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal(a.body, &body); err != nil || len(body) != 1 {
		a.t.Fatalf("%s: not an error body: %s", a.what, a.body)
	}
	for name, e := range body {
		if name != faultName(status) || e.Code != status {
			a.t.Errorf("%s: body %s, want key %s", a.what, a.body, faultName(status))
		}
		prefix, begins := strings.CutSuffix(text, "…")
		if begins && !strings.HasPrefix(e.Message, prefix) || !begins && e.Message != text {
			a.t.Errorf("%s:\n says %q\n want %q", a.what, e.Message, text)
		}
	}
	return a
}

// obj returns the JSON of the body.
func (a answer) obj() map[string]any {
	a.t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.body, &v); err != nil {
		a.t.Fatalf("%s: not JSON: %v: %s", a.what, err, a.body)
	}
	return v
}

// in returns the object under the only key.
func (a answer) in(key string) map[string]any {
	a.t.Helper()
	v, ok := a.obj()[key].(map[string]any)
	if !ok {
		a.t.Fatalf("%s: no object %q in %s", a.what, key, a.body)
	}
	return v
}

// list returns the objects under the key.
func (a answer) list(key string) []map[string]any {
	a.t.Helper()
	items, ok := a.obj()[key].([]any)
	if !ok {
		a.t.Fatalf("%s: no list %q in %s", a.what, key, a.body)
	}
	list := make([]map[string]any, len(items))
	for i := range items {
		list[i] = items[i].(map[string]any)
	}
	return list
}

func (a answer) operation() block.OperationID {
	return block.OperationID(a.header.Get("X-Scoria-Operation-Id"))
}

// end ends the operation of the answer and waits until the view shows it.
func (s *stack) end(a answer, o admittest.Outcome) {
	s.t.Helper()
	id := a.operation()
	if id == "" {
		s.t.Fatalf("%s: no X-Scoria-Operation-Id", a.what)
	}
	s.endOperation(id, o)
}

func (s *stack) endOperation(id block.OperationID, o admittest.Outcome) {
	s.t.Helper()
	if err := s.worker.End(context.Background(), id, o); err != nil {
		s.t.Fatalf("end %s: %v", id, err)
	}
	op, err := s.view.WaitEnded(context.Background(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	s.until("the end is in the view", func() bool { return s.view.Applied() >= op.Revision })
}

// newVolume makes an available volume.
func (s *stack) newVolume(fields map[string]any) string {
	s.t.Helper()
	v := map[string]any{"size": 1}
	for k, f := range fields {
		v[k] = f
	}
	a := s.post("volumes", map[string]any{"volume": v}).want(http.StatusAccepted)
	id := a.in("volume")["id"].(string)
	s.end(a, admittest.Succeed)
	s.until("the volume is available", func() bool { return s.get("volumes/" + id).in("volume")["status"] == "available" })
	return id
}

func (s *stack) newSnapshot(volume string, fields map[string]any) string {
	s.t.Helper()
	v := map[string]any{"volume_id": volume}
	for k, f := range fields {
		v[k] = f
	}
	a := s.post("snapshots", map[string]any{"snapshot": v}).want(http.StatusAccepted)
	s.end(a, admittest.Succeed)
	id := a.in("snapshot")["id"].(string)
	s.until("the snapshot is available", func() bool { return s.get("snapshots/" + id).in("snapshot")["status"] == "available" })
	return id
}

// work ends every operation that is dispatched, until the test ends.
func (s *stack) work() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.worker.Run(ctx, 4, nil) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("worker.Run = %v", err)
		}
	})
}

// bucket is all keys with their revisions: what a refused request must not change.
func (s *stack) bucket() string {
	s.t.Helper()
	var b strings.Builder
	err := s.store.Scan(context.Background(), ">", func(e kvtx.Entry) error {
		if !strings.HasPrefix(e.Key, "rcpt.") && !strings.HasPrefix(e.Key, "chk.") {
			fmt.Fprintf(&b, "%s %d\n", e.Key, e.Revision)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return b.String()
}

// submit asks admission directly.
func (s *stack) submit(req messages.Request) admit.Accepted {
	s.t.Helper()
	acc, err := s.admit.Submit(context.Background(), admit.Submission{Caller: admit.Caller{Project: "p1", User: "alice", Admin: true}, Request: req})
	if err != nil {
		s.t.Fatal(err)
	}
	return acc
}

const missing = "00000000-0000-4000-8000-000000000000"

// plainUsers is NoAuth without admins.
type plainUsers struct{ auth.NoAuth }

func (p plainUsers) Identify(r *http.Request) (auth.Identity, error) {
	id, err := p.NoAuth.Identify(r)
	id.Admin = false
	return id, err
}

// countingReader counts who waits for the end of operations.
type countingReader struct {
	Reader
	waiting *atomic.Int32
}

func (r *countingReader) WaitEnded(ctx context.Context, id block.OperationID) (*view.Operation, error) {
	r.waiting.Add(1)
	defer r.waiting.Add(-1)
	return r.Reader.WaitEnded(ctx, id)
}
