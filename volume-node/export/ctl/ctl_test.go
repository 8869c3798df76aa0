package ctl_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
)

func TestErrorsCrossTheSocket(t *testing.T) {
	t.Parallel()
	for _, kind := range []error{
		export.ErrFenced, export.ErrConflict, export.ErrInvalid, export.ErrNotFound, export.ErrHoldLost, export.ErrUnavailable,
		ctl.ErrUnsupported,
	} {
		sent := fmt.Errorf("volume v: %w: in words", kind)
		p, status := ctl.ProblemOf(sent)
		got := p.Err()
		if !errors.Is(got, kind) || got.Error() != sent.Error() || status < 400 {
			t.Errorf("%v arrives as %v with status %d", sent, got, status)
		}
	}
	p, status := ctl.ProblemOf(errors.New("disk on fire"))
	if err := p.Err(); status != 500 || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("another error arrives as %v with status %d", err, status)
	}
	if err := (ctl.Problem{Code: "of a later release", Message: "words"}).Err(); !strings.Contains(err.Error(), "words") {
		t.Errorf("unknown code: %v", err)
	}
}

// What this release says on the socket equals the golden file, which is never edited; processes of other releases rely on it.
func TestMessagesEqualTheirGoldenFile(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/messages-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	conn := export.Connection{Protocol: "nbd", URI: "nbd+unix:///a?socket=/s", Socket: "/s", Name: "a", Bytes: 1 << 30, ReadOnly: true}
	fence := export.Fence{Era: 1, Rev: 2}
	problem, _ := ctl.ProblemOf(export.ErrFenced)
	var got []byte
	for _, m := range []any{
		export.Request{Attachment: "a", Volume: "v", Operation: "o", Fence: fence, Path: "/p", Bytes: 1 << 30, ReadOnly: true},
		conn,
		export.Removal{Attachment: "a", Volume: "v", Operation: "o", Fence: fence},
		ctl.List{Exports: []export.Exported{{Attachment: "a", Volume: "v", Path: "/p", Fence: fence, Connection: conn, Clients: 3, Fault: "f"}}},
		ctl.Resize{Volume: "v", Bytes: 1 << 31},
		ctl.Volume{Volume: "v"},
		ctl.Held{Token: "t"},
		ctl.Hello{Version: ctl.Version, PID: 4711},
		ctl.Done{},
		problem,
	} {
		p, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got = append(append(got, p...), '\n')
	}
	if !bytes.Equal(got, golden) {
		t.Errorf("messages are\n%swant\n%s", got, golden)
	}
}

func TestSocketPathsFitAndStay(t *testing.T) {
	short, err := ctl.Find("/var/lib/scoria")
	if err != nil || short.NBD != "/var/lib/scoria/nbd.sock" || short.Control != "/var/lib/scoria/export.ctl" {
		t.Errorf("short: %+v, %v", short, err)
	}
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 110))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	one, err := ctl.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ctl.Find(dir + "x")
	if err != nil {
		t.Fatal(err)
	}
	if one.NBD == two.NBD || one.NBD == one.Control {
		t.Errorf("sockets are not told apart: %s, %s, %s", one.NBD, one.Control, two.NBD)
	}
	for _, p := range []string{one.NBD, one.Control} {
		if n := len(ctl.NewName(p)); n > 107 {
			t.Errorf("%s has %d bytes", p, n)
		}
	}
	if err := one.Prepare(); err != nil {
		t.Fatal(err)
	}
	goldenSockets(t, dir, one)
	t.Setenv("XDG_RUNTIME_DIR", "/elsewhere")
	t.Setenv("TMPDIR", "/elsewhere")
	if again, err := ctl.Find(dir); err != nil || again != one {
		t.Errorf("in another environment: %+v, %v, want %+v", again, err, one)
	}
	if err := os.WriteFile(filepath.Join(dir, "export.sockets"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ctl.Find(dir); err == nil || !strings.Contains(err.Error(), "export.sockets") {
		t.Errorf("damaged memory: %v, want an error that names the file", err)
	}
}

// goldenSockets compares what a server remembered of its sockets with the golden file, which is never edited, and reads that one.
func goldenSockets(t *testing.T, dir string, p ctl.Paths) {
	t.Helper()
	golden, err := os.ReadFile("testdata/sockets-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	const nbd, control = "/run/scoria/0a1b2c3d4e5f6071.nbd", "/run/scoria/0a1b2c3d4e5f6071.ctl"
	file := filepath.Join(dir, "export.sockets")
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.NewReplacer(p.NBD, nbd, p.Control, control).Replace(string(written)); got != string(golden) {
		t.Errorf("sockets are remembered as %s, in the golden file as %s", got, golden)
	}
	if err := os.WriteFile(file, golden, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ctl.Find(dir); err != nil || got.NBD != nbd || got.Control != control {
		t.Errorf("the golden file reads as %s and %s, %v", got.NBD, got.Control, err)
	}
	if err := os.WriteFile(file, written, 0o600); err != nil {
		t.Fatal(err)
	}
}
