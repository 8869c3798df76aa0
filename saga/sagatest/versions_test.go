package sagatest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

type rich struct {
	Size  int64             `msgpack:"size"`
	Names []string          `msgpack:"names,omitempty"`
	At    time.Time         `msgpack:"at"`
	Map   map[string]*state `msgpack:"map"`
	Skip  int               `msgpack:"-"`
	Plain bool
}

const richLine = "v 2 {size:int64 names:[]string at:time map:map[string]*{disk:string} Plain:bool} a,undo b,pivot,intent c"

func richRegistry(t *testing.T) *saga.Registry {
	t.Helper()
	do := func(context.Context, saga.Run, *rich) error { return nil }
	var reg saga.Registry
	err := saga.Register(&reg, saga.Definition[rich]{Name: "v", Version: 2, Steps: []saga.Step[rich]{
		{Name: "a", Do: do, Undo: saga.Nothing[rich]}, {Name: "b", Do: do, Pivot: true, Intent: true}, {Name: "c", Do: do},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &reg
}

func versionsFile(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "versions")
	if err := os.WriteFile(file, []byte("# comment\n\n"+strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestVersionsAcceptsWhatIsWrittenDown(t *testing.T) {
	t.Parallel()
	sagatest.Versions(t, richRegistry(t), versionsFile(t, "retired v 1 {} a,undo", richLine))
}

func TestVersionsFindsChanges(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ lines, says string }{
		"a field was retyped":    {strings.Replace(richLine, "int64", "string", 1), "changed without a new number"},
		"a step was added":       {strings.TrimSuffix(richLine, " c"), "changed without a new number"},
		"the pivot moved":        {strings.Replace(strings.Replace(richLine, ",pivot", "", 1), " c", " c,pivot", 1), "changed without a new number"},
		"a version is new":       {"# nothing", "lacks a line for v 2"},
		"a version went":         {richLine + "|v 1 {} a,undo", "v 1 is no longer registered"},
		"a retired one is there": {"retired " + richLine, "is retired, and it is registered"},
		"a line is doubled":      {richLine + "|" + richLine, "two lines"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireFails(t, "versions", c.lines, c.says)
		})
	}
}
