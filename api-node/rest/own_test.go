package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// own checks status and code of an error in the form of Scoria's own calls.
func (a answer) own(status int, code messages.Code, text string) {
	a.t.Helper()
	a.want(status)
	var body struct{ Error messages.Error }
	if err := json.Unmarshal(a.body, &body); err != nil || body.Error.Code != code || !strings.Contains(body.Error.Message, text) {
		a.t.Errorf("%s: %s, want code %s and %q", a.what, a.body, code, text)
	}
}

func TestOperationsAreListedAndShown(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	var ops []block.OperationID
	for range 4 {
		ops = append([]block.OperationID{s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202).operation()}, ops...)
	}
	s.endOperation(ops[3], admittest.Succeed)
	s.endOperation(ops[2], admittest.Fail)
	s.send(request{line: "POST /v3/volumes", token: "bob:p2", body: map[string]any{"volume": map[string]any{"size": 1}}}).want(202)
	for query, want := range map[string]string{
		"": "0123", "?project=p1": "0123", "?project=p2": "x", "?all_projects=1": "x0123", "?phase=done": "3", "?phase=undone": "2", "?live=true": "01",
		"?kind=volume.create": "0123", "?kind=volume.delete": "", "?limit=2": "01", "?marker=" + string(ops[1]): "23", "?limit=1&marker=" + string(ops[1]): "2", "?resource=none": "",
	} {
		var got strings.Builder
		for _, op := range s.get("/scoria/v1/operations" + query).want(200).list("operations") {
			name := "x"
			for i := range ops {
				if op["id"] == string(ops[i]) {
					name = fmt.Sprint(i)
				}
			}
			got.WriteString(name)
		}
		if got.String() != want {
			t.Errorf("operations%s: %q, want %q", query, got.String(), want)
		}
	}
	if next := s.get("/scoria/v1/operations?limit=2").obj()["next"]; next != string(ops[1]) {
		t.Errorf("next = %v, want %s", next, ops[1])
	}
	if _, there := s.get("/scoria/v1/operations").obj()["next"]; there {
		t.Error("a whole list has a next")
	}
	op := s.get("/scoria/v1/operations/" + string(ops[2])).want(200).in("operation")
	if op["phase"] != "undone" || op["ended"] != true || op["kind"] != "volume.create" || op["project"] != "p1" || !strings.Contains(op["error"].(string), admittest.ErrTest.Error()) || len(op["claims"].([]any)) != 1 {
		t.Errorf("show: %v", op)
	}
	// A request without a token is let in: it is the admin of the project admin.
	if got := s.send(request{line: "GET /scoria/v1/operations", token: "-"}).want(200).list("operations"); len(got) != 0 {
		t.Errorf("operations of project admin: %v", got)
	}
	s.get("/scoria/v1/operations/"+missing).own(404, messages.CodeNotFound, missing)
	s.get("/scoria/v1/operations/x.y").own(404, messages.CodeNotFound, "x.y")
	s.get("/scoria/v1/operations?kind=x").own(400, messages.CodeInvalid, "kind")
	s.get("/scoria/v1/operations?phase=foo").own(400, messages.CodeInvalid, "phase: 'foo' is not one of [queued granted running")
	s.get("/scoria/v1/operations?project=").own(400, messages.CodeInvalid, "project")
	s.get("/scoria/v1/operations?limit=0").own(400, messages.CodeInvalid, "limit")
	s.get("/scoria/v1/operations?colour=x").own(400, messages.CodeInvalid, "colour")
	s.get("/scoria/v1/nothing").own(404, messages.CodeNotFound, "")
}

func TestWaitingForAnOperation(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	op := s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202).operation()
	path := "/scoria/v1/operations/" + string(op) + "/wait"
	if got := s.get(path + "?timeout=1ms").want(200).in("operation")["ended"]; got != false {
		t.Errorf("ended = %v before it was", got)
	}
	s.get(path+"?timeout=soon").own(400, messages.CodeInvalid, "timeout")
	ended := make(chan answer)
	go func() { ended <- s.get(path) }()
	s.endOperation(op, admittest.Succeed)
	if got := (<-ended).want(200).in("operation")["phase"]; got != "done" {
		t.Errorf("phase %v, want done", got)
	}
}

// TestFollowingAnOperationSendsItsStates reads server-sent events.
func TestFollowingAnOperationSendsItsStates(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	op := s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202).operation()
	resp, err := http.Get(s.url + "/scoria/v1/operations/" + string(op) + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	var phases []string
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e struct{ Operation messages.Operation }
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if phases = append(phases, e.Operation.Phase); len(phases) == 1 {
			s.endOperation(op, admittest.Succeed)
		}
	}
	if len(phases) < 2 || phases[0] != "granted" || phases[len(phases)-1] != "done" {
		t.Errorf("phases %v, want granted … done", phases)
	}
}

func TestOperatorsHelpStuckOperations(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	a := s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202)
	op := string(a.operation())
	verb := func(verb string, body any) answer { return s.post("/scoria/v1/operations/"+op+"/"+verb, body) }
	verb("abandon", map[string]any{}).own(400, messages.CodeInvalid, "why")
	verb("abandon", map[string]any{"reason": 5}).own(400, messages.CodeInvalid, "reason")
	verb("abandon", map[string]any{"cause": "x"}).own(400, messages.CodeInvalid, "reason")
	verb("abandon", map[string]any{"reason": strings.Repeat("x", 2000)}).own(400, messages.CodeInvalid, "at most 750")
	verb("abandon", map[string]any{"reason": strings.Repeat("x", 750)}).own(409, messages.CodeConflict, "only a stuck one can be abandoned")
	verb("abandon", map[string]any{"reason": "x"}).own(409, messages.CodeConflict, "only a stuck one can be abandoned")
	verb("resume", nil).own(409, messages.CodeConflict, "not stuck")
	s.post("/scoria/v1/operations/"+missing+"/resume", nil).own(404, messages.CodeNotFound, missing)
	s.endOperation(a.operation(), admittest.Stick)
	locks := s.get("/scoria/v1/locks/volume." + a.in("volume")["id"].(string)).want(200).list("locks")
	if h := locks[0]["holders"].([]any)[0].(map[string]any); h["phase"] != "stuck" || !strings.Contains(h["released_by"].(string), "scoria operation resume "+op) {
		t.Errorf("lock of a stuck operation: %v", h)
	}
	if got := verb("resume", map[string]any{}).want(202).operation(); string(got) != op {
		t.Errorf("operation %s", got)
	}
	s.endOperation(a.operation(), admittest.Stick)
	verb("abandon", map[string]any{"reason": "the disk is gone"}).want(202)
	s.until("the operation has ended", func() bool {
		return s.get("/scoria/v1/operations/" + op).in("operation")["ended"] == true
	})
	if got := s.get("volumes/" + a.in("volume")["id"].(string)).in("volume")["status"]; got != "error" {
		t.Errorf("status %v, want error", got)
	}
	// Cancel is a wish.
	a = s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202)
	op = string(a.operation())
	verb("cancel", map[string]any{"reason": "not needed"}).want(202)
	s.until("the wish is shown", func() bool {
		c, ok := s.get("/scoria/v1/operations/" + op).in("operation")["cancel"].(map[string]any)
		return ok && c["by"] == "alice: not needed"
	})
}

func TestAnAdminBreaksALock(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	a := s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202)
	op, volume := string(a.operation()), a.in("volume")["id"].(string)
	line := "POST /scoria/v1/locks/volume." + volume + "/break"
	brk := func(body any) answer { return s.send(request{line: line, token: "admin:p2", body: body}) }
	brk(nil).own(400, messages.CodeInvalid, "why")
	brk(map[string]any{"reason": 5}).own(400, messages.CodeInvalid, "The body is")
	brk(map[string]any{"reason": "x", "force": "yes"}).own(400, messages.CodeInvalid, "The body is")
	brk(map[string]any{"reason": "x", "cause": "y"}).own(400, messages.CodeInvalid, "The body is")
	brk(map[string]any{"reason": strings.Repeat("x", 751)}).own(400, messages.CodeInvalid, "at most 750")
	brk(map[string]any{"reason": "x", "operation": "../x"}).own(404, messages.CodeNotFound, "../x")
	brk(map[string]any{"reason": "x", "operation": missing}).own(409, messages.CodeConflict, "does not hold")
	brk(map[string]any{"reason": "x"}).own(409, messages.CodeConflict, "or break it with --force (\"force\": true)")
	s.send(request{line: "POST /scoria/v1/locks/nonsense/break", token: "admin:p2", body: map[string]any{"reason": "x"}}).own(400, messages.CodeInvalid, "is no key of a lock")
	s.send(request{line: "POST /scoria/v1/locks/" + missing + "/break", token: "admin:p2", body: map[string]any{"reason": "x"}}).own(409, messages.CodeConflict, "nobody holds")
	// By the volume's ID; the longest reason fits.
	reason := strings.Repeat("x", 750)
	got := s.send(request{line: "POST /scoria/v1/locks/" + volume + "/break", token: "admin:p2", body: map[string]any{"reason": reason, "force": true}}).want(200)
	shown := got.in("operation")
	if string(got.operation()) != op || shown["id"] != op || shown["phase"] != "void" || shown["ended"] != true || shown["error"] != "broken: admin: "+reason {
		t.Errorf("broken: %s", got.body)
	}
	if audit := shown["audit"].([]any)[0].(map[string]any); audit["action"] != "break" || audit["reason"] != "admin: "+reason || audit["at"] == nil || audit["phase"] != "granted" {
		t.Errorf("audit %v", audit)
	}
	if got := s.get("volumes/" + volume).in("volume")["status"]; got != "error" {
		t.Errorf("status %v, want error", got)
	}
}

func TestLocksAreExplained(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	volume := s.newVolume(nil)
	snapshot := s.newSnapshot(volume, nil)
	clone := s.post("volumes", map[string]any{"volume": map[string]any{"snapshot_id": snapshot}}).want(202)
	op := string(clone.operation())
	all := s.get("/scoria/v1/locks").want(200).list("locks")
	if len(all) != 2 {
		t.Fatalf("locks: %v", all)
	}
	for _, key := range []string{snapshot, "snapshot." + snapshot} {
		l := s.get("/scoria/v1/locks/" + key).want(200).list("locks")
		if len(l) != 1 || l[0]["key"] != "snapshot."+snapshot || l[0]["mode"] != "shared" || len(l[0]["waiting"].([]any)) != 0 {
			t.Fatalf("%s: %v", key, l)
		}
		h := l[0]["holders"].([]any)[0].(map[string]any)
		for field, want := range map[string]any{"operation": op, "kind": "volume.create", "mode": "shared", "project": "p1", "phase": "granted",
			"resource": clone.in("volume")["id"], "attempt": 0.0, "epoch": 0.0} {
			if h[field] != want {
				t.Errorf("%s: %s = %v, want %v", key, field, h[field], want)
			}
		}
		if !strings.Contains(h["released_by"].(string), "no worker has begun") || h["since"] == "" {
			t.Errorf("%s: %v", key, h)
		}
	}
	if l := s.get("/scoria/v1/locks/" + volume).want(200).list("locks"); len(l) != 0 {
		t.Errorf("locks of the volume: %v, want none", l)
	}
	s.get("/scoria/v1/locks/"+missing).own(404, messages.CodeNotFound, missing)
	s.get("/scoria/v1/locks/quota.p1").own(400, messages.CodeInvalid, "no key of a lock")
	// The refusal of the delete names the same operation.
	a := s.send(request{line: "DELETE snapshots/" + snapshot}).fault(400, "Invalid snapshot: Snapshot "+snapshot+" is being read by volume.create, operation "+op+"…")
	if string(a.operation()) != op {
		t.Errorf("the refusal names operation %s, want %s", a.operation(), op)
	}
}

// verifier answers what it is told.
type verifier struct {
	report verify.Report
	err    error
}

func (v *verifier) Verify(context.Context) (verify.Report, error) { return v.report, v.err }

func TestVerifyHealthAndInventory(t *testing.T) {
	t.Parallel()
	v := &verifier{report: verify.Report{Checked: map[string]int{"volumes": 3}, Differences: []verify.Difference{{Kind: "quota", Subject: "quota.p1", Text: "x"}}}}
	var ready atomic.Bool
	s := newStack(t, func(c *Config) {
		c.Verifier = v
		c.Ready = func() error {
			if ready.Load() {
				return nil
			}
			return errors.New("not caught up")
		}
	})
	s.send(request{line: "GET /healthz", token: "-"}).want(200)
	s.send(request{line: "GET /readyz", token: "-"}).own(503, messages.CodeUnavailable, "not caught up")
	s.get("volumes").fault(503, "The API node is starting: not caught up")
	s.get("/scoria/v1/locks").own(503, messages.CodeUnavailable, "starting")
	s.get("/").want(300)
	ready.Store(true)
	s.send(request{line: "GET /readyz", token: "-"}).want(200)
	ready.Store(false)
	s.get("volumes").want(200) // it was ready once: it answers with what it knows
	s.send(request{line: "GET /readyz", token: "-"}).want(503)
	s.send(request{line: "DELETE /healthz"}).want(405)

	for _, method := range []string{"GET", "POST"} {
		got := string(s.send(request{line: method + " /scoria/v1/verify"}).want(200).body)
		if want := `{"clean":false,"differences":[{"kind":"quota","subject":"quota.p1","text":"x"}],"checked":{"volumes":3}}`; got != want {
			t.Errorf("verify = %s, want %s", got, want)
		}
	}
	v.err = errors.New("no node answers")
	s.get("/scoria/v1/verify").own(503, messages.CodeUnavailable, "no node answers")
	v.err = nil

	if got := s.get("/scoria/v1/version").want(200).obj()["release"]; got != "test" {
		t.Errorf("release %v", got)
	}
	if n := s.get("/scoria/v1/nodes").want(200).list("nodes"); len(n) != 1 || n[0]["name"] != "n1" {
		t.Errorf("nodes %v", n)
	}
	if b := s.get("/scoria/v1/backends").want(200).list("backends"); len(b) != 1 || b[0]["name"] != "b1" || b[0]["node"] != "n1" || b[0]["zone"] != "nova" {
		t.Errorf("backends %v", b)
	}
	if p := s.get("/scoria/v1/pools").want(200).list("pools"); len(p) != 1 || p[0]["backend"] != "b1" || p[0]["total_bytes"] != -1.0 {
		t.Errorf("pools %v", p)
	}
}

// TestShutdownAnswersLongWaitsAtOnce ends the server while requests wait for an operation that will not end.
func TestShutdownAnswersLongWaitsAtOnce(t *testing.T) {
	t.Parallel()
	var waiting atomic.Int32
	s := newStack(t, func(c *Config) {
		c.Reader = &countingReader{Reader: c.Reader, waiting: &waiting}
	})
	volume := s.newVolume(nil)
	answers := make(chan answer)
	go func() {
		answers <- s.post("attachments", `{"attachment": {"volume_uuid": "`+volume+`", "connector": `+connector+`}}`)
	}()
	op := s.liveOperation(block.VolumeAttach)
	go func() { answers <- s.get("/scoria/v1/operations/" + string(op) + "/wait?timeout=60s") }()
	s.until("both wait", func() bool { return waiting.Load() == 2 })
	begun := time.Now()
	s.stop()
	for range 2 {
		a := <-answers
		if a.status != 503 && a.status != 200 || !strings.Contains(string(a.body), string(op)) {
			t.Errorf("%s: %d %s", a.what, a.status, a.body)
		}
		if a.status == 503 && !strings.Contains(string(a.body), "this node is ending. The operation goes on; repeat the request to another node") {
			t.Errorf("%s: %s, want it said that the node is ending", a.what, a.body)
		}
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the shutdown took %s", took)
	}
}
