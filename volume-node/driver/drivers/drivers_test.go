package drivers_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/drivers"
)

// parse reads a spec and checks it, without opening anything.
func parse(text string) (driver.Spec, error) {
	spec, err := driver.ParseSpec(text)
	if err != nil {
		return driver.Spec{}, err
	}
	return spec, drivers.Registry().Check(spec)
}

func TestWrongSpecsAreRefusedByNameValueAndUnit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"local=tape":                              {"local", `"tape"`, "file, null"},
		"local=file":                              {"local", "path", "directory"},
		"local=file:path=":                        {"path", "empty"},
		"local=file:path=/x,colour=red":           {`"colour"`, "delay, lock, lock-limit, oversubscription, path, reflink"},
		"local=file:path=/x,delay=5":              {"delay=5", "unit", "200ms"},
		"local=file:path=/x,delay=soon":           {"delay=soon", "unit"},
		"local=file:path=/x,delay=-1s":            {"delay=-1s", "below zero"},
		"local=file:path=/x,lock-limit=30":        {"lock-limit=30", "unit", "30s"},
		"local=file:path=/x,reflink=perhaps":      {"reflink=perhaps", "auto, never or always"},
		"local=file:path=/x,oversubscription=0.5": {"oversubscription=0.5", "1 to 1000"},
		"local=file:path=/x,oversubscription=NaN": {"oversubscription=NaN", "1 to 1000"},
		"fake=null:path=/x":                       {"fake", `"path"`, "delay"},
	} {
		_, err := parse(text)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("Parse(%q) = %v, want words with %q", text, err, part)
			}
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a")
	spec, err := parse("local=file:path=" + dir + ",oversubscription=3.5,reflink=never,lock-limit=1s")
	if err != nil {
		t.Fatal(err)
	}
	d, err := drivers.Registry().Open(t.Context(), spec, driver.Env{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Capacity(t.Context())
	if err != nil || c.Oversubscription != 3.5 || d.Info().Kind != "file" || d.Info().Capabilities.CloneWhileOpen {
		t.Errorf("Capacity = %+v, %v; Info = %+v", c, err, d.Info())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "volumes")); err != nil {
		t.Error(err)
	}
	slow, err := parse("fake=null:delay=1h")
	if err != nil {
		t.Fatal(err)
	}
	d, err = drivers.Registry().Open(t.Context(), slow, driver.Env{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := d.DeleteVolume(ctx, driver.Call{Operation: "op"}, "v"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("DeleteVolume of a backend with delay=1h = %v, want the context's end", err)
	}
}

func TestOpenNamesTheBackendThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := parse("local=file:path=" + file)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := drivers.Registry().Open(t.Context(), spec, driver.Env{}); err == nil || d != nil || !strings.Contains(err.Error(), "backend local") {
		t.Errorf("Open = %v, %v, want an error that names backend local", d, err)
	}
}
