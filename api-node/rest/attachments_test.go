package rest

import (
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/messages/block"
)

const (
	server    = "11111111-1111-4111-8111-111111111111"
	connector = `{"host": "h1", "ip": "10.0.0.1", "mountpoint": "/dev/vdb"}`
)

// newWorkedVolume makes an available volume where s.work() runs.
func (s *stack) newWorkedVolume() string {
	s.t.Helper()
	id := s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202).in("volume")["id"].(string)
	s.until("the volume is available", func() bool { return s.get("volumes/" + id).in("volume")["status"] == "available" })
	return id
}

// attached attaches the volume and returns it.
func (s *stack) attached(volume string) string {
	s.t.Helper()
	a := s.post("attachments", `{"attachment": {"volume_uuid": "`+volume+`", "instance_uuid": "`+server+`", "connector": `+connector+`}}`).want(200)
	s.post("attachments/"+a.in("attachment")["id"].(string)+"/action", map[string]any{"os-complete": nil}).want(204)
	return volume
}

func TestAttachmentsNeedTheirMicroversion(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for _, line := range []string{"GET attachments", "GET attachments/detail", "POST attachments", "PUT attachments/" + missing, "DELETE attachments/" + missing} {
		s.send(request{line: line, mv: "3.26", body: map[string]any{}}).fault(404, "The resource could not be found.")
	}
	s.send(request{line: "POST attachments/" + missing + "/action", mv: "3.43", body: map[string]any{"os-complete": nil}}).fault(404, "The resource could not be found.")
	s.send(request{line: "POST attachments", mv: "3.53", body: map[string]any{"attachment": map[string]any{"volume_uuid": missing, "mode": "ro"}}}).
		fault(400, "Invalid input for field/attribute attachment. Value: {'mode': 'ro', 'volume_uuid': '"+missing+"'}. Additional properties are not allowed ('mode' was unexpected)")
}

func TestAttachmentIsReservedConnectedCompletedAndDeleted(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.work()
	volume := s.newWorkedVolume()
	a := s.send(request{line: "POST attachments", mv: "3.54", body: map[string]any{"attachment": map[string]any{
		"volume_uuid": volume, "instance_uuid": server, "connector": nil, "mode": "ro"}}}).want(200).in("attachment")
	id := a["id"].(string)
	if a["status"] != "reserved" || a["instance"] != server || a["volume_id"] != volume || a["attach_mode"] != "ro" || a["attached_at"] != "" ||
		len(a["connection_info"].(map[string]any)) != 0 || keysOf(a) != "attach_mode attached_at connection_info detached_at id instance status volume_id" {
		t.Errorf("reserved: %v", a)
	}
	status := func() any { return s.get("volumes/" + volume).in("volume")["status"] }
	if status() != "reserved" {
		t.Errorf("volume %v, want reserved", status())
	}
	update := func() map[string]any {
		return s.send(request{line: "PUT attachments/" + id, mv: "3.44", body: `{"attachment": {"connector": ` + connector + `}}`}).want(200).in("attachment")
	}
	a = update()
	info := a["connection_info"].(map[string]any)
	if a["status"] != "attaching" || info["driver_volume_type"] != "nbd" || info["export"] != id || info["attachment_id"] != id || info["access_mode"] != "ro" {
		t.Errorf("connected: %v", a)
	}
	if again := update(); again["status"] != "attaching" {
		t.Errorf("repeated: %v", again)
	}
	complete := func() answer {
		return s.send(request{line: "POST attachments/" + id + "/action", mv: "3.44", body: `{"os-complete": null}`})
	}
	if got := complete().want(http.StatusNoContent); len(got.body) != 0 {
		t.Errorf("complete has a body: %s", got.body)
	}
	complete().want(http.StatusNoContent)
	if status() != "in-use" {
		t.Errorf("volume %v, want in-use", status())
	}
	at := s.get("volumes/detail").list("volumes")[0]["attachments"].([]any)[0].(map[string]any)
	for field, want := range map[string]any{"attachment_id": id, "volume_id": volume, "id": volume, "server_id": server, "host_name": "h1", "device": "/dev/vdb"} {
		if at[field] != want {
			t.Errorf("attachments of the volume: %s = %v, want %v", field, at[field], want)
		}
	}
	if shown := s.get("attachments/" + id).want(200).in("attachment"); shown["status"] != "attached" || shown["attached_at"] == "" {
		t.Errorf("show: %v", shown)
	}
	other := s.send(request{line: "POST attachments", mv: "3.27", body: map[string]any{"attachment": map[string]any{"volume_uuid": volume, "instance_uuid": server}}}).want(200).in("attachment")["id"].(string)
	rest := s.send(request{line: "DELETE attachments/" + id, mv: "3.27"}).want(200).list("attachments")
	if len(rest) != 1 || rest[0]["id"] != other || keysOf(rest[0]) != "id instance status volume_id" {
		t.Errorf("delete left %v, want %s", rest, other)
	}
	if left := s.send(request{line: "DELETE attachments/" + other, mv: "3.27"}).want(200).list("attachments"); len(left) != 0 {
		t.Errorf("delete left %v", left)
	}
	if status() != "available" {
		t.Errorf("volume %v, want available", status())
	}
	s.get("attachments/"+id).fault(404, "Volume attachment could not be found with filter: attachment_id = "+id+".")
	s.send(request{line: "DELETE attachments/" + id, mv: "3.27"}).fault(404, "Volume attachment could not be found with filter: attachment_id = "+id+".")
	s.send(request{line: "PUT attachments/x", mv: "3.27", body: `{"attachment": {"connector": {"a": 1}}}`}).fault(404, "Volume attachment could not be found with filter: attachment_id = x.")
}

func TestAttachmentsAreListed(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.work()
	v1, v2 := s.newWorkedVolume(), s.newWorkedVolume()
	first := s.post("attachments", map[string]any{"attachment": map[string]any{"volume_uuid": v1, "instance_uuid": server}}).want(200).in("attachment")["id"].(string)
	second := s.post("attachments", `{"attachment": {"volume_uuid": "`+v2+`", "connector": `+connector+`}}`).want(200).in("attachment")["id"].(string)
	for query, want := range map[string][]string{
		"": {second, first}, "?sort=created_at:asc": {first, second}, "?limit=1": {second}, "?marker=" + second: {first}, "?offset=1": {first},
		"?volume_id=" + v1: {first}, "?instance_id=" + server: {first}, "?status=attaching": {second}, "?attach_status=reserved": {first}, "?nonsense=1": nil,
		"?all_tenants=1&project_id=p1": {second, first}, "?all_tenants=1&project_id=p2": nil, "/detail?volume_id=" + v2: {second},
	} {
		if got := s.get("attachments" + query).want(200).ids("attachments"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if got := keysOf(s.get("attachments").list("attachments")[0]); got != "id instance status volume_id" {
		t.Errorf("list has %s", got)
	}
	if got := keysOf(s.get("attachments/detail").list("attachments")[0]); got != "attach_mode attached_at connection_info detached_at id instance status volume_id" {
		t.Errorf("detail has %s", got)
	}
	if got := s.get("attachments").list("attachments")[0]["instance"]; got != nil {
		t.Errorf("instance of an attachment without one: %v, want null", got)
	}
	s.get("attachments?marker="+missing).fault(404, "Volume attachment could not be found with filter: attachment_id = "+missing+".")
}

func TestALongAttachIsA503ThatNamesTheOperationAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *Config) { c.AttachWait = time.Second })
	volume := s.newVolume(nil)
	id := s.post("attachments", map[string]any{"attachment": map[string]any{"volume_uuid": volume, "instance_uuid": server}}).want(200).in("attachment")["id"].(string)
	put := func() answer {
		return s.send(request{line: "PUT attachments/" + id, mv: "3.44", body: `{"attachment": {"connector": ` + connector + `}}`})
	}
	first := put()
	op := first.operation()
	first.fault(503, "Operation "+string(op)+" has not ended within 1s. It goes on; repeat the request to wait for its end.")
	if first.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	answers := make(chan answer)
	for range 2 { // two clients repeat it at the same time
		go func() { answers <- put() }()
	}
	s.endOperation(op, admittest.Succeed)
	for range 2 {
		a := (<-answers).want(200)
		if got := a.in("attachment")["status"]; got != "attaching" {
			t.Errorf("repeated: %v", got)
		}
	}
	// The same for the detach.
	del := func() answer { return s.send(request{line: "DELETE attachments/" + id, mv: "3.44"}) }
	first = del().want(503)
	if again := del().want(503); again.operation() != first.operation() {
		t.Errorf("repeated delete: operation %s, want %s", again.operation(), first.operation())
	}
	go func() { answers <- del() }()
	s.endOperation(first.operation(), admittest.Succeed)
	if a := <-answers; a.status != 200 && a.status != 404 {
		t.Errorf("repeated delete: %d %s", a.status, a.body)
	}
}

func TestAnAttachThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	volume := s.newVolume(nil)
	for _, outcome := range []admittest.Outcome{admittest.Fail, admittest.Stick} {
		answers := make(chan answer)
		go func() {
			answers <- s.post("attachments", `{"attachment": {"volume_uuid": "`+volume+`", "instance_uuid": "`+server+`", "connector": `+connector+`}}`)
		}()
		op := s.liveOperation(block.VolumeAttach)
		if err := s.worker.End(t.Context(), op, outcome); err != nil {
			t.Fatal(err)
		}
		text := "Operation " + string(op) + " (volume.attach) ended without doing what was asked: …"
		if outcome == admittest.Stick {
			text = "Operation " + string(op) + " (volume.attach) is stuck at step finish and waits for an operator: …"
		}
		a := (<-answers).fault(503, text)
		if a.operation() != op {
			t.Errorf("operation %s, want %s", a.operation(), op)
		}
		volume = s.newVolume(nil)
	}
}

// liveOperation waits for an operation of the kind that no worker has begun.
func (s *stack) liveOperation(kind block.Kind) (id block.OperationID) {
	s.t.Helper()
	s.until("a "+string(kind)+" is accepted", func() bool {
		for op := range s.view.Live() {
			if op.Kind == kind && op.Phase == "granted" {
				id = op.ID
				return true
			}
		}
		return false
	})
	return id
}

func TestBadAttachmentsChangeNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	volume := s.newVolume(nil)
	before := s.bucket()
	s.post("attachments", map[string]any{"attachment": map[string]any{"volume_uuid": missing}}).fault(404, "Volume "+missing+" could not be found.")
	s.post("attachments", map[string]any{"attachment": map[string]any{"volume_uuid": "x"}}).fault(400, "Invalid input for field/attribute volume_uuid. Value: x. 'x' is not a 'uuid'")
	s.post("attachments", `{"attachment": {"volume_uuid": "`+volume+`", "connector": []}}`).fault(400, "Invalid input for field/attribute connector. Value: []. [] is not of type 'object', 'null'")
	s.send(request{line: "PUT attachments/" + missing, mv: "3.44", body: `{"attachment": {"connector": {}}}`}).
		fault(400, "Invalid input for field/attribute connector. Value: {}. {} does not have enough properties")
	if s.bucket() != before {
		t.Error("refused requests changed records")
	}
}

// TestAnUpdateThatWasDoneMeanwhileIsNoError gives the second of two equal updates a look at the attachment from before the first.
func TestAnUpdateThatWasDoneMeanwhileIsNoError(t *testing.T) {
	t.Parallel()
	var old atomic.Pointer[view.Attachment]
	s := newStack(t, func(c *Config) { c.Reader = &oldReader{c.Reader, &old} })
	s.work()
	volume := s.newWorkedVolume()
	id := s.post("attachments", map[string]any{"attachment": map[string]any{"volume_uuid": volume, "instance_uuid": server}}).want(200).in("attachment")["id"].(string)
	reserved, _ := s.view.Attachment(block.AttachmentID(id))
	put := func(connector string) answer {
		return s.send(request{line: "PUT attachments/" + id, mv: "3.44", body: `{"attachment": {"connector": ` + connector + `}}`})
	}
	put(connector).want(200)
	old.Store(reserved)
	if a := put(connector).want(200); a.in("attachment")["status"] != "attaching" {
		t.Errorf("%s", a.body)
	}
	old.Store(reserved)
	put(`{"host": "h2"}`).fault(400, "Invalid attachment: Attachment "+id+" is attaching already: its connector cannot be changed.")
}

// oldReader returns an old row once.
type oldReader struct {
	Reader
	old *atomic.Pointer[view.Attachment]
}

func (r *oldReader) Attachment(id block.AttachmentID) (*view.Attachment, bool) {
	if row := r.old.Swap(nil); row != nil {
		return row, true
	}
	return r.Reader.Attachment(id)
}
