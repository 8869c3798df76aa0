package rest

import (
	"fmt"
	"testing"

	"github.com/scoria-storage/scoria/messages/records"
)

func TestThereIsOneVolumeType(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	want := `{"id": "` + defaultTypeID + `", "name": "__DEFAULT__", "is_public": true, "description": "Default Volume Type", "extra_specs": {}, "qos_specs_id": null}`
	for _, path := range []string{"types/default", "types/" + defaultTypeID} {
		if got := string(s.get(path).want(200).body); got != `{"volume_type": `+want+`}` {
			t.Errorf("%s = %s", path, got)
		}
	}
	for query, rows := range map[string]int{"": 1, "?is_public=None": 1, "?is_public=True": 1, "?is_public=false": 0, "?name=__DEFAULT__": 1, "?name=x": 0,
		"?limit=0": 0, "?offset=1": 0, "?marker=" + defaultTypeID: 0, "?sort=name:asc": 1, "?extra_specs={}": 1, "?extra_specs={'a':'b'}": 0} {
		if got := len(s.get("types" + query).want(200).list("volume_types")); got != rows {
			t.Errorf("types%s: %d, want %d", query, got, rows)
		}
	}
	s.get("types/fast").fault(404, "Volume type fast could not be found.")
	s.get("types/__DEFAULT__").fault(404, "Volume type __DEFAULT__ could not be found.")
	s.get("types?is_public=perhaps").fault(400, "Invalid is_public filter [perhaps]")
	s.get("types?sort=x").fault(400, "Invalid input received: Invalid sort key")
	s.get("types/"+defaultTypeID+"/extra_specs/a").fault(404, "Volume Type "+defaultTypeID+" has no extra specs with key a.")
	if got := string(s.get("types/" + defaultTypeID + "/extra_specs").want(200).body); got != `{"extra_specs": {}}` {
		t.Error(got)
	}
	if got := string(s.get("types/" + defaultTypeID + "/encryption").want(200).body); got != `{}` {
		t.Error(got)
	}
	s.post("types", map[string]any{"volume_type": map[string]any{"name": "x"}}).fault(501, "POST /types is not implemented in this release of Scoria (editing volume types).")
}

func TestLimitsTellTheRealUse(t *testing.T) {
	t.Parallel()
	s := newLimitedStack(t, records.Limits{Volumes: 7, Snapshots: 5, GiB: -1})
	volume := s.newVolume(map[string]any{"size": 3})
	s.newSnapshot(volume, nil)
	check := func(path, mv string, volumes, gib, snapshots int) {
		t.Helper()
		a := s.send(request{line: "GET " + path, mv: mv}).want(200).in("limits")
		got := fmt.Sprint(a["rate"], a["absolute"])
		want := fmt.Sprintf("[] map[maxTotalBackupGigabytes:0 maxTotalBackups:0 maxTotalSnapshots:5 maxTotalVolumeGigabytes:-1 maxTotalVolumes:7 "+
			"totalBackupGigabytesUsed:0 totalBackupsUsed:0 totalGigabytesUsed:%d totalSnapshotsUsed:%d totalVolumesUsed:%d]", gib, snapshots, volumes)
		if got != want {
			t.Errorf("%s in %s:\n %s, want\n %s", path, mv, got, want)
		}
	}
	check("limits", "3.0", 1, 6, 1)
	check("limits?project_id=p2", "3.39", 0, 0, 0)
	check("limits?tenant_id=p2", "3.39", 0, 0, 0)
	check("limits?project_id=p2", "3.38", 1, 6, 1)
	s.get("limits?project_id=a.b").fault(400, "Invalid input received: project_id 'a.b' is not a project")
}

func TestZonesExtensionsAndFiltersAreListed(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	if got := string(s.get("os-availability-zone").want(200).body); got != `{"availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": true}}]}` {
		t.Error(got)
	}
	if err := s.worker.Register(t.Context(), records.Backend{Name: "b2", Kind: "file", Zone: "az2", KeepsData: true}, -1); err != nil {
		t.Fatal(err)
	}
	s.until("backend b2 is in the view", func() bool { _, ok := s.view.Backend("b2"); return ok })
	if got := len(s.get("os-availability-zone").want(200).list("availabilityZoneInfo")); got != 2 {
		t.Errorf("%d zones, want 2", got)
	}
	for _, e := range s.get("extensions").want(200).list("extensions") {
		one := s.get("extensions/" + e["alias"].(string)).want(200).in("extension")
		if keysOf(one) != "alias description links name updated" || one["name"] != e["name"] {
			t.Errorf("extension %v: %v", e, one)
		}
	}
	s.get("extensions/os-nothing").fault(404, textNotFound)
	if got := s.get("resource_filters").want(200).list("resource_filters"); len(got) != 4 {
		t.Errorf("resource_filters: %v", got)
	}
	got := s.get("resource_filters?resource=snapshot").want(200).list("resource_filters")
	if len(got) != 1 || got[0]["resource"] != "snapshot" {
		t.Errorf("resource_filters of snapshots: %v", got)
	}
	s.send(request{line: "GET resource_filters", mv: "3.32"}).fault(404, textNotFound)
}
