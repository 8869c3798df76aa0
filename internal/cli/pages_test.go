package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// pagesOf serves rows 0 to n-1 in pages of at most most, as the lists of the API do. before is called with each request's marker.
func pagesOf(t *testing.T, name string, n, most int, before func(marker string) (gone bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query, from, size := r.URL.Query(), 0, most
		if m := query.Get("marker"); m != "" {
			if before != nil && before(m) {
				say(404, `{"itemNotFound": {"code": 404, "message": "it has gone"}}`)(w, r)
				return
			}
			last, err := strconv.Atoi(strings.TrimPrefix(m, "id"))
			if err != nil {
				t.Errorf("marker %q", m)
			}
			from = last + 1
		}
		if l := query.Get("limit"); l != "" {
			limit, err := strconv.Atoi(l)
			if err != nil || limit < 1 {
				t.Errorf("limit %q", l)
			}
			size = min(limit, most)
		}
		rows := []map[string]string{}
		for i := from; i < min(from+size, n); i++ {
			rows = append(rows, map[string]string{"id": fmt.Sprint("id", i)})
		}
		answer := map[string]any{name: rows}
		if len(rows) == size {
			answer[name+"_links"] = []any{}
			if name == "operations" {
				delete(answer, name+"_links")
				answer["next"] = rows[size-1]["id"]
			}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"volumes": "GET /v3/demo/volumes/detail", "snapshots": "GET /v3/demo/snapshots/detail", "operations": "GET /scoria/v1/operations"} {
		for _, n := range []int{0, 1, 9, 10, 11, 35} {
			url := fake(t, map[string]http.HandlerFunc{path: pagesOf(t, name, n, 10, nil)})
			command := strings.TrimSuffix(name, "s")
			for limit, want := range map[string]int{"": n, "1": min(n, 1), "10": min(n, 10), "23": min(n, 23)} {
				args := []string{command, "list", "--endpoint", url}
				if limit != "" {
					args = append(args, "--limit", limit)
				}
				stdout, stderr, status := scoria(t, args...)
				if lines := strings.Count(stdout, "\n") - 1; status != 0 || lines != want || strings.Count(stdout, "id") != want {
					t.Errorf("%d %s, limit %q: status %d, %d rows, want %d; said %q", n, name, limit, status, lines, want, stderr)
				}
				stdout, _, _ = scoria(t, append(args, "-o", "json")...)
				var rows []struct{ ID string }
				if err := json.Unmarshal([]byte(stdout), &rows); err != nil || len(rows) != want {
					t.Errorf("%d %s, limit %q: %d rows as JSON, want %d (%v)", n, name, limit, len(rows), want, err)
				}
				for i, row := range rows {
					if row.ID != fmt.Sprint("id", i) {
						t.Fatalf("%d %s, limit %q: row %d is %s", n, name, limit, i, row.ID)
					}
				}
			}
		}
	}
}

// The row that marks the place may be deleted before the next page is asked for.
func TestAListGoesOnWhenItsMarkerHasGone(t *testing.T) {
	t.Parallel()
	url := fake(t, map[string]http.HandlerFunc{"GET /v3/demo/volumes/detail": pagesOf(t, "volumes", 25, 10, func(marker string) bool {
		return marker == "id9" || marker == "id8"
	})})
	stdout, stderr, status := scoria(t, "volume", "list", "--endpoint", url)
	if got := strings.Count(stdout, "id"); status != 0 || got != 25 {
		t.Errorf("status %d, %d rows, want 25; said %q", status, got, stderr)
	}
}

func TestTheLimitOfLocksIsKept(t *testing.T) {
	t.Parallel()
	holder := `"holders": [{"operation": "op"}]`
	url := fake(t, map[string]http.HandlerFunc{"GET /scoria/v1/locks": say(200, `{"locks": [{"key": "volume.1", `+holder+`}, {"key": "volume.2", `+holder+`}]}`)})
	for limit, want := range map[string]int{"1": 1, "5": 2} {
		if stdout, stderr, _ := scoria(t, "lock", "list", "--limit", limit, "--endpoint", url); strings.Count(stdout, "volume.") != want {
			t.Errorf("limit %s: %s%s", limit, stdout, stderr)
		}
	}
}
