package integration

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/integration/harness"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/client"
)

func connect(t *testing.T, s *harness.Stack) (*nats.Conn, *client.Client) {
	t.Helper()
	nc, err := nats.Connect(s.NATSURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c, err := client.New(nc, s.Project, client.WithUser("test"))
	if err != nil {
		t.Fatal(err)
	}
	return nc, c
}

func code(err error) messages.Code {
	var e *messages.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestMessagesTakeTheSameWayAsHTTP(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--quota", "volumes=2")
	_, c := connect(t, s)
	ctx := t.Context()
	id := client.NewID()
	req := &messages.CreateVolume{Name: "disk", SizeGiB: 1}
	first, err := c.Submit(ctx, id, req)
	if err != nil || first.ID != id {
		t.Fatalf("submit: %+v, %v", first, err)
	}
	again, err := c.Submit(ctx, id, req)
	if err != nil || again.ID != id || again.Resource != first.Resource {
		t.Errorf("the same again: %+v, %v; want operation %s of %s", again, err, id, first.Resource)
	}
	if _, err := c.Submit(ctx, id, &messages.CreateVolume{Name: "other", SizeGiB: 1}); code(err) != messages.CodeReused {
		t.Errorf("another request under the same ID: %v", err)
	}
	op, err := c.Wait(ctx, id)
	if err != nil || op.Phase != "done" {
		t.Fatalf("wait: %+v, %v", op, err)
	}
	if v := s.Get(t, first.Resource); v.Status != "available" || v.Name != "disk" {
		t.Errorf("over HTTP it is %+v", v)
	}
	if ended, err := c.Submit(ctx, id, req); err != nil || ended.ID != id || !ended.Ended {
		t.Errorf("the same again after its end: %+v, %v", ended, err)
	}
	snap, err := c.Submit(ctx, client.NewID(), &messages.CreateSnapshot{Volume: block.VolumeID(first.Resource)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Watch(ctx, snap.ID, func(messages.Operation) {}); err != nil {
		t.Fatal(err)
	}
	// A refusal has the same text as over HTTP.
	_, err = c.Submit(ctx, client.NewID(), &messages.DeleteVolume{Volume: block.VolumeID(first.Resource)})
	ans := s.Must(t, http.StatusBadRequest, http.MethodDelete, "/volumes/"+first.Resource, nil, nil)
	if _, _, text := ans.Fault(); code(err) != messages.CodeInvalidVolume || err.Error() != text {
		t.Errorf("refused with %q, over HTTP with %q", err, text)
	}
	for name, c2 := range map[string]struct {
		req  messages.Request
		want messages.Code
	}{
		"no such volume":   {&messages.DeleteVolume{Volume: "00000000-0000-4000-8000-000000000000"}, messages.CodeNotFound},
		"no such snapshot": {&messages.CreateVolume{FromSnapshot: "00000000-0000-4000-8000-000000000000"}, messages.CodeNotFound},
	} {
		if _, err := c.Submit(ctx, client.NewID(), c2.req); code(err) != c2.want {
			t.Errorf("%s: %v, want %s", name, err, c2.want)
		}
	}
	if _, err := c.Submit(ctx, client.NewID(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Submit(ctx, client.NewID(), req); code(err) != messages.CodeQuota {
		t.Errorf("beyond the quota: %v", err)
	}
	if _, err := c.Get(ctx, client.NewID()); code(err) != messages.CodeNotFound {
		t.Errorf("get of nothing: %v", err)
	}
	s.Idle(t)
	s.VerifyClean(t)
}

// What cannot be read gets a reply that says why, and changes nothing.
func TestForeignMessagesAreRefusedInWords(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null")
	nc, _ := connect(t, s)
	good := func(change func(*messages.Envelope)) []byte {
		e := messages.Envelope{V: 1, Sent: time.Now().UTC(), Request: messages.Encode(&messages.CreateVolume{SizeGiB: 1})}
		change(&e)
		return messages.Encode(e)
	}
	create := messages.SubmitSubject("demo", block.VolumeCreate)
	for name, c := range map[string]struct {
		subject string
		data    []byte
		want    messages.Code
	}{
		"JSON":             {create, []byte(`{"size":1}`), messages.CodeInvalid},
		"empty":            {create, nil, messages.CodeInvalid},
		"cut":              {create, good(func(*messages.Envelope) {})[:20], messages.CodeInvalid},
		"a huge length":    {create, []byte{0xdf, 0xff, 0xff, 0xff, 0xff}, messages.CodeInvalid},
		"too large":        {create, bytes.Repeat([]byte{0x80}, 900_000), messages.CodeTooLarge},
		"newer envelope":   {create, good(func(e *messages.Envelope) { e.V = 2 }), messages.CodeUnsupported},
		"newer request":    {create, good(func(e *messages.Envelope) { e.RequestVersion = 2 }), messages.CodeUnsupported},
		"unknown kind":     {"scoria.v1.submit.demo.volume.explode", good(func(*messages.Envelope) {}), messages.CodeUnsupported},
		"no kind":          {"scoria.v1.submit.demo", good(func(*messages.Envelope) {}), messages.CodeInvalid},
		"operation ID":     {create, good(func(e *messages.Envelope) { e.Operation = "x.>" }), messages.CodeInvalid},
		"unknown policy":   {create, good(func(e *messages.Envelope) { e.OnConflict = "fight" }), messages.CodeInvalid},
		"too old":          {create, good(func(e *messages.Envelope) { e.Sent = time.Now().Add(-13 * time.Hour) }), messages.CodeInvalid},
		"from the future":  {create, good(func(e *messages.Envelope) { e.Sent = time.Now().Add(time.Hour) }), messages.CodeInvalid},
		"no size":          {create, good(func(e *messages.Envelope) { e.Request = messages.Encode(&messages.CreateVolume{}) }), messages.CodeInvalid},
		"size −1":          {create, good(func(e *messages.Envelope) { e.Request = messages.Encode(&messages.CreateVolume{SizeGiB: -1}) }), messages.CodeInvalid},
		"a request no map": {create, good(func(e *messages.Envelope) { e.Request = messages.Encode(7) }), messages.CodeInvalid},
		"name of 300": {create, good(func(e *messages.Envelope) {
			e.Request = messages.Encode(&messages.CreateVolume{SizeGiB: 1, Name: strings.Repeat("x", 300)})
		}), messages.CodeInvalid},
		"a question of junk": {messages.GetSubject("demo"), []byte{0xc1}, messages.CodeInvalid},
	} {
		msg, err := nc.Request(c.subject, c.data, 10*time.Second)
		if err != nil {
			if c.subject == "scoria.v1.submit.demo" { // not a subject of the protocol: nobody answers
				continue
			}
			t.Errorf("%s: %v", name, err)
			continue
		}
		var r messages.Reply
		if err := messages.Decode(msg.Data, &r); err != nil || r.Error == nil {
			t.Errorf("%s: reply %+v, %v", name, r, err)
			continue
		}
		if r.Error.Code != c.want || r.Error.Message == "" {
			t.Errorf("%s: %s %q, want %s", name, r.Error.Code, r.Error.Message, c.want)
		}
	}
	var out struct{ Volumes []harness.Volume }
	s.Must(t, http.StatusOK, http.MethodGet, "/volumes", nil, &out)
	if len(out.Volumes) != 0 {
		t.Errorf("refused messages made volumes: %+v", out.Volumes)
	}
	s.VerifyClean(t)
}

// A client whose submit is cut off by a kill sends it again under the same ID: it runs once.
func TestASubmitThatWasCutOffRunsOnce(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null:delay=20ms", "--quota", "volumes=-1,gigabytes=-1")
	_, c := connect(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const n = 40
	var wg sync.WaitGroup
	resources := make([]string, n)
	begun := make(chan struct{}, n)
	for i := range n {
		wg.Go(func() {
			id := client.NewID()
			begun <- struct{}{}
			for ctx.Err() == nil {
				op, err := c.Submit(ctx, id, &messages.CreateVolume{SizeGiB: 1})
				if code(err) == messages.CodeUnavailable || err != nil && code(err) == "" {
					continue // the node is gone or starting: under the same ID it may be sent again
				}
				if err != nil {
					t.Errorf("submit %d: %v", i, err)
					return
				}
				if op, err = wait(ctx, c, op.ID); err != nil || op.Phase != "done" {
					t.Errorf("submit %d ended %+v, %v", i, op, err)
				}
				resources[i] = op.Resource
				return
			}
		})
		if i == n/2 {
			<-begun
			s.Kill()
			s.Start(t)
		}
	}
	wg.Wait()
	seen := map[string]bool{}
	for i, r := range resources {
		if r == "" || seen[r] {
			t.Errorf("submit %d made volume %q, which is none or another one's", i, r)
		}
		seen[r] = true
	}
	var out struct{ Volumes []harness.Volume }
	s.Must(t, http.StatusOK, http.MethodGet, "/volumes", nil, &out)
	if len(out.Volumes) != n {
		t.Errorf("%d volumes, want %d", len(out.Volumes), n)
	}
	s.VerifyClean(t)
}

// wait is Wait that goes on over restarts of the server.
func wait(ctx context.Context, c *client.Client, id block.OperationID) (messages.Operation, error) {
	for {
		op, err := c.Wait(ctx, id)
		if err == nil || ctx.Err() != nil || code(err) != "" && code(err) != messages.CodeUnavailable {
			return op, err
		}
	}
}

func TestTheExampleProgramRuns(t *testing.T) {
	t.Parallel()
	s := harness.Up(t)
	cmd := exec.CommandContext(t.Context(), "go", "run", "github.com/scoria-storage/scoria/messages/client/example", s.NATSURL())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
	if got := strings.Count(out.String(), " done\n"); got != 6 {
		t.Errorf("printed %s, want six operations that are done", out.String())
	}
	s.VerifyClean(t)
}
