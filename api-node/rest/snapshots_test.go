package rest

import (
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit/admittest"
)

const snapshotFields = "created_at description id metadata name size status updated_at volume_id"

func TestFieldsOfASnapshotFollowTheMicroversion(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	id := s.newSnapshot(s.newVolume(nil), nil)
	const extended = "os-extended-snapshot-attributes:progress os-extended-snapshot-attributes:project_id"
	for mv := microversion(0); mv <= mvMax; mv++ {
		want := snapshotFields
		for _, a := range []struct {
			from microversion
			name string
		}{{14, "group_snapshot_id"}, {41, "user_id"}, {65, "consumes_quota"}} {
			if mv >= a.from {
				want = plus(want, a.name)
			}
		}
		send := func(line string, body any) answer { return s.send(request{line: line, mv: mv.String(), body: body}) }
		for what, c := range map[string]struct {
			got  map[string]any
			want string
		}{
			"show":   {send("GET snapshots/"+id, nil).want(200).in("snapshot"), plus(want, extended)},
			"detail": {send("GET snapshots/detail", nil).want(200).list("snapshots")[0], plus(want, extended)},
			"list":   {send("GET snapshots", nil).want(200).list("snapshots")[0], plus(snapshotFields)},
			"update": {send("PUT snapshots/"+id, map[string]any{"snapshot": map[string]any{"name": "x"}}).want(200).in("snapshot"), plus(want)},
		} {
			if keysOf(c.got) != c.want {
				t.Errorf("%s in 3.%d has\n %s, want\n %s", what, mv, keysOf(c.got), c.want)
			}
		}
	}
}

func TestSnapshotsLifeOverHTTP(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	volume := s.newVolume(map[string]any{"size": 3})
	a := s.post("snapshots", map[string]any{"snapshot": map[string]any{"volume_id": volume, "name": " s ", "description": "d", "metadata": map[string]any{"k": "v"}, "force": "True"}}).want(202)
	n := a.in("snapshot")
	id := n["id"].(string)
	if n["status"] != "creating" || n["size"] != 3.0 || n["name"] != "s" || n["volume_id"] != volume || keysOf(n) != plus(snapshotFields, "group_snapshot_id user_id consumes_quota") {
		t.Errorf("create: %v", n)
	}
	if got := s.get("snapshots/" + id).in("snapshot")["os-extended-snapshot-attributes:progress"]; got != "0%" {
		t.Errorf("progress %v", got)
	}
	s.end(a, admittest.Succeed)
	n = s.get("snapshots/" + id).in("snapshot")
	if n["status"] != "available" || n["os-extended-snapshot-attributes:progress"] != "100%" || n["os-extended-snapshot-attributes:project_id"] != "p1" {
		t.Errorf("show: %v", n)
	}
	n = s.send(request{line: "PUT snapshots/" + id, body: map[string]any{"snapshot": map[string]any{"display_name": "t", "description": nil}}}).want(200).in("snapshot")
	if n["name"] != "t" || n["description"] != nil {
		t.Errorf("update: %v", n)
	}
	for query, want := range map[string]int{
		"volume_id=" + volume: 1, "volume_id=" + missing: 0, "status=available": 1, "name=t": 1, "name~=T": 1, "metadata={'k':'v'}": 1, "metadata={'k':'w'}": 0,
		"availability_zone=nova": 1, "availability_zone=x": 0, "sort=name:asc": 1, "sort=volume_size": 1, "with_count=1": 1, "consumes_quota=false": 0, "nonsense=1": 0, "marker=" + id: 0,
	} {
		if got := len(s.get("snapshots/detail?" + strings.ReplaceAll(query, "'", "%27")).want(200).list("snapshots")); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	s.get("snapshots?sort=size").fault(400, "Invalid input received: Invalid sort key")
	a = s.send(request{line: "DELETE snapshots/" + id}).want(202)
	if got := s.get("snapshots/" + id).in("snapshot")["status"]; got != "deleting" {
		t.Errorf("status %v, want deleting", got)
	}
	s.end(a, admittest.Succeed)
	s.get("snapshots/"+id).fault(404, "Snapshot "+id+" could not be found.")
	s.send(request{line: "DELETE snapshots/x"}).fault(404, "Snapshot x could not be found.")
}

func TestForceOfSnapshotsOfVolumesInUse(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.work()
	volume := s.attached(s.newWorkedVolume())
	create := func(mv string, force any) answer {
		body := map[string]any{"volume_id": volume}
		if force != nil {
			body["force"] = force
		}
		return s.send(request{line: "POST snapshots", mv: mv, body: map[string]any{"snapshot": body}})
	}
	create("3.65", nil).fault(400, "Invalid volume: Volume "+volume+" status must be available, but current status is: in-use.")
	create("3.65", false).fault(400, "Invalid volume: Volume "+volume+" status must be available, but current status is: in-use.")
	create("3.65", true).want(202)
	create("3.66", nil).want(202)
	create("3.66", "yes").want(202)
	create("3.66", false).fault(400, textForce)
	create("3.66", "perhaps").fault(400, "Invalid input for field/attribute force. Value: perhaps. 'perhaps' is not one of [True, 'True',…")
}
