package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// node is an API node as far as a bench needs one. Each create writes so many messages to the stream.
type node struct {
	mu       sync.Mutex
	bare     *kvtx.Bare
	messages int
	things   map[string]string // names by collection/ID
	made     int
	keeps    string // the ID of one that cannot be deleted
	page     int
	created  func()
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	collection, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v3/bench/"), "/")
	w.Header().Set("X-Scoria-Operation-Id", "op")
	switch {
	case r.Method == http.MethodPost:
		if n.bare != nil {
			if _, err := n.bare.Batch(r.Context(), n.messages); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		body := make([]byte, 1024)
		size, _ := r.Body.Read(body)
		_, rest, _ := strings.Cut(string(body[:size]), `"name":"`)
		name, _, _ := strings.Cut(rest, `"`)
		n.made++
		id := fmt.Sprint(n.made)
		n.things[collection+"/"+id] = name
		if n.created != nil {
			n.created()
		}
		fmt.Fprintf(w, `{"volume": {"id": %q}}`, id)
	case r.Method == http.MethodDelete && id == n.keeps:
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"badRequest": {"message": "it is in use"}}`)
	case r.Method == http.MethodDelete:
		delete(n.things, collection+"/"+id)
		w.WriteHeader(http.StatusAccepted)
	case strings.HasSuffix(r.URL.Path, "/wait"):
		fmt.Fprint(w, `{"operation": {"phase": "done", "ended": true}}`)
	case strings.HasPrefix(r.URL.Path, "/scoria/v1/operations"):
		fmt.Fprint(w, `{"operations": []}`)
	default:
		n.list(w, collection, r.URL.Query().Get("name"))
	}
}

func (n *node) list(w http.ResponseWriter, collection, name string) {
	var rows []string
	for key, is := range n.things {
		if id, ok := strings.CutPrefix(key, collection+"/"); ok && is == name && len(rows) < n.page {
			rows = append(rows, fmt.Sprintf(`{"id": %q}`, id))
		}
	}
	fmt.Fprintf(w, `{%q: [%s]}`, collection, strings.Join(rows, ","))
}

func start(t *testing.T, n *node) string {
	t.Helper()
	n.page = 7
	n.things = map[string]string{"volumes/other": "bench", "snapshots/other": "of another"}
	srv := httptest.NewServer(n)
	t.Cleanup(srv.Close)
	return srv.URL
}

func quiet(string) {}

// What an operation writes is counted on the stream, the warm-up with it.
func TestMessagesOfAnOperationAreCountedOnTheStream(t *testing.T) {
	t.Parallel()
	store := natstest.Start(t).Store(t)
	n := &node{bare: store.Bare(10), messages: 5}
	rows, err := API(t.Context(), Target{Endpoint: start(t, n), Store: store}, Length{Warm: 20 * time.Millisecond, Row: 200 * time.Millisecond, Floor: 80 * time.Millisecond},
		[]string{"create-accept"}, quiet)
	if err != nil || len(rows) != len(clients) {
		t.Fatalf("%d rows (%v), want %d", len(rows), err, len(clients))
	}
	for i, r := range rows {
		if r.Case != "create-accept" || r.Workers != clients[i] || r.Messages != 5 || r.Floor <= 0 {
			t.Errorf("row %+v, want %d workers, 5 messages an operation and a floor", r, clients[i])
		}
	}
	if len(n.things) != n.made+2 {
		t.Errorf("%d of %d are left in a stack that is thrown away", len(n.things), n.made)
	}
}

func TestUnknownEndpointsAreRefused(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"", "127.0.0.1:8776", "https://h:1", "http://h:1/volume"} {
		if _, err := API(t.Context(), Target{Endpoint: endpoint}, Length{}, nil, quiet); err == nil || !strings.Contains(err.Error(), "want http://HOST:PORT") {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
}

// What bears another name stays.
func TestWhatARunMadeIsRemoved(t *testing.T) {
	t.Parallel()
	length := Length{Row: 400 * time.Millisecond}
	for name, keeps := range map[string]string{"all": "", "all but one": "3"} {
		n := &node{keeps: keeps}
		rows, err := API(t.Context(), Target{Endpoint: start(t, n), Remove: true}, length, []string{"create-ended"}, quiet)
		if len(rows) != len(clients) || n.made < 3 {
			t.Fatalf("%s: %d rows of %d creates, want %d of 3 or more", name, len(rows), n.made, len(clients))
		}
		left := 2
		if keeps != "" {
			left++
		}
		if len(n.things) != left || (err == nil) != (keeps == "") {
			t.Errorf("%s: %d are left, want %d: %v", name, len(n.things), left, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "1 or more volumes named bench-") || !strings.Contains(err.Error(), "it is in use")) {
			t.Errorf("%s: %v, want what is left and why", name, err)
		}
	}
}

func TestWhatAnInterruptedRunMadeIsRemoved(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	n := &node{}
	n.created = func() {
		if n.made == 10 {
			cancel(stop)
		}
	}
	_, err := API(ctx, Target{Endpoint: start(t, n), Remove: true}, Length{Row: time.Hour}, []string{"create-accept"}, quiet)
	if err == nil || err.Error() != stop.Error() || len(n.things) != 2 { // no word of what failed because of that
		t.Errorf("interrupted: %v, %d are left, want 2", err, len(n.things))
	}
}
