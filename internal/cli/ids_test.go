package cli

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// What cannot be an ID would be another URL: nothing is asked for.
func TestWhatIsNoIDIsRefusedBeforeAnyCall(t *testing.T) {
	t.Parallel()
	url := fake(t, nil)
	for _, command := range []string{"volume show ID", "volume delete ID", "volume delete v1 ID", "volume extend ID --size 2", "volume revert ID --snapshot s1",
		"volume revert v1 --snapshot ID", "volume set ID --name x", "volume attach ID", "volume detach ID", "volume create --from-snapshot ID", "volume create --from-volume ID",
		"snapshot create ID", "snapshot show ID", "snapshot delete ID", "snapshot set ID --name x", "operation show ID", "operation watch ID", "operation cancel ID",
		"operation resume ID", "operation abandon ID --reason x", "lock explain ID"} {
		for _, id := range []string{"", ".", "..", "detail", "summary", "../volumes", "a/b", "a b", "a?b=c", "a%2fb", "é", "a\nb"} {
			args := strings.Split(command, " ")
			args[slices.Index(args, "ID")] = id
			stdout, stderr, status := scoria(t, append(args, "--endpoint", url)...)
			if status != 2 || stdout != "" || !strings.Contains(stderr, "want the ID of a") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s with %q: status %d, printed %q, said %q", command, id, status, stdout, stderr)
			}
		}
	}
}

func TestAnswersWithoutWhatWasAskedForAreNoRecords(t *testing.T) {
	t.Parallel()
	url := fake(t, map[string]http.HandlerFunc{
		"GET /v3/demo/volumes/v1": say(200, `{}`), "GET /v3/demo/snapshots/s1": say(200, `{"snapshot": {}}`), "GET /scoria/v1/operations/op1": say(200, `{"operations": []}`),
		"GET /v3/demo/volumes/detail": say(200, `{}`),
	})
	for _, command := range []string{"volume show v1", "snapshot show s1", "operation show op1", "operation watch op1", "volume list"} {
		stdout, stderr, status := scoria(t, append(strings.Split(command, " "), "--endpoint", url)...)
		if status != 1 || stdout != "" || !strings.Contains(stderr, "answer") {
			t.Errorf("%s: status %d, printed %q, said %q", command, status, stdout, stderr)
		}
	}
}

func TestTheShellCompletesIDsAndWords(t *testing.T) {
	t.Parallel()
	url := fake(t, map[string]http.HandlerFunc{
		"GET /v3/demo/volumes/detail":   say(200, twoVolumes),
		"GET /v3/demo/snapshots/detail": say(200, `{"snapshots": [{"id": "s1", "name": "daily", "status": "available"}]}`),
		"GET /v3/demo/attachments":      say(200, `{"attachments": [{"id": "a1", "status": "attached", "volume_id": "v1"}]}`),
		"GET /scoria/v1/operations": func(w http.ResponseWriter, r *http.Request) {
			id := "op" + strings.ReplaceAll(r.URL.RawQuery, "project=demo&", "-")
			say(200, `{"operations": [{"id": "`+id+`", "kind": "volume.create", "phase": "running"}]}`)(w, r)
		},
		"GET /scoria/v1/locks": say(200, `{"locks": [{"key": "volume.v1", "mode": "shared"}]}`),
	})
	for line, want := range map[string]string{
		"volume show |":                     "v1\tdisk in-use v2\tavailable",
		"volume show v2|":                   "v2\tavailable",
		"volume show x|":                    "",
		"volume show v1 |":                  "",
		"volume delete v1 |":                "v1\tdisk in-use v2\tavailable",
		"volume create --from-snapshot |":   "s1\tdaily available",
		"volume detach |":                   "a1\tattached of volume v1",
		"snapshot create |":                 "v1\tdisk in-use v2\tavailable",
		"snapshot delete |":                 "s1\tdaily available",
		"operation show |":                  "op-\tvolume.create running",
		"operation cancel |":                "op-live=true\tvolume.create running",
		"operation resume |":                "op-phase=stuck\tvolume.create running",
		"lock explain |":                    "volume.v1\tshared",
		"volume list |":                     "",
		"operation list --phase |":          "queued granted running undoing done undone stuck void",
		"operation list --kind |":           strings.Join(kinds(), " "),
		"volume list -o |":                  "table json",
		"version -o |":                      "table json",
		"bench api -o |":                    "table json",
		"volume show --endpoint http://x |": "",
	} {
		args := strings.Split(strings.TrimSuffix(line, "|"), " ")
		last := args[len(args)-1]
		args = append([]string{"__complete"}, args[:len(args)-1]...)
		if !strings.Contains(line, "http") && !strings.HasPrefix(line, "version") && !strings.HasPrefix(line, "bench") {
			args = slices.Insert(args, 3, "--endpoint="+url)
		}
		stdout, _, status := scoria(t, append(args, last)...)
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		if got := strings.Join(lines[:len(lines)-1], " "); status != 0 || got != want || lines[len(lines)-1] != ":4" {
			t.Errorf("%s: offered %q and %s, want %q and no files", line, got, lines[len(lines)-1], want)
		}
	}
}
