package sagatest

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/saga"
)

// Versions fails when a definition changed its shape (its steps, or the fields of its state) and not its number,
// for then a run that an older release began would go on with steps that it does not have.
//
// The file has one line for each version that ever was released, and is only added to. A version that is no
// longer registered has its line marked with "retired " in front, once no run of it can be left.
func Versions(t *testing.T, reg *saga.Registry, file string) {
	t.Helper()
	known, err := readVersions(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, sh := range reg.Shapes() {
		key, line := versionLine(sh)
		was, ok := known[key]
		switch {
		case !ok:
			t.Errorf("%s lacks a line for %s; if that version is new, add\n%s", file, key, line)
		case was == retired:
			t.Errorf("%s says that %s is retired, and it is registered", file, key)
		case was != line:
			t.Errorf("%s changed without a new number; it was\n%s\nand is\n%s", key, was, line)
		}
		delete(known, key)
	}
	for key, line := range known {
		if line != retired {
			t.Errorf("%s is no longer registered: runs that began with it would wait for ever. If none can be left, mark its line in %s as retired", key, file)
		}
	}
}

const retired = "retired"

func readVersions(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	known := make(map[string]string)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rest, old := strings.CutPrefix(line, retired+" ")
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			return nil, fmt.Errorf("%s: the line %q names no definition and version", file, line)
		}
		key := fields[0] + " " + fields[1]
		if known[key] != "" {
			return nil, fmt.Errorf("%s has two lines for %s", file, key)
		}
		if known[key] = line; old {
			known[key] = retired
		}
	}
	return known, lines.Err()
}

// versionLine writes a shape down in one line.
func versionLine(sh saga.Shape) (key, line string) {
	key = fmt.Sprintf("%s %d", sh.Name, sh.Version)
	var b strings.Builder
	b.WriteString(key + " " + sh.State)
	for _, s := range sh.Steps {
		b.WriteString(" " + s.Name)
		for _, mark := range []struct {
			is   bool
			text string
		}{{s.Pivot, "pivot"}, {s.Undo, "undo"}, {s.Check, "check"}, {s.Intent, "intent"}} {
			if mark.is {
				b.WriteString("," + mark.text)
			}
		}
	}
	return key, b.String()
}
