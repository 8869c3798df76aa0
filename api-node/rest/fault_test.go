package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/records"
)

func TestEveryCodeHasItsStatusAndKey(t *testing.T) {
	t.Parallel()
	want := map[messages.Code]struct {
		status int
		key    string
	}{
		messages.CodeInvalid: {400, "badRequest"}, messages.CodeInvalidVolume: {400, "badRequest"}, messages.CodeInvalidSnapshot: {400, "badRequest"},
		messages.CodeInvalidAttachment: {400, "badRequest"}, messages.CodeNoBackend: {400, "badRequest"},
		messages.CodeConflict: {409, "conflictingRequest"}, messages.CodeReused: {409, "conflictingRequest"},
		messages.CodeNotFound: {404, "itemNotFound"}, messages.CodeQuota: {413, "overLimit"}, messages.CodeTooLarge: {413, "overLimit"},
		messages.CodeUnsupported: {501, "notImplemented"}, messages.CodeUnavailable: {503, "serviceUnavailable"},
		messages.CodeBusy: {503, "serviceUnavailable"}, messages.CodeFailed: {503, "serviceUnavailable"},
		messages.CodeInternal: {500, "computeFault"},
	}
	for code := range statusOf {
		if _, ok := want[code]; !ok {
			t.Errorf("code %s is not in this table", code)
		}
	}
	for code, w := range want {
		err := error(&messages.Error{Code: code, Message: "text \"x\""})
		f, known := asFault(fmt.Errorf("wrapped: %w", err))
		if f.status != w.status || known != (code != messages.CodeInternal) {
			t.Errorf("%s: status %d, want %d", code, f.status, w.status)
		}
		var body map[string]map[string]any
		if err := json.Unmarshal(appendFault(nil, f), &body); err != nil {
			t.Fatal(err)
		}
		e := body[w.key]
		if len(body) != 1 || e["code"] != float64(w.status) {
			t.Errorf("%s: body %v, want key %s", code, body, w.key)
		}
		if text := e["message"]; (text == "text \"x\"") == (code == messages.CodeInternal) {
			t.Errorf("%s: message %v", code, text)
		}
		if _, there := e["retryAfter"]; there != (code == messages.CodeQuota) {
			t.Errorf("%s: retryAfter is there: %v", code, there)
		}
		var own struct{ Error messages.Error }
		if err := json.Unmarshal(appendOwnError(nil, err, f), &own); err != nil || own.Error.Code != code {
			t.Errorf("%s in Scoria's own form: %+v (%v)", code, own, err)
		}
	}
	for err, status := range map[error]int{
		context.Canceled: 503, fmt.Errorf("x: %w", context.DeadlineExceeded): 503, errors.New("secret"): 500, notFound("x"): 404,
		&messages.Error{Code: "of_a_newer_release", Message: "x"}: 503,
	} {
		if f, _ := asFault(err); f.status != status || f.message == "secret" {
			t.Errorf("%v: %d %q, want %d", err, f.status, f.message, status)
		}
	}
	if got := faultName(http.StatusNotAcceptable); got != "computeFault" {
		t.Errorf("406 is %s", got)
	}
}

func TestQuotaIsRefusedWithCindersText(t *testing.T) {
	t.Parallel()
	s := newLimitedStack(t, records.Limits{Volumes: 2, Snapshots: 10, GiB: 10})
	for range 2 {
		s.newVolume(nil)
	}
	a := s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).fault(413, "VolumeLimitExceeded: Maximum number of volumes allowed (2) exceeded for quota 'volumes'.")
	if a.header.Get("Retry-After") != "0" || a.in("overLimit")["retryAfter"] != "0" {
		t.Errorf("retry after: %v, %s", a.header, a.body)
	}
}

// What is the node's own fault stands in its log once, with the request's ID, and not in the answer.
func TestAnInternalErrorIsLoggedOnce(t *testing.T) {
	t.Parallel()
	s := newLimitedStack(t, records.Limits{Volumes: 2, Snapshots: 10, GiB: 10})
	key := records.QuotaKey("p1")
	_, err := s.store.Update(t.Context(), []string{key}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := snap.Get(key)
		tx.Put(key, []byte("broken"), e.Revision)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	a := s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).fault(500, "The server has either erred or is incapable of performing the requested operation.")
	request := a.header.Get("X-Openstack-Request-Id")
	logged := s.log.with("level=ERROR")
	if len(logged) != 1 || !strings.Contains(logged[0], request) || !strings.Contains(logged[0], key) {
		t.Errorf("logged %d times, want once with %s and %s: %q", len(logged), request, key, logged)
	}
}
