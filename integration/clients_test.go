package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// tool returns the path of a program of Debian's package; as root a missing one is a failure, since `make deps` installs it.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Geteuid() == 0 {
		t.Fatalf("%s is missing: `make deps` installs it (Debian package %s)", name, pkg)
	}
	t.Skipf("%s is missing (Debian package %s), and only root may install it", name, pkg)
	return ""
}

// tools is one of OpenStack's command lines against the stack.
type tools struct {
	t    *testing.T
	path string
	args []string
}

func openstack(t *testing.T, s *harness.Stack) *tools {
	return &tools{t, tool(t, "openstack", "python3-openstackclient"), []string{"--os-auth-type", "admin_token", "--os-endpoint", s.URL + "/v3/demo",
		"--os-token", "admin:demo", "--os-volume-api-version", "3.65"}}
}

func cinder(t *testing.T, s *harness.Stack) *tools {
	return &tools{t, tool(t, "cinder", "python3-cinderclient"), []string{"--os-auth-type", "noauth", "--os-endpoint", s.URL + "/v3", "--os-user-id", "admin",
		"--os-project-id", "demo", "--os-volume-api-version", "3.70"}}
}

// try runs the command and returns what it printed and its status.
func (c *tools) try(args ...string) (stdout, stderr string, status int) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.path, append(append([]string{}, c.args...), args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + c.t.TempDir(), "LC_ALL=C.UTF-8", "PYTHONWARNINGS=ignore"}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs the command, which must succeed.
func (c *tools) must(args ...string) string {
	c.t.Helper()
	out, errs, status := c.try(args...)
	if status != 0 {
		c.t.Fatalf("%s %v: status %d\n%s%s", c.path, args, status, out, errs)
	}
	return out
}

// json runs the command with -f json and reads what it printed.
func (c *tools) json(out any, args ...string) {
	c.t.Helper()
	text := c.must(append(args, "-f", "json")...)
	if err := json.Unmarshal([]byte(text), out); err != nil {
		c.t.Fatalf("%v printed %s: %v", args, text, err)
	}
}

func TestOpenStackClientDoesTheMainJob(t *testing.T) {
	t.Parallel()
	s := harness.Up(t)
	os := openstack(t, s)
	become := func(path, want string) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, path+" is "+want, func() bool {
			ans, err := s.Do(t.Context(), "GET", path, nil)
			if err != nil {
				return false
			}
			if want == "gone" {
				return ans.Status == 404
			}
			return strings.Contains(string(ans.Body), `"status": "`+want+`"`) || strings.Contains(string(ans.Body), `"status":"`+want+`"`)
		})
	}
	var volume, snapshot, clone, copied map[string]any
	os.json(&volume, "volume", "create", "--size", "1", "--description", "d", "first")
	id := volume["id"].(string)
	become("/volumes/"+id, "available")
	os.json(&volume, "volume", "show", "first")
	if volume["status"] != "available" || volume["size"] != 1.0 || volume["name"] != "first" {
		t.Errorf("volume show: %v", volume)
	}
	var list []map[string]any
	os.json(&list, "volume", "list")
	if len(list) != 1 || list[0]["ID"] != id || list[0]["Status"] != "available" {
		t.Errorf("volume list: %v", list)
	}
	os.json(&snapshot, "volume", "snapshot", "create", "--volume", "first", "s1")
	snap := snapshot["id"].(string)
	become("/snapshots/"+snap, "available")
	os.json(&list, "volume", "snapshot", "list")
	if len(list) != 1 || list[0]["Name"] != "s1" {
		t.Errorf("snapshot list: %v", list)
	}
	os.json(&clone, "volume", "create", "--snapshot", "s1", "fromsnap")
	become("/volumes/"+clone["id"].(string), "available")
	os.json(&copied, "volume", "create", "--source", "first", "--size", "2", "copy")
	become("/volumes/"+copied["id"].(string), "available")
	os.must("volume", "set", "--size", "3", "copy")
	become("/volumes/"+copied["id"].(string), "available")
	os.must("volume", "set", "--name", "renamed", "--description", "other", "copy")
	os.json(&copied, "volume", "show", "renamed")
	if copied["size"] != 3.0 || copied["description"] != "other" {
		t.Errorf("after set: %v", copied)
	}
	os.must("volume", "snapshot", "set", "--name", "s2", "s1")
	os.json(&snapshot, "volume", "snapshot", "show", "s2")
	if snapshot["id"] != snap || snapshot["volume_id"] != id {
		t.Errorf("snapshot show: %v", snapshot)
	}
	if _, errs, status := os.try("volume", "delete", "first"); status == 0 || !strings.Contains(errs, "snapshots") {
		t.Errorf("delete of a volume with a snapshot: status %d, %s", status, errs)
	}
	if out := os.must("availability", "zone", "list", "--volume"); !strings.Contains(out, "nova") {
		t.Errorf("availability zones: %s", out)
	}
	if out := os.must("volume", "type", "list"); !strings.Contains(out, "__DEFAULT__") {
		t.Errorf("types: %s", out)
	}
	os.must("volume", "snapshot", "delete", "s2")
	become("/snapshots/"+snap, "gone")
	os.must("volume", "delete", "first", "fromsnap", "renamed")
	s.Idle(t)
	os.json(&list, "volume", "list")
	if len(list) != 0 {
		t.Errorf("after delete: %v", list)
	}
	s.VerifyClean(t)
}

func TestCinderClientDoesWhatTheOtherLacks(t *testing.T) {
	t.Parallel()
	s := harness.Up(t)
	c := cinder(t, s)
	volume := s.Create(t, M{"size": 1, "name": "first"})
	snapshot := s.Snapshot(t, volume)
	c.must("revert-to-snapshot", snapshot)
	s.Idle(t)
	if out := c.must("show", volume); !strings.Contains(out, "available") {
		t.Errorf("show after revert: %s", out)
	}
	out := c.must("attachment-create", volume)
	id := field(out, "id")
	if id == "" {
		t.Fatalf("attachment-create printed %s", out)
	}
	if v := s.Get(t, volume); v.Status != "reserved" {
		t.Errorf("volume is %s, want reserved", v.Status)
	}
	if _, errs, status := c.try("attachment-update", id, "--host", "othernode"); status == 0 || !strings.Contains(errs, "can be attached only on the machine of node n1") {
		t.Errorf("attachment-update for another host: status %d, %s", status, errs)
	}
	out = c.must("attachment-update", id, "--host", "n1", "--initiator", "iqn.1994-05.com.redhat:x", "--ip", "127.0.0.1", "--platform", "x86_64", "--ostype", "linux2")
	if !strings.Contains(out, "nbd+unix:///"+id) {
		t.Errorf("attachment-update printed %s", out)
	}
	c.must("attachment-complete", id)
	if v := s.Get(t, volume); v.Status != "in-use" {
		t.Errorf("volume is %s, want in-use", v.Status)
	}
	if out := c.must("attachment-list"); !strings.Contains(out, id) || !strings.Contains(out, "attached") {
		t.Errorf("attachment-list: %s", out)
	}
	if out := c.must("attachment-show", id); !strings.Contains(out, volume) {
		t.Errorf("attachment-show: %s", out)
	}
	if _, errs, status := c.try("delete", volume); status == 0 {
		t.Errorf("delete of a volume in use went through: %s", errs)
	}
	c.must("attachment-delete", id)
	if v := s.Get(t, volume); v.Status != "available" {
		t.Errorf("volume is %s, want available", v.Status)
	}
	c.must("extend", volume, "2")
	s.Idle(t)
	if out := c.must("absolute-limits"); !strings.Contains(out, "totalGigabytesUsed") {
		t.Errorf("absolute-limits: %s", out)
	}
	c.must("snapshot-delete", snapshot)
	s.Idle(t)
	c.must("delete", volume)
	s.Idle(t)
	s.VerifyClean(t)
}

// field takes a value out of a table of two columns.
func field(table, name string) string {
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) == 4 && strings.TrimSpace(cells[1]) == name {
			return strings.TrimSpace(cells[2])
		}
	}
	return ""
}
