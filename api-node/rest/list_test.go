package rest

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/messages"
)

// ids are the IDs of a list of volumes in the order of the list.
func (a answer) ids(key string) []string {
	a.t.Helper()
	var ids []string
	for _, v := range a.list(key) {
		ids = append(ids, v["id"].(string))
	}
	return ids
}

func TestListIsNewestFirst(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	var want []string
	for range 5 {
		want = append([]string{s.newVolume(nil)}, want...)
	}
	if got := s.get("volumes").want(200).ids("volumes"); !slices.Equal(got, want) {
		t.Errorf("list = %v, want %v", got, want)
	}
	if got := s.get("volumes/detail?sort=created_at:asc").want(200).ids("volumes"); got[0] != want[4] {
		t.Errorf("ascending list begins with %s, want %s", got[0], want[4])
	}
}

// TestPagesAreTheWholeListInItsOrder walks lists of all sorts by the links that they give.
func TestPagesAreTheWholeListInItsOrder(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := newStack(t)
	const volumes = 23
	for i := range volumes {
		s.post("volumes", map[string]any{"volume": map[string]any{"size": 1 + rnd.IntN(3), "name": string(rune('a' + rnd.IntN(4))), "metadata": map[string]any{"i": fmt.Sprint(i % 2)}}}).want(202)
	}
	for _, order := range []string{"", "sort=size", "sort=size:asc,name:desc", "sort_key=name&sort_dir=asc", "sort=bootable:asc", "sort=id:asc", "sort=created_at:asc", "sort=status,updated_at:asc"} {
		for _, filter := range []string{"", "metadata={'i': '1'}"} {
			base := url.Values{}
			for _, part := range strings.Split(order+"&"+filter, "&") {
				if k, v, ok := strings.Cut(part, "="); ok {
					base.Set(k, v)
				}
			}
			whole := s.get("volumes?" + base.Encode()).want(200).ids("volumes")
			if filter == "" && len(whole) != volumes {
				t.Fatalf("%s: %d volumes, want %d", base.Encode(), len(whole), volumes)
			}
			base.Set("limit", fmt.Sprint(1+rnd.IntN(volumes+3)))
			var paged []string
			next := "/v3/p1/volumes?" + base.Encode()
			for next != "" {
				a := s.get(next).want(200)
				ids := a.ids("volumes")
				paged = append(paged, ids...)
				next = ""
				if links, ok := a.obj()["volumes_links"].([]any); ok {
					next = strings.TrimPrefix(links[0].(map[string]any)["href"].(string), s.url)
				}
				if fmt.Sprint(len(ids)) != base.Get("limit") && next != "" {
					t.Fatalf("%s: a page of %d has a next link", base.Encode(), len(ids))
				}
			}
			if !slices.Equal(paged, whole) {
				t.Errorf("%s: pages\n %v, whole list\n %v", base.Encode(), paged, whole)
			}
			skip := rnd.IntN(volumes)
			base.Del("limit")
			base.Set("offset", fmt.Sprint(skip))
			if got, want := s.get("volumes?"+base.Encode()).want(200).ids("volumes"), whole[min(skip, len(whole)):]; !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", base.Encode(), got, want)
			}
		}
	}
}

func TestListParameters(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *Config) { c.MaxLimit = 3 })
	for range 5 {
		s.post("volumes", map[string]any{"volume": map[string]any{"size": 1}}).want(202)
	}
	for _, c := range []struct {
		query string
		rows  int
		text  string // of a 400 or a 404
	}{
		{"", 3, ""}, {"limit=2", 2, ""}, {"limit=0", 0, ""}, {"limit=99999999999999999999999", 3, ""}, {"limit= 1 ", 1, ""},
		{"limit=-1", 0, "limit param must be positive"},
		{"limit=-99999999999999999999", 0, "limit param must be positive"},
		{"limit=x", 0, "limit param must be an integer"},
		{"limit=", 0, "limit param must be an integer"},
		{"limit=1.5", 0, "limit param must be an integer"},
		{"offset=4", 1, ""}, {"offset=99", 0, ""},
		{"offset=-1", 0, "offset must be >= 0"},
		{"offset=x", 0, "offset must be an integer"},
		{"offset=2147483648", 0, "offset must be <= 2147483647"},
		{"marker=" + missing, 0, "Volume " + missing + " could not be found."},
		{"marker=x", 0, "Volume x could not be found."},
		{"sort=nothing", 0, "Invalid input received: Invalid sort key"},
		{"sort=", 0, "Invalid input received: Invalid sort key"},
		{"sort_key=links", 0, "Invalid input received: Invalid sort key"},
		{"sort=size:up", 0, "Invalid input received: Unknown sort direction, must be 'desc' or 'asc'."},
		{"sort=size&sort_key=name", 0, "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter."},
		{"all_tenants=perhaps", 0, "Value 'perhaps' for 'all_tenants' is not a boolean."},
		{"with_count=perhaps", 0, "Value 'perhaps' for 'with_count' is not a boolean."},
		{"a=%zz", 0, "Malformed request url"},
		{"nothing=1", 0, ""}, // an admin's filter that no volume has
	} {
		a := s.get("volumes?" + strings.ReplaceAll(c.query, " ", "%20"))
		switch {
		case c.text == "":
			if got := len(a.want(200).list("volumes")); got != c.rows {
				t.Errorf("%s: %d rows, want %d", c.query, got, c.rows)
			}
		case strings.HasSuffix(c.text, "could not be found."):
			a.fault(404, c.text)
		default:
			a.fault(400, c.text)
		}
	}
	for path, want := range map[string]any{"volumes?with_count=true&limit=2": 5.0, "volumes?with_count=false": nil, "volumes?with_count=1&sort=id": 5.0} {
		if got := s.get(path).want(200).obj()["count"]; got != want {
			t.Errorf("%s: count %v, want %v", path, got, want)
		}
	}
	if got := s.send(request{line: "GET volumes?with_count=true", mv: "3.44"}).want(200).obj()["count"]; got != nil {
		t.Errorf("with_count in 3.44: count %v", got)
	}
}

func TestVolumesAreFiltered(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	start := time.Now().UTC().Add(-time.Second).Format("2006-01-02T15:04:05")
	a := s.newVolume(map[string]any{"name": "Alpha", "size": 1, "description": "first", "metadata": map[string]any{"k": "v", "x": "1"}})
	b := s.newVolume(map[string]any{"name": "beta", "size": 2, "metadata": map[string]any{"k": "v"}})
	c := s.newVolume(map[string]any{"source_volid": a, "name": "al'pha", "size": 10})
	other := s.send(request{line: "POST /v3/volumes", token: "bob:p2", body: map[string]any{"volume": map[string]any{"size": 1, "name": "beta"}}}).want(202).in("volume")["id"].(string)
	names := map[string]string{a: "a", b: "b", c: "c", other: "o"}
	get := func(query, mv string) string {
		var got []string
		values := url.Values{}
		for _, part := range strings.Split(query, "&") {
			k, v, _ := strings.Cut(part, "=")
			values.Set(k, v)
		}
		for _, id := range s.send(request{line: "GET volumes?" + values.Encode(), mv: mv}).want(200).ids("volumes") {
			got = append(got, names[id])
		}
		slices.Sort(got)
		return strings.Join(got, "")
	}
	for _, f := range []struct{ query, mv, want string }{
		{"name=beta", "3.0", "b"}, {"name=beta&all_tenants=1", "3.0", "bo"}, {"name=beta&all_tenants=1&project_id=p2", "3.0", "o"},
		{"project_id=p2", "3.0", "abc"}, {"name=BETA", "3.0", ""}, {"name=al'pha", "3.71", "c"}, {"display_name=Alpha", "3.0", "a"},
		{"name~=ALPH", "3.34", "a"}, {"name~=a", "3.71", "abc"}, {"name~=a", "3.30", ""}, {"description~=irs", "3.34", "a"}, {"status~=avail", "3.34", "abc"},
		{"status=available", "3.0", "abc"}, {"status=creating", "3.0", ""}, {"status=['available', 'error']", "3.0", "abc"}, {"status='available'", "3.0", "abc"},
		{"all_tenants=1&status=creating", "3.0", "o"},
		{"size=2", "3.0", "b"}, {"size=(1, 10)", "3.0", "ac"}, {"size=02", "3.0", "b"}, {"size=2.0", "3.0", "b"}, {"size=x", "3.0", ""},
		{"metadata={'k': 'v'}", "3.0", "ab"}, {"metadata={u'k': 'v', 'x': '1'}", "3.0", "a"}, {"metadata={'x': 1}", "3.0", "a"},
		{"metadata={\"k\": \"w\"}", "3.0", ""}, {"metadata=k", "3.0", ""}, {"metadata={}", "3.0", "abc"},
		{"source_volid=" + a, "3.0", "c"}, {"id=" + b, "3.0", "b"}, {"user_id=alice", "3.0", "abc"}, {"attach_status=detached", "3.0", "abc"},
		{"bootable=false", "3.2", "abc"}, {"bootable=True", "3.2", ""}, {"bootable=x", "3.1", ""}, {"migration_status=None", "3.0", "abc"}, {"migration_status=starting", "3.0", ""},
		{"availability_zone=nova", "3.0", "abc"}, {"availability_zone=other", "3.0", ""}, {"host=n1@b1#b1", "3.0", "abc"},
		{"volume_type_id=" + defaultTypeID, "3.0", "abc"}, {"snapshot_id=None", "3.0", "abc"},
		{"group_id=None", "3.10", "abc"}, {"group_id=" + missing, "3.10", ""}, {"consumes_quota=true", "3.65", "abc"}, {"consumes_quota=false", "3.65", ""},
		{"consumes_quota=false", "3.64", "abc"},
		{"created_at=gt:" + start, "3.60", "abc"}, {"created_at=lt:" + start, "3.60", ""}, {"created_at=gte:" + start + ",lt:2999-01-01", "3.60", "abc"},
		{"updated_at=gt:" + start, "3.60", "abc"}, {"created_at=lt:" + start, "3.30", "abc"},
		{"glance_metadata={'a': 'b'}", "3.4", ""}, {"nonsense=1", "3.0", ""},
	} {
		if got := get(f.query, f.mv); got != f.want {
			t.Errorf("%s in %s: %q, want %q", f.query, f.mv, got, f.want)
		}
	}
	for query, text := range map[string]string{
		"bootable=x": "Invalid input received: 'bootable = x'", "created_at=since:2020": "Invalid since operator", "created_at=gt:yesterday": "Invalid yesterday value",
		"created_at=gt": "Invalid  value", "created_at=": "Invalid  operator",
	} {
		s.get("volumes?"+query).fault(400, text)
	}
	// A filter and the marker of a page that it would not keep.
	if got := s.get("volumes?name=beta&marker=" + c).want(200).ids("volumes"); !slices.Equal(got, []string{b}) {
		t.Errorf("after a marker that the filter leaves out: %v", got)
	}
}

// TestOthersThanAdminsSeeTheirProjectOnly uses an authenticator that knows users who are no admins.
func TestOthersThanAdminsSeeTheirProjectOnly(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *Config) { c.Auth = plainUsers{} })
	mine := s.newVolume(nil)
	made := s.send(request{line: "POST /v3/volumes", token: "bob:p2", body: map[string]any{"volume": map[string]any{"size": 1}}}).want(202)
	theirs, operation := made.in("volume")["id"].(string), string(made.operation())
	for _, path := range []string{"volumes", "volumes?all_tenants=1", "volumes/detail?all_tenants=1", "volumes/detail?project_id=p2"} {
		if got := s.send(request{line: "GET " + path, mv: "3.30"}).want(200).ids("volumes"); !slices.Equal(got, []string{mine}) {
			t.Errorf("%s: %v, want mine", path, got)
		}
	}
	s.post("/scoria/v1/locks/volume."+mine+"/break", map[string]any{"reason": "x"}).own(403, messages.CodeInvalid, "Only an admin may break a lock.")
	for _, line := range []string{"GET volumes/" + theirs, "DELETE volumes/" + theirs, "GET volumes?marker=" + theirs} {
		s.send(request{line: line}).fault(404, "Volume "+theirs+" could not be found.")
	}
	s.send(request{line: "GET volumes?nonsense=1", mv: "3.31"}).fault(400, "Invalid filters nonsense are found in query options.")
	s.send(request{line: "GET volumes?name~=x", mv: "3.31"}).fault(400, "Invalid filters name~ are found in query options.")
	s.send(request{line: "GET volumes?name~=x", mv: "3.34"}).want(200)
	v := s.get("volumes/" + mine).want(200).in("volume")
	for _, field := range []string{"migration_status", "provider_id", "cluster_name", "os-vol-host-attr:host", "os-vol-mig-status-attr:migstat"} {
		if _, there := v[field]; there {
			t.Errorf("a user who is no admin sees %s", field)
		}
	}
	if got := s.get("/scoria/v1/operations?project=p2").status; got != 403 {
		t.Errorf("operations of another project: %d, want 403", got)
	}
	s.get("/scoria/v1/operations?project=").own(400, messages.CodeInvalid, "project")
	s.get("/scoria/v1/operations?marker="+operation).own(404, messages.CodeNotFound, operation)
	if locks := s.get("/scoria/v1/locks").want(200).list("locks"); len(locks) != 0 {
		t.Errorf("locks of another project: %v", locks)
	}
}
