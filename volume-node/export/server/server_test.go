package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
	"github.com/scoria-storage/scoria/volume-node/export/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a server on a directory, without sockets.
func open(t *testing.T, dir string, change ...func(*Config)) *Server {
	t.Helper()
	cfg := Config{StateDir: dir}
	for _, f := range change {
		f(&cfg)
	}
	paths, err := ctl.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(cfg.withDefaults(), paths)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func shut(t *testing.T, s *Server) {
	t.Helper()
	if err := s.close(context.Background()); err != nil {
		t.Error(err)
	}
}

func request(t *testing.T, volume string) export.Request {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	return export.Request{
		Attachment: "a-" + volume, Volume: volume, Operation: "op", Fence: export.Fence{Era: 1, Rev: 7}, Path: path, Bytes: 8192,
	}
}

func removal(r export.Request) export.Removal {
	return export.Removal{Attachment: r.Attachment, Volume: r.Volume, Fence: r.Fence}
}

func mustExport(t *testing.T, s *Server, r export.Request) export.Connection {
	t.Helper()
	c, err := s.Export(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What this release writes equals the golden file, which is never edited; what stands there is read.
func TestRecordEqualsItsGoldenFile(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/record-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	r := record{
		Version: recordVersion, Volume: "v-1", Fence: export.Fence{Era: 3, Rev: 77}, Path: "/data/volumes/v-1",
		Exports: []entry{
			{Attachment: "a-1", Path: "/data/volumes/v-1", Bytes: 1 << 30},
			{Attachment: "a-2", Path: "/data/volumes/v-1", Bytes: 1 << 30, ReadOnly: true},
		},
	}
	tb, err := openTable(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := tb.write(r); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(tb.file("v-1")); err != nil || !bytes.Equal(got, golden) {
		t.Errorf("the record is\n%s(%v), want\n%s", got, err, golden)
	}
	got, err := tb.read("v-1")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := mustJSON(t, got), mustJSON(t, r); a != b {
		t.Errorf("read %s, want %s", a, b)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func TestDamagedRecordStopsOnlyItsVolume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	good := request(t, "good")
	mustExport(t, s, good)
	shut(t, s)
	for name, text := range map[string]string{
		"bad": "{", "newer": `{"version":2,"volume":"newer"}`, "other": `{"version":1,"volume":"x"}`,
	} {
		if err := os.WriteFile(filepath.Join(s.paths.Table, name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.paths.Table, "half.tmp"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if l, err := s.List(t.Context()); err != nil || len(l) != 1 || l[0].Attachment != good.Attachment {
		t.Errorf("List: %+v, %v", l, err)
	}
	for _, name := range []string{"bad", "newer", "other"} {
		_, err := s.Export(t.Context(), request(t, name))
		if err == nil || !strings.Contains(err.Error(), name+".json") {
			t.Errorf("Export of %s: %v, want an error that names the file", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.paths.Table, "half.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half.tmp is left: %v", err)
	}
}

// A record that cannot be made durable: there is no export, and the call can be repeated.
func TestExportIsNotMadeWithoutARecord(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	r := request(t, "v")
	blocked := filepath.Join(s.paths.Table, "v.tmp")
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Export(t.Context(), r); err == nil {
		t.Error("Export succeeded without a record")
	}
	if l, _ := s.List(t.Context()); len(l) != 0 {
		t.Errorf("List: %+v", l)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	mustExport(t, s, r)
}

// A file system that is mounted late: the export is back as soon as a host comes.
func TestExportWhoseFileIsMissingAtTheStartComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	r := request(t, "v")
	mustExport(t, s, r)
	shut(t, s)
	if err := os.Rename(r.Path, r.Path+".away"); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	l, err := s.List(t.Context())
	if err != nil || len(l) != 1 || !strings.Contains(l[0].Fault, r.Path) {
		t.Errorf("List: %+v, %v, want a fault that names the file", l, err)
	}
	if err := os.Rename(r.Path+".away", r.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.volumes["v"].disks[r.Attachment].device(); err != nil {
		t.Errorf("a host that comes gets %v", err)
	}
	if l, err = s.List(t.Context()); err != nil || l[0].Fault != "" {
		t.Errorf("List: %+v, %v", l, err)
	}
}

// unsyncable is a file whose data does not get to stable storage.
type unsyncable struct{ disk.Backing }

func (unsyncable) Sync() error { return syscall.EIO }

func TestFailedLastSyncIsToldOnceAndDoesNotBlockTheDetach(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), func(c *Config) {
		c.Open = func(path string, readOnly bool) (disk.Backing, error) {
			b, err := disk.OpenFile(path, readOnly)
			return unsyncable{b}, err
		}
	})
	r := request(t, "v")
	mustExport(t, s, r)
	if err := s.Unexport(t.Context(), removal(r)); !errors.Is(err, syscall.EIO) {
		t.Errorf("Unexport: %v, want the error of the sync", err)
	}
	if _, err := s.Export(t.Context(), r); !errors.Is(err, export.ErrUnavailable) {
		t.Errorf("Export of what is being removed: %v, want %v", err, export.ErrUnavailable)
	}
	if err := s.Unexport(t.Context(), removal(r)); err != nil {
		t.Errorf("second Unexport: %v", err)
	}
	if l, _ := s.List(t.Context()); len(l) != 0 {
		t.Errorf("List: %+v", l)
	}
}

func TestFenceIsForgottenADayAfterItsVolume(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	gone, kept, used := request(t, "gone"), request(t, "kept"), request(t, "used")
	for _, r := range []export.Request{gone, kept, used} {
		mustExport(t, s, r)
	}
	for _, r := range []export.Request{gone, kept} {
		if err := s.Unexport(t.Context(), removal(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Remove(gone.Path), os.Rename(used.Path, used.Path+".away")); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.forget(now)
	s.forget(now.Add(forgetAfter - time.Second))
	if _, err := os.Stat(s.table.file("gone")); err != nil {
		t.Errorf("forgotten too early: %v", err)
	}
	s.forget(now.Add(forgetAfter))
	if _, err := os.Stat(s.table.file("gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("not forgotten: %v", err)
	}
	for _, name := range []string{"kept", "used"} {
		if _, err := os.Stat(s.table.file(name)); err != nil {
			t.Errorf("%s is forgotten: %v", name, err)
		}
	}
	if len(s.volumes) != 2 {
		t.Errorf("%d volumes in memory, want 2", len(s.volumes))
	}
}

func TestHoldOfUnknownVolumesLeavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	h, err := s.hold(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.release(h.token); err != nil {
		t.Error(err)
	}
	if len(s.volumes) != 0 || len(s.holds) != 0 {
		t.Errorf("left: %d volumes, %d holds", len(s.volumes), len(s.holds))
	}
}

// stuck is a file whose writes do not come back.
type stuck struct {
	disk.Backing
	inside, goOn chan struct{}
}

func (f stuck) WriteAt(p []byte, off int64) error {
	close(f.inside)
	<-f.goOn
	return f.Backing.WriteAt(p, off)
}

func TestHoldGivesUpWhenAWriteDoesNotEnd(t *testing.T) {
	t.Parallel()
	f := stuck{inside: make(chan struct{}), goOn: make(chan struct{})}
	s := open(t, t.TempDir(), func(c *Config) {
		c.HoldLimit = 20 * time.Millisecond
		c.Open = func(path string, readOnly bool) (disk.Backing, error) {
			b, err := disk.OpenFile(path, readOnly)
			f.Backing = b
			return f, err
		}
	})
	mustExport(t, s, request(t, "v"))
	d := s.volumes["v"].disks["a-v"].disk
	written := make(chan error, 1)
	go func() { written <- d.WriteAt(t.Context(), []byte("x"), 0) }()
	<-f.inside
	if _, err := s.hold(t.Context(), "v"); !errors.Is(err, export.ErrUnavailable) {
		t.Errorf("hold: %v, want %v", err, export.ErrUnavailable)
	}
	if err := d.Trim(t.Context(), 0, 1); err != nil { // other writes go on
		t.Error(err)
	}
	close(f.goOn)
	if err := <-written; err != nil {
		t.Error(err)
	}
}

func TestRepeatedExportWritesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	r := request(t, "v")
	mustExport(t, s, r)
	before, err := os.Stat(s.table.file("v"))
	if err != nil {
		t.Fatal(err)
	}
	mustExport(t, s, r)
	after, err := os.Stat(s.table.file("v"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the record was written again (%v)", err)
	}
}

func TestUnexportGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	r := request(t, "v")
	mustExport(t, s, r)
	v := s.use("v")
	defer s.drop(v)
	if err := v.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Unexport(ctx, removal(r)); !errors.Is(err, context.Canceled) {
		t.Errorf("Unexport: %v, want %v", err, context.Canceled)
	}
	v.unlock()
}

// run starts a whole server.
func run(t *testing.T, dir string) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- Run(ctx, Config{StateDir: dir, Ready: func(ctl.Paths) { close(ready) }}) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return func() error { cancel(); return <-ended }
}

func TestSecondServerOfADirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "ex")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	stop := run(t, dir)
	if err := Run(t.Context(), Config{StateDir: dir}); !errors.Is(err, ErrRunning) {
		t.Errorf("Run: %v, want %v", err, ErrRunning)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := run(t, dir)(); err != nil { // the lock is free again
		t.Error(err)
	}
}

func TestSocketsAreForTheirUserAlone(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "ex")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	stop := run(t, dir)
	paths, err := ctl.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{paths.NBD, paths.Control} {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", p, info, err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, p := range []string{paths.NBD, paths.Control} {
		if _, err := os.Stat(p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", p, err)
		}
	}
}

func TestControlRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	c := newControl(t.Context(), open(t, t.TempDir()), func() {})
	for _, call := range []struct {
		method, path, body, code string
	}{
		{"POST", "/v1/explode", "{}", "unsupported"},
		{"GET", ctl.CallList, "", "unsupported"},
		{"POST", ctl.CallExport, "", "invalid"},
		{"POST", ctl.CallExport, "[1,2", "invalid"},
		{"POST", ctl.CallExport, `{"attachment":7}`, "invalid"},
		{"POST", ctl.CallExport, `{}`, "invalid"},
		{"POST", ctl.CallUnexport, `{"attachment":"a","volume":"../v"}`, "invalid"},
		{"POST", ctl.CallHold, strings.Repeat(" ", maxCall+1) + "{}", "invalid"},
		{"POST", ctl.CallHold, `{"volume":"a b"}`, "invalid"},
		{"POST", ctl.CallRelease, `{"token":"x"}`, "hold_lost"},
	} {
		w := httptest.NewRecorder()
		c.http.Handler.ServeHTTP(w, httptest.NewRequest(call.method, call.path, strings.NewReader(call.body)))
		var p ctl.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code != call.code || w.Code == http.StatusOK {
			t.Errorf("%s %s %.40s: status %d, %s, want code %s", call.method, call.path, call.body, w.Code, w.Body, call.code)
		}
	}
}

func TestConfigNamesTheWrongField(t *testing.T) {
	t.Parallel()
	for field, c := range map[string]Config{
		"StateDir": {}, "HoldLimit": {StateDir: "x", HoldLimit: -1}, "StopLimit": {StateDir: "x", StopLimit: -1},
		"MaxConnections": {StateDir: "x", MaxConnections: -1},
	} {
		if err := Run(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%+v: %v, want an error that begins with %s", c, err, field)
		}
	}
}
