package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit/admittest"
)

// keysOf returns the names of an object, sorted and joined.
func keysOf(o map[string]any) string { return strings.Join(sortedNames(o), " ") }

// plus adds names to a list of names.
func plus(base string, more ...string) string {
	names := strings.Fields(base)
	for _, m := range more {
		names = append(names, strings.Fields(m)...)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

const (
	volumeFields = "attachments availability_zone bootable consistencygroup_id created_at description encrypted id links metadata " +
		"migration_status multiattach name replication_status size snapshot_id source_volid status updated_at user_id volume_type"
	volumeExtended = "os-vol-host-attr:host os-vol-mig-status-attr:migstat os-vol-mig-status-attr:name_id os-vol-tenant-attr:tenant_id"
)

func TestFieldsOfAVolumeFollowTheMicroversion(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	id := s.newVolume(nil)
	added := []struct {
		from  microversion
		names string
	}{{13, "group_id"}, {21, "provider_id"}, {48, "shared_targets service_uuid"}, {61, "cluster_name"}, {63, "volume_type_id"}, {65, "consumes_quota"}}
	for mv := microversion(0); mv <= mvMax; mv++ {
		want := volumeFields
		for _, a := range added {
			if mv >= a.from {
				want = plus(want, a.names)
			}
		}
		send := func(line string, body any) answer { return s.send(request{line: line, mv: mv.String(), body: body}) }
		for what, got := range map[string]map[string]any{
			"show":   send("GET volumes/"+id, nil).want(200).in("volume"),
			"detail": send("GET volumes/detail", nil).want(200).list("volumes")[0],
		} {
			if keysOf(got) != plus(want, volumeExtended) {
				t.Errorf("%s in 3.%d has\n %s, want\n %s", what, mv, keysOf(got), plus(want, volumeExtended))
			}
		}
		if got := send("PUT volumes/"+id, map[string]any{"volume": map[string]any{"name": "x"}}).want(200).in("volume"); keysOf(got) != plus(want) {
			t.Errorf("update in 3.%d has\n %s, want\n %s", mv, keysOf(got), plus(want))
		}
		if got := send("GET volumes", nil).want(200).list("volumes")[0]; keysOf(got) != "id links name" {
			t.Errorf("list in 3.%d has %s", mv, keysOf(got))
		}
	}
	a := s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202)
	if got, want := keysOf(a.in("volume")), plus(volumeFields, "group_id provider_id shared_targets service_uuid cluster_name volume_type_id consumes_quota"); got != want {
		t.Errorf("create has\n %s, want\n %s", got, want)
	}
}

func TestCreatedVolumeShowsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	a := s.post("volumes", map[string]any{"volume": map[string]any{
		"size": "2", "name": "  näme ", "description": "d\"\n", "metadata": map[string]any{"k": "v"}, "volume_type": "__DEFAULT__",
		"availability_zone": "nova", "consistencygroup_id": nil, "imageRef": nil, "snapshot_id": nil, "source_volid": nil, "backup_id": nil,
	}}).want(http.StatusAccepted)
	v := a.in("volume")
	for field, want := range map[string]any{
		"name": "näme", "description": "d\"", "status": "creating", "size": 2.0, "volume_type": "__DEFAULT__", "availability_zone": "nova",
		"bootable": "false", "encrypted": false, "multiattach": false, "user_id": "alice", "snapshot_id": nil, "source_volid": nil,
		"replication_status": nil, "consumes_quota": true, "shared_targets": false, "volume_type_id": defaultTypeID,
	} {
		if v[field] != want {
			t.Errorf("%s = %v, want %v", field, v[field], want)
		}
	}
	if fmt.Sprint(v["metadata"]) != "map[k:v]" || len(v["attachments"].([]any)) != 0 {
		t.Errorf("metadata %v, attachments %v", v["metadata"], v["attachments"])
	}
	id := v["id"].(string)
	s.end(a, admittest.Succeed)
	shown := s.get("volumes/" + id).want(200).in("volume")
	if shown["status"] != "available" || shown["os-vol-host-attr:host"] != "n1@b1#b1" || shown["os-vol-tenant-attr:tenant_id"] != "p1" {
		t.Errorf("show = %v", shown)
	}
	snapshot := s.newSnapshot(id, nil)
	clone := s.post("volumes", map[string]any{"volume": map[string]any{"snapshot_id": strings.ToUpper(snapshot)}}).want(202).in("volume")
	if clone["snapshot_id"] != snapshot || clone["size"] != 2.0 {
		t.Errorf("from snapshot: %v", clone)
	}
	clone = s.post("volumes", map[string]any{"volume": map[string]any{"source_volid": id, "size": 3, "volume_type": defaultTypeID}}).want(202).in("volume")
	if clone["source_volid"] != id || clone["size"] != 3.0 {
		t.Errorf("from volume: %v", clone)
	}
}

func TestAnAcceptedWriteIsSeenByTheNextRead(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for i := range 30 {
		id := s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202).in("volume")["id"].(string)
		if got := len(s.get("volumes").want(200).list("volumes")); got != i+1 {
			t.Fatalf("after %d creates the list has %d volumes", i+1, got)
		}
		name := fmt.Sprintf("n%d", i)
		s.send(request{line: "PUT volumes/" + id, body: map[string]any{"volume": map[string]any{"name": name}}}).want(200)
		if got := s.get("volumes/" + id).want(200).in("volume")["name"]; got != name {
			t.Fatalf("after the update the name is %v, want %s", got, name)
		}
	}
}

func TestUpdateOfAVolumeChangesNameAndDescriptionOnly(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	id := s.newVolume(map[string]any{"name": "a", "description": "b"})
	put := func(mv string, fields map[string]any) answer {
		return s.send(request{line: "PUT volumes/" + id, mv: mv, body: map[string]any{"volume": fields}})
	}
	for _, c := range []struct {
		fields            map[string]any
		name, description any
	}{
		{map[string]any{"name": " x "}, "x", "b"},
		{map[string]any{"display_description": "y"}, "x", "y"},
		{map[string]any{"display_name": "z", "name": "w"}, "w", "y"},
		{map[string]any{"description": nil}, "w", nil},
		{map[string]any{"name": strings.Repeat("ä", 255)}, strings.Repeat("ä", 255), nil},
	} {
		v := put("3.71", c.fields).want(200).in("volume")
		if v["name"] != c.name || v["description"] != c.description {
			t.Errorf("after %v: name %v, description %v", c.fields, v["name"], v["description"])
		}
	}
	put("3.52", map[string]any{}).want(200)
	put("3.53", map[string]any{}).fault(400, "Invalid input for field/attribute volume. Value: {}. {} is not valid under any of the given schemas")
	put("3.0", map[string]any{"name": strings.Repeat("n", 300)}).fault(400, "Invalid input received: name has 300 characters, more than 255.")
	put("3.0", map[string]any{"size": 3}).fault(400, "Invalid input for field/attribute volume. Value: {'size': 3}. Additional properties are not allowed ('size' was unexpected)")
	put("3.0", map[string]any{"metadata": map[string]any{"a": "b"}}).fault(501, "Changing the metadata of a volume is not implemented…")
	s.send(request{line: "PUT volumes/" + missing, body: map[string]any{"volume": map[string]any{"name": "x"}}}).fault(404, "Volume "+missing+" could not be found.")
}

func TestVolumeIsDeletedAndRefusedAsInCinder(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	id := s.newVolume(nil)
	del := func(path string) answer { return s.send(request{line: "DELETE volumes/" + path, mv: "3.71"}) }
	del("x").fault(404, "Volume x could not be found.")
	del(missing).fault(404, "Volume "+missing+" could not be found.")
	del(id+"?cascade=perhaps").fault(400, "Value 'perhaps' for 'cascade' is not a boolean.")
	del(id+"?force=true").fault(501, "Deleting a volume by force…")
	snapshot := s.newSnapshot(id, nil)
	del(id+"?cascade=true").fault(501, "Deleting a volume together with its snapshots (cascade)…")
	if a := del(id); a.status != 400 {
		t.Errorf("delete of a volume with a snapshot: %d %s", a.status, a.body)
	}
	a := s.send(request{line: "DELETE snapshots/" + snapshot}).want(202)
	s.end(a, admittest.Succeed)
	a = del(id + "?cascade=true").want(202)
	if len(a.body) != 0 {
		t.Errorf("the answer has a body: %s", a.body)
	}
	if got := s.get("volumes/" + id).want(200).in("volume")["status"]; got != "deleting" {
		t.Errorf("status %v, want deleting", got)
	}
	if again := del(id); again.status != 400 {
		t.Errorf("second delete: %d %s", again.status, again.body)
	}
	s.end(a, admittest.Succeed)
	s.get("volumes/"+id).fault(404, "Volume "+id+" could not be found.")
}

func TestARepeatedIdempotencyKeyReturnsTheSameOperation(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	key := map[string]string{"Idempotency-Key": "my key"}
	body := map[string]any{"volume": map[string]any{"size": 1}}
	send := func(line string, body any) answer {
		return s.send(request{line: line, body: body, header: key, mv: "3.71"})
	}
	first, second := send("POST volumes", body).want(202), send("POST volumes", body).want(202)
	if first.operation() == "" || first.operation() != second.operation() || first.in("volume")["id"] != second.in("volume")["id"] {
		t.Errorf("first %s, second %s", first.body, second.body)
	}
	if n := len(s.get("volumes").list("volumes")); n != 1 {
		t.Errorf("%d volumes, want 1", n)
	}
	send("POST volumes", map[string]any{"volume": map[string]any{"size": 2}}).fault(409, "the operation ID or idempotency key…")
	id := first.in("volume")["id"].(string)
	s.end(first, admittest.Succeed)

	// A delete that is repeated when the volume has gone.
	key["Idempotency-Key"] = "9d5f0b4e-7f63-4f0e-8f5e-2b1d6c1f0a11"
	a := send("DELETE volumes/"+id, nil).want(202)
	if a.operation() != "9d5f0b4e-7f63-4f0e-8f5e-2b1d6c1f0a11" {
		t.Errorf("operation %s, want the key", a.operation())
	}
	s.end(a, admittest.Succeed)
	send("DELETE volumes/"+id, nil).want(202)
	key["Idempotency-Key"] = "other"
	send("DELETE volumes/"+id, nil).fault(404, "Volume "+id+" could not be found.")
	key["Idempotency-Key"] = strings.Repeat("x", 256)
	send("POST volumes", body).fault(400, "Idempotency-Key: want one value of 1 to 255 characters")
	// The same key of another project is another one.
	other := s.send(request{line: "POST /v3/volumes", token: "bob:p2", body: body, header: map[string]string{"Idempotency-Key": "my key"}}).want(202)
	if other.operation() == first.operation() {
		t.Error("two projects share an idempotency key")
	}
}

func TestQueueIsRefusedWhereNothingCanWait(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	id := s.newVolume(nil)
	before := s.bucket()
	for _, c := range []struct {
		line, conflict string
		body           any
		status         int
	}{
		{"PUT volumes/" + id, "queue", map[string]any{"volume": map[string]any{"name": "x"}}, 501},
		{"POST attachments", "queue", map[string]any{"attachment": map[string]any{"volume_uuid": id}}, 501},
		{"POST volumes", "wait", map[string]any{"volume": map[string]any{"size": 1}}, 400},
		{"PUT volumes/" + id, "wait", map[string]any{"volume": map[string]any{"name": "x"}}, 400},
	} {
		a := s.send(request{line: c.line, body: c.body, mv: "3.71", header: map[string]string{"X-Scoria-On-Conflict": c.conflict}})
		if a.status != c.status {
			t.Errorf("%s with %s: %d %s", c.line, c.conflict, a.status, a.body)
		}
	}
	if after := s.bucket(); after != before {
		t.Errorf("refused requests changed\n%s to\n%s", before, after)
	}
}

func TestExtendAndRevert(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	id := s.newVolume(nil)
	act := func(mv string, body any) answer {
		return s.send(request{line: "POST volumes/" + id + "/action", mv: mv, body: body})
	}
	a := act("3.0", map[string]any{"os-extend": map[string]any{"new_size": "2"}}).want(202)
	if got := s.get("volumes/" + id).in("volume")["status"]; got != "extending" {
		t.Errorf("status %v, want extending", got)
	}
	s.end(a, admittest.Succeed)
	if got := s.get("volumes/" + id).in("volume")["size"]; got != 2.0 {
		t.Errorf("size %v, want 2", got)
	}
	act("3.0", map[string]any{"os-extend": map[string]any{"new_size": 2}}).fault(400, "Invalid input received: New size for extend must be greater than current size. (current: 2, extended: 2).")

	revert := func(mv string, snapshot any) answer {
		return act(mv, map[string]any{"revert": map[string]any{"snapshot_id": snapshot}})
	}
	revert("3.40", nil).fault(400, "Volume "+id+" doesn't have any snapshots.")
	snapshot := s.newSnapshot(id, nil)
	revert("3.39", snapshot).fault(404, "The resource could not be found.")
	revert("3.40", nil).fault(400, "Specified snapshot None is None or not the latest one of volume "+id+".")
	revert("3.40", missing).fault(400, "Specified snapshot "+missing+" is None or not the latest one of volume "+id+".")
	a = revert("3.40", snapshot).want(202)
	if got := s.get("volumes/" + id).in("volume")["status"]; got != "reverting" {
		t.Errorf("status %v, want reverting", got)
	}
	if got := s.get("snapshots/" + snapshot).in("snapshot")["status"]; got != "restoring" {
		t.Errorf("status of the snapshot %v, want restoring", got)
	}
	s.end(a, admittest.Succeed)

	act("3.0", map[string]any{"os-frobnicate": nil}).fault(400, "There is no such action: os-frobnicate. Verify the request body and Content-Type header and try again.")
	act("3.0", map[string]any{"os-extend": nil, "revert": nil}).fault(400, "Malformed request body")
	act("3.0", map[string]any{"os-retype": map[string]any{"new_type": "x"}}).fault(501, "The action os-retype (change the type)…")
	act("3.67", map[string]any{"os-reimage": nil}).fault(404, "The resource could not be found.")
	act("3.68", map[string]any{"os-reimage": nil}).fault(501, "The action os-reimage…")
	act("3.0", nil).fault(400, "There is no such action: None. Verify…")
}

func TestSummaryCountsTheProjectsVolumes(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.newVolume(map[string]any{"size": 2, "metadata": map[string]any{"a": "1"}})
	s.newVolume(map[string]any{"size": 3, "metadata": map[string]any{"a": "2", "b": "1"}})
	s.send(request{line: "POST /v3/volumes", token: "bob:p2", body: map[string]any{"volume": map[string]any{"size": 5}}}).want(202)
	s.send(request{line: "GET volumes/summary", mv: "3.11"}).fault(404, "The resource could not be found.")
	if got := string(s.send(request{line: "GET volumes/summary", mv: "3.12"}).want(200).body); got != `{"volume-summary": {"total_count": 2, "total_size": 5}}` {
		t.Error(got)
	}
	if got := string(s.get("volumes/summary").want(200).body); got != `{"volume-summary": {"total_count": 2, "total_size": 5, "metadata": {"a": ["1", "2"], "b": ["1"]}}}` {
		t.Error(got)
	}
	if got := s.get("volumes/summary?all_tenants=1").want(200).in("volume-summary")["total_size"]; got != 10.0 {
		t.Errorf("total_size of all = %v, want 10", got)
	}
}

func TestMetadataAndEncryptionCanBeRead(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	id := s.newVolume(map[string]any{"metadata": map[string]any{"k 1": "v"}})
	snapshot := s.newSnapshot(id, map[string]any{"metadata": map[string]any{"s": "t"}})
	for path, want := range map[string]string{
		"volumes/" + id + "/metadata": `{"metadata": {"k 1": "v"}}`, "volumes/" + id + "/metadata/k%201": `{"meta": {"k 1": "v"}}`,
		"snapshots/" + snapshot + "/metadata": `{"metadata": {"s": "t"}}`, "snapshots/" + snapshot + "/metadata/s": `{"meta": {"s": "t"}}`,
		"volumes/" + id + "/encryption": `{"encryption_key_id": null}`,
	} {
		if got := string(s.get(path).want(200).body); got != want {
			t.Errorf("%s = %s, want %s", path, got, want)
		}
	}
	s.get("volumes/"+id+"/metadata/x").fault(404, "Volume "+id+" has no metadata with key x.")
	s.get("volumes/"+missing+"/encryption").fault(404, "Volume "+missing+" could not be found.")
	s.send(request{line: "POST volumes/" + id + "/metadata", body: map[string]any{"metadata": map[string]any{}}}).fault(501, "POST /volumes/{id}/metadata is not implemented in this release of Scoria (changing metadata).")
}
