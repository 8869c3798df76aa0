package rest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// TestBadInputIsRefusedInWordsAndChangesNothing is the table of what clients must not be able to do.
func TestBadInputIsRefusedInWordsAndChangesNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	volume := s.newVolume(map[string]any{"size": 2})
	snapshot := s.newSnapshot(volume, nil)
	long := strings.Repeat("n", 300)
	before := s.bucket()
	create := func(fields string) string { return `{"volume": {` + fields + `}}` }
	extend := func(size string) string { return `{"os-extend": {"new_size": ` + size + `}}` }
	type bad struct {
		line, mv, body string
		status         int
		text           string
	}
	cases := []bad{
		// Not JSON, or not the JSON that is wanted.
		{"POST volumes", "3.0", `{`, 400, "Malformed request body"},
		{"POST volumes", "3.0", `{} {}`, 400, "Malformed request body"},
		{"POST volumes", "3.0", `[]`, 400, "Malformed request body"},
		{"POST volumes", "3.0", `null`, 400, "Malformed request body"},
		{"POST volumes", "3.0", `"x"`, 400, "Malformed request body"},
		{"POST volumes", "3.0", "{\"volume\": {\"name\": \"\xff\"}}", 400, "Malformed request body"},
		{"POST volumes", "3.0", strings.Repeat(`{"a":`, 12000) + "1" + strings.Repeat("}", 12000), 400, "Malformed request body"},
		{"POST volumes", "3.0", `{}`, 400, "'volume' is a required property"},
		{"POST volumes", "3.0", `{"volume": null}`, 400, "Invalid input for field/attribute volume. Value: None. None is not of type 'object'"},
		{"POST volumes", "3.0", `{"volume": [], "x": 1}`, 400, "Invalid input for field/attribute volume. Value: []. [] is not of type 'object'"},
		{"POST volumes", "3.0", `{"volume": {"size": 1}, "x": 1}`, 400, "Additional properties are not allowed ('x' was unexpected)"},
		{"POST volumes", "3.0", `{"volume": {"size": 1}, "x": 1, "y": 2}`, 400, "Additional properties are not allowed ('x', 'y' were unexpected)"},
		// Sizes.
		{"POST volumes", "3.0", create(`"size": -1`), 400, "Invalid input for field/attribute size. Value: -1. -1 is less than the minimum of 1"},
		{"POST volumes", "3.0", create(`"size": 0`), 400, "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1"},
		{"POST volumes", "3.0", create(`"size": "0"`), 400, "Invalid input for field/attribute size. Value: 0. '0' is less than the minimum of 1"},
		{"POST volumes", "3.0", create(`"size": 1e18`), 400, "Invalid input for field/attribute size. Value: 1e+18. 1e+18 is not of type 'integer', 'string', 'null'"},
		{"POST volumes", "3.0", create(`"size": 1000000000000000000`), 400, "Invalid input for field/attribute size. Value: 1000000000000000000. 1000000000000000000 is greater than the maximum of 2147483647"},
		{"POST volumes", "3.0", create(`"size": "1000000000000000000"`), 400, "Invalid input for field/attribute size. Value: 1000000000000000000. '1000000000000000000' is greater than the maximum of 2147483647"},
		{"POST volumes", "3.0", create(`"size": 1.5`), 400, "Invalid input for field/attribute size. Value: 1.5. 1.5 is not of type 'integer', 'string', 'null'"},
		{"POST volumes", "3.0", create(`"size": 1.0`), 400, "Invalid input for field/attribute size. Value: 1.0. 1.0 is not of type 'integer', 'string', 'null'"},
		{"POST volumes", "3.0", create(`"size": "1.5"`), 400, "Invalid input for field/attribute size. Value: 1.5. '1.5' does not match '^[0-9]+$'"},
		{"POST volumes", "3.0", create(`"size": "ten"`), 400, "Invalid input for field/attribute size. Value: ten. 'ten' does not match '^[0-9]+$'"},
		{"POST volumes", "3.0", create(`"size": "-1"`), 400, "Invalid input for field/attribute size. Value: -1. '-1' does not match '^[0-9]+$'"},
		{"POST volumes", "3.0", create(`"size": true`), 400, "Invalid input for field/attribute size. Value: True. True is not of type 'integer', 'string', 'null'"},
		{"POST volumes", "3.0", create(`"size": {}`), 400, "Invalid input for field/attribute size. Value: {}. {} is not of type 'integer', 'string', 'null'"},
		{"POST volumes", "3.0", create(`"size": ` + strings.Repeat("9", 1000)), 400, "Invalid input for field/attribute size. Value: 999…"},
		{"POST volumes", "3.0", create(``), 400, "Invalid input received: Volume size 'None' must be an integer and greater than 0"},
		{"POST volumes", "3.0", create(`"size": null`), 400, "Invalid input received: Volume size 'None' must be an integer and greater than 0"},
		{"POST volumes", "3.0", create(`"size": 1, "source_volid": "` + volume + `"`), 400, "Invalid input received: Volume size '1'GB cannot be smaller than original volume size  2GB. They must be >= original volume size."},
		{"POST volumes", "3.0", create(`"size": 1, "snapshot_id": "` + snapshot + `"`), 400, "Invalid input received: Volume size '1'GB cannot be smaller than the snapshot size 2GB. They must be >= original snapshot size."},
		{"POST volumes/" + volume + "/action", "3.0", extend(`0`), 400, "Invalid input for field/attribute new_size. Value: 0. 0 is less than the minimum of 1"},
		{"POST volumes/" + volume + "/action", "3.0", extend(`1e18`), 400, "Invalid input for field/attribute new_size. Value: 1e+18. 1e+18 is not of type 'integer', 'string'"},
		{"POST volumes/" + volume + "/action", "3.0", extend(`null`), 400, "Invalid input for field/attribute new_size. Value: None. None is not of type 'integer', 'string'"},
		{"POST volumes/" + volume + "/action", "3.0", extend(`1`), 400, "Invalid input received: New size for extend must be greater than current size. (current: 2, extended: 1)."},
		{"POST volumes/" + volume + "/action", "3.0", `{"os-extend": {"new_size": 3, "x": 1}}`, 400, "Invalid input for field/attribute os-extend. Value: {'new_size': 3, 'x': 1}. Additional properties are not allowed ('x' was unexpected)"},
		{"POST volumes/" + volume + "/action", "3.0", `{"os-extend": {}}`, 400, "Invalid input for field/attribute os-extend. Value: {}. 'new_size' is a required property"},
		{"POST volumes/" + volume + "/action", "3.0", `{}`, 400, "Malformed request body"},
		{"POST volumes/" + volume + "/action", "3.0", `["os-extend"]`, 400, "Malformed request body"},
		{"POST volumes/" + missing + "/action", "3.0", extend(`5`), 404, "Volume " + missing + " could not be found."},
		// Names and texts.
		{"POST volumes", "3.0", create(`"size": 1, "name": "` + long + `"`), 400, "Invalid input received: name has 300 characters, more than 255."},
		{"POST volumes", "3.0", create(`"size": 1, "description": "` + long + `"`), 400, "Invalid input received: description has 300 characters, more than 255."},
		{"POST volumes", "3.0", create(`"size": 1, "name": 5`), 400, "Invalid input for field/attribute name. Value: 5. 5 is not of type 'string', 'null'"},
		{"POST volumes", "3.0", create(`"size": 1, "volume_type": "` + long + `"`), 400, "Invalid input for field/attribute volume_type. Value: nnn…"},
		{"POST volumes", "3.0", create(`"size": 1, "volume_type": "fast"`), 404, "Volume type with name fast could not be found."},
		{"POST volumes", "3.0", create(`"size": 1, "volume_type": "` + missing + `"`), 404, "Volume type " + missing + " could not be found."},
		{"POST volumes", "3.0", create(`"size": 1, "availability_zone": ""`), 400, "Invalid input for field/attribute availability_zone. Value: . '' is too short"},
		{"POST volumes", "3.0", create(`"size": 1, "availability_zone": "mars"`), 400, "Availability zone 'mars' is invalid."},
		{"POST volumes", "3.0", create(`"size": 1, "metadata": []`), 400, "Invalid input for field/attribute metadata. Value: []. [] is not of type 'object', 'null'"},
		{"POST volumes", "3.0", create(`"size": 1, "metadata": {"a": 1}`), 400, "Invalid input for field/attribute a. Value: 1. 1 is not of type 'string'"},
		{"POST volumes", "3.0", create(`"size": 1, "metadata": {"a": "` + long + `"}`), 400, "Invalid input for field/attribute a. Value: nnn…"},
		{"POST volumes", "3.0", create(`"size": 1, "metadata": {"": "x"}`), 400, "Invalid input for field/attribute metadata. Value: {'': 'x'}. '' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'"},
		{"POST volumes", "3.0", create(`"size": 1, "metadata": {"ä'": "x", "ö": "y"}`), 400, `Invalid input for field/attribute metadata. Value: {"ä'": 'x', 'ö': 'y'}. "ä'", 'ö' do not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'`},
		// Sources.
		{"POST volumes", "3.0", create(`"snapshot_id": "x"`), 400, "Invalid input for field/attribute snapshot_id. Value: x. 'x' is not valid under any of the given schemas"},
		{"POST volumes", "3.0", create(`"snapshot_id": 7`), 400, "Invalid input for field/attribute snapshot_id. Value: 7. 7 is not valid under any of the given schemas"},
		{"POST volumes", "3.0", create(`"snapshot_id": "` + missing + `"`), 404, "Snapshot " + missing + " could not be found."},
		{"POST volumes", "3.0", create(`"source_volid": "` + missing + `"`), 404, "Volume " + missing + " could not be found."},
		{"POST volumes", "3.0", create(`"source_volid": "` + volume + `", "snapshot_id": "` + snapshot + `"`), 400, "Invalid input received: a volume has one source at most, snapshot_id or source_volid"},
		{"POST volumes", "3.0", create(`"size": 1, "imageRef": "x"`), 501, "Creating a volume from an image (imageRef) is not implemented…"},
		{"POST volumes", "3.0", create(`"size": 1, "imageRef": ""`), 400, "Invalid image identifier or unable to access requested image."},
		{"POST volumes", "3.47", create(`"size": 1, "backup_id": "` + missing + `"`), 501, "Creating a volume from a backup (backup_id)…"},
		{"POST volumes", "3.13", create(`"size": 1, "group_id": "` + missing + `"`), 501, "Creating a volume in a group (group_id)…"},
		{"POST volumes", "3.0", create(`"size": 1, "consistencygroup_id": "` + missing + `"`), 501, "Creating a volume in a consistency group…"},
		{"POST volumes", "3.0", create(`"size": 1, "multiattach": "true"`), 400, "multiattach parameter has been removed…"},
		{"POST volumes", "3.0", create(`"size": 1, "multiattach": "perhaps"`), 400, "Invalid input for field/attribute multiattach…"},
		{"POST volumes", "3.0", `{"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": {"same_host": "x"}}`, 501, "Scheduler hints are not implemented…"},
		{"POST volumes", "3.53", create(`"size": 1, "color": "red"`), 400, "Invalid input for field/attribute volume. Value: {'color': 'red', 'size': 1}. Additional properties are not allowed ('color' was unexpected)"},
		{"POST volumes", "3.53", create(`"size": 1, "status": "available"`), 400, "Invalid input for field/attribute volume. Value: {'size': 1, 'status': 'available'}. Additional properties are not allowed ('status' was unexpected)"},
		// Snapshots.
		{"POST snapshots", "3.0", `{"snapshot": {}}`, 400, "Invalid input for field/attribute snapshot. Value: {}. 'volume_id' is a required property"},
		{"POST snapshots", "3.0", `{"snapshot": {"volume_id": null}}`, 404, "Volume None could not be found."},
		{"POST snapshots", "3.0", `{"snapshot": {"volume_id": "` + missing + `"}}`, 404, "Volume " + missing + " could not be found."},
		{"POST snapshots", "3.0", `{"snapshot": {"volume_id": "` + volume + `", "name": "` + long + `"}}`, 400, "Invalid input for field/attribute name. Value: nnn…"},
		{"POST snapshots", "3.0", `{"snapshot": {"volume_id": "` + volume + `", "description": "a\u0000b"}}`, 400, "Invalid input for field/attribute description…"},
		{"POST snapshots", "3.0", `{"snapshot": {"volume_id": "` + volume + `", "size": 1}}`, 400, "Invalid input for field/attribute snapshot…"},
		{"PUT snapshots/" + snapshot, "3.0", `{"snapshot": {}}`, 400, "Invalid input for field/attribute snapshot. Value: {}. {} is not valid under any of the given schemas"},
		{"PUT snapshots/" + snapshot, "3.0", `{"snapshot": {"status": "error"}}`, 400, "Invalid input for field/attribute snapshot…"},
		{"PUT snapshots/" + missing, "3.0", `{"snapshot": {"name": "x"}}`, 404, "Snapshot " + missing + " could not be found."},
		// Versions.
		{"POST volumes", "3.72", create(`"size": 1`), 406, "Version 3.72 is not supported by the API. Minimum is 3.0 and maximum is 3.71."},
		{"POST volumes", "three", create(`"size": 1`), 400, "API Version String three is of invalid format. Must be of format MajorNum.MinorNum."},
	}
	for _, c := range cases {
		s.send(request{line: c.line, mv: c.mv, body: c.body}).fault(c.status, c.text)
	}
	for _, c := range []struct {
		kind, body string
		status     int
		text       string
	}{
		{"text/plain", create(`"size": 1`), 415, "Unsupported Content-Type"},
		{"application/x-msgpack", "\x81\xa6volume\x80", 415, "Unsupported Content-Type"},
		{"application/json; charset=", create(`"size": 1`), 415, "Unsupported Content-Type"},
		{"-", create(`"size": 1`), 400, textNoBody},
		{"application/json", "", 400, textNoBody},
	} {
		s.send(request{line: "POST volumes", body: c.body, header: map[string]string{"Content-Type": c.kind}}).fault(c.status, c.text)
	}
	if after := s.bucket(); after != before {
		t.Errorf("refused requests changed the records from\n%s to\n%s", before, after)
	}
	// The same bodies with the right types are accepted.
	s.send(request{line: "POST volumes", body: create(`"size": 1, "color": "red"`), mv: "3.52", header: map[string]string{"Content-Type": "application/vnd.openstack.volume+json; charset=utf-8"}}).want(202)
}

func TestABodyOfTenMegabytesGetsItsAnswer(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	before := s.bucket()
	body := bytes.Repeat([]byte("x"), 10<<20)
	copy(body, `{"volume": {"name": "`)
	for _, path := range []string{"POST volumes", "PUT volumes/" + missing, "POST volumes/" + missing + "/action", "POST attachments", "POST /scoria/v1/operations/" + missing + "/abandon"} {
		a := s.send(request{line: path, body: string(body), mv: "3.71"}).want(http.StatusRequestEntityTooLarge)
		if !strings.Contains(string(a.body), "Request is too large. The body has more than 114688 bytes.") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	// A client that sends everything before it reads finds its answer, not a reset connection.
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := fmt.Sprintf("POST /v3/p1/volumes HTTP/1.1\r\nHost: x\r\nX-Auth-Token: alice:p1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	if _, err := conn.Write(append([]byte(head), body...)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "413") {
		t.Errorf("answer %q (%v), want 413", line, err)
	}
	// Without a length, too.
	req, err := http.NewRequest(http.MethodPost, s.url+"/v3/p1/volumes", io.MultiReader(bytes.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", "alice:p1")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("chunked: %d", resp.StatusCode)
	}
	if s.bucket() != before {
		t.Error("refused requests changed records")
	}
}

// FuzzBodiesNeverPanic sends bodies to all schemas.
func FuzzBodiesNeverPanic(f *testing.F) {
	for _, seed := range []string{`{"volume": {"size": 1}}`, `{"os-extend": {"new_size": "5"}}`, `{"snapshot": {"volume_id": "x"}}`, `{"attachment": {"connector": {}}}`,
		`{"volume": {"metadata": {"a": null}}}`, `{"volume":{"size":1e999}}`, `{"volume":{"multiattach":[]}}`} {
		f.Add([]byte(seed))
	}
	schemas := []*schema{createVolumeSchema, createVolumeSchema5, updateVolumeSchema5, extendSchema, revertSchema, createSnapshotSchema,
		updateSnapshotSchema, createAttachmentSchema, attachmentModeSchema, updateAttachmentSchema, completeSchema}
	c := &call{}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseObject(data)
		if err != nil {
			return
		}
		for _, s := range schemas {
			err := s.check(o)
			if err == nil && s == createVolumeSchema {
				if req, errNew := c.newVolume(o); errNew == nil {
					err = req.Validate()
				}
			}
			if err == nil {
				continue
			}
			if f, known := asFault(err); !known || f.status >= 500 && f.status != 501 || len(f.message) > 4096 {
				t.Errorf("%s: %d %q", data, f.status, f.message)
			}
		}
	})
}

func FuzzLiterals(f *testing.F) {
	for _, seed := range []string{"{'a': 'b'}", "[1, 2.5, -3]", "('x',)", "None", "True", `"q\"x"`, "{'a': {'b': [None]}}", "1e5", "0x10", "u'x'", "{", "[[[[[[[[[[[[["} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := pyLiteral(s)
		if err != nil {
			return
		}
		if _, err := pyLiteral(pyRepr(v)); err != nil && len(s) < 200 && isPlain(s) {
			t.Errorf("%q reads as %#v, whose repr %q does not read: %v", s, v, pyRepr(v), err)
		}
	})
}

func isPlain(s string) bool {
	for _, r := range s {
		if r < 0x20 || r > 0x7e || r == '\\' {
			return false
		}
	}
	return true
}

// A size beyond the limits is refused in the same words whichever way it comes.
func TestASizeHasOneLimit(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	volume := s.newVolume(map[string]any{"size": 1})
	for _, size := range []block.GiB{-1, 0, block.MaxSize + 1, 1 << 33, 1e18} {
		for _, c := range []struct {
			line string
			body any
			req  messages.Request
		}{
			{"POST volumes", map[string]any{"volume": map[string]any{"size": size}}, &messages.CreateVolume{SizeGiB: size}},
			{"POST volumes/" + volume + "/action", map[string]any{"os-extend": map[string]any{"new_size": size}}, &messages.ExtendVolume{Volume: block.VolumeID(volume), SizeGiB: size}},
		} {
			err := c.req.Validate()
			if err == nil {
				t.Fatalf("%s of %d GiB is valid", c.req.Kind(), size)
			}
			s.send(request{line: c.line, body: c.body}).fault(400, err.Error())
		}
	}
	for _, req := range []messages.Request{&messages.CreateVolume{SizeGiB: block.MaxSize}, &messages.ExtendVolume{Volume: block.VolumeID(volume), SizeGiB: block.MaxSize}} {
		if err := req.Validate(); err != nil {
			t.Errorf("%s of the largest size: %v", req.Kind(), err)
		}
	}
}
