// Package layers holds the import directions of the house: imports go down only, the two workshops never meet, and
// each third-party module has one home.
package layers

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/scoria-storage/scoria"

// layer of each folder: the longest prefix counts. Test kits may import upwards of their library, tests may import anything.
var layer = map[string]int{
	"":                    6,
	"internal":            6,
	"integration":         6,
	"deploy":              5,
	"api-node":            4,
	"volume-node":         4,
	"api-node/":           3,
	"volume-node/":        3,
	"volume-node/driver":  2,
	"volume-node/export":  2,
	"kvlock/kvlockprom":   2,
	"kvlock/kvlocktest":   2,
	"saga/sagaprom":       2,
	"saga/sagakv":         2,
	"saga/sagatest":       2,
	"messages":            2,
	"messages/client":     3,
	"messages/records":    2,
	"kvlock":              1,
	"saga":                1,
	"messages/block":      0,
	"volume-node/driver/": 2,
	"volume-node/export/": 2,
	"messages/client/":    3,
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 15 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

func folder(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func layerOf(t *testing.T, dir string) int {
	t.Helper()
	best, found := -1, 6
	for prefix, n := range layer {
		matches := dir == prefix || prefix != "" && strings.HasPrefix(dir, strings.TrimSuffix(prefix, "/")+"/")
		if strings.HasSuffix(prefix, "/") && dir == strings.TrimSuffix(prefix, "/") {
			matches = false
		}
		if matches && len(prefix) > best {
			best, found = len(prefix), n
		}
	}
	if best < 0 {
		t.Errorf("folder %q has no layer: add it to the table and to ARCHITECTURE.md", dir)
	}
	return found
}

func TestImportsGoDownOnly(t *testing.T) {
	for _, p := range packages(t) {
		dir, _ := folder(p.ImportPath)
		for _, imp := range p.Imports {
			to, ours := folder(imp)
			if !ours {
				continue
			}
			if layerOf(t, to) > layerOf(t, dir) {
				t.Errorf("%s (layer %d) imports %s (layer %d)", dir, layerOf(t, dir), to, layerOf(t, to))
			}
			if crosses(dir, to) {
				t.Errorf("%s imports %s: the two must not know each other", dir, to)
			}
		}
	}
}

func crosses(from, to string) bool {
	in := func(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }
	libs := in(from, "saga") && from != "saga/sagakv" && in(to, "kvlock") || in(from, "kvlock") && in(to, "saga")
	return in(from, "api-node") && in(to, "volume-node") || in(from, "volume-node") && in(to, "api-node") || libs
}

func TestImportsOfThirdPartyModulesHaveOneHome(t *testing.T) {
	homes := map[string][]string{
		"github.com/nats-io/nats-server/v2":   {"deploy/", "kvlock/kvlocktest"},
		"github.com/minio/highwayhash":        {"deploy/embednats"},
		"github.com/prometheus/client_golang": {"kvlock/kvlockprom", "saga/sagaprom", "deploy", "api-node", "volume-node"},
		"github.com/hashicorp/go-memdb":       {"api-node/view"},
		"github.com/vmihailenco/msgpack/v5":   {"messages", "messages/records", "kvlock", "saga"},
		"github.com/spf13/cobra":              {"internal/cli"},
		"github.com/spf13/pflag":              {"internal/cli"},
		"gopkg.in/yaml.v3":                    {"internal/cli"},
		"github.com/cenkalti/backoff/v4":      {"kvlock", "saga", "api-node/admit", "volume-node/intake"},
		"os/exec":                             {"volume-node/export/launch", "volume-node/driver/drivertest", "volume-node/export/exporttest", "internal"},
	}
	exact := map[string]bool{"api-node": true, "volume-node": true}
	for _, p := range packages(t) {
		dir, _ := folder(p.ImportPath)
		for _, imp := range p.Imports {
			for third, allowed := range homes {
				if imp != third && !strings.HasPrefix(imp, third+"/") {
					continue
				}
				ok := false
				for _, home := range allowed {
					home = strings.TrimSuffix(home, "/")
					ok = ok || dir == home || !exact[home] && strings.HasPrefix(dir, home+"/")
				}
				if !ok && !strings.HasPrefix(dir, "integration") {
					t.Errorf("%s imports %s, whose home is %s", dir, imp, strings.Join(allowed, ", "))
				}
			}
		}
	}
}

func TestImportGraphOfTheLibrariesHoldsNoServer(t *testing.T) {
	for _, p := range packages(t) {
		switch dir, _ := folder(p.ImportPath); dir {
		case "kvlock", "kvlock/kvtx", "saga", "saga/sagakv":
			for _, dep := range p.Deps {
				if strings.HasPrefix(dep, "github.com/nats-io/nats-server") || strings.HasPrefix(dep, "github.com/prometheus/") {
					t.Errorf("%s depends on %s", dir, dep)
				}
			}
		case "messages/block":
			for _, dep := range p.Deps {
				if strings.Contains(strings.SplitN(dep, "/", 2)[0], ".") && dep != p.ImportPath {
					t.Errorf("%s depends on %s: standard library only", dir, dep)
				}
			}
		}
	}
}
