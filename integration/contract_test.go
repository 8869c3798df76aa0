package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/integration/harness"
)

// run runs the binary until it ends by itself, and returns what it said and its exit status.
func run(t *testing.T, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String(), errs.String(), 0
}

// A wrong setting is refused with its name, its value and what is wanted, before anything is made.
func TestWrongSettingsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "scoria.yaml")
	write := func(text string) string {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		file string
		want []string
	}{
		{name: "no data", args: []string{"up"}, want: []string{"data", "directory"}},
		{name: "workers", args: []string{"--workers", "x"}, want: []string{"workers", `"x"`}},
		{name: "too few workers", args: []string{"--workers", "-1"}, want: []string{"workers", "-1", "operations"}},
		{name: "lease without unit", args: []string{"--lease", "30"}, want: []string{"lease", "30", "unit"}},
		{name: "attach wait", args: []string{"--attach-wait", "5ms"}, want: []string{"attach-wait", "5ms", "1s"}},
		{name: "short lease", args: []string{"--lease", "1ms"}, want: []string{"lease", "1ms", "1s"}},
		{name: "quota", args: []string{"--quota", "volumes=-2"}, want: []string{"quota", "volumes=-2", "-1"}},
		{name: "quota name", args: []string{"--quota", "disks=1"}, want: []string{"quota", "disks"}},
		{name: "listen", args: []string{"--listen", "nonsense"}, want: []string{"listen", "nonsense", "HOST:PORT"}},
		{name: "NATS port", args: []string{"--nats-listen", "127.0.0.1:99999"}, want: []string{"99999"}},
		{name: "backend kind", args: []string{"--backend", "a=tape"}, want: []string{"backend", "a=tape"}},
		{name: "backend key", args: []string{"--backend", "a=file:path=/x,speed=1"}, want: []string{"backend", "speed"}},
		{name: "backend unit", args: []string{"--backend", "a=null:delay=5"}, want: []string{"backend", "delay", "5"}},
		{name: "backend twice", args: []string{"--backend", "a=null", "--backend", "a=null"}, want: []string{"backend", "twice"}},
		{name: "name", args: []string{"--name", "a.b"}, want: []string{"name", "a.b"}},
		{name: "log level", args: []string{"--log-level", "loud"}, want: []string{"log-level", "loud"}},
		{name: "unknown flag", args: []string{"--sped"}, want: []string{"--sped"}},
		{name: "environment", env: []string{"SCORIA_WORKERS=many"}, want: []string{"SCORIA_WORKERS", "many"}},
		{name: "file", file: "workers: many\n", want: []string{"scoria.yaml", "line 1", "workers", "many"}},
		{name: "unknown key in the file", file: "listen: 127.0.0.1:0\nspeed: 1\n", want: []string{"line 2", "speed"}},
		{name: "file that is none", args: []string{"--config", "/does/not/exist"}, want: []string{"/does/not/exist"}},
		{name: "file that is no YAML", file: "a: [", want: []string{"scoria.yaml"}},
	} {
		dir := t.TempDir()
		args := append([]string{"up", "--data", filepath.Join(dir, "d"), "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"}, c.args...)
		if c.name == "no data" {
			args = c.args
		}
		if c.file != "" {
			args = append(args, "--config", write(c.file))
		}
		_, stderr, status := run(t, c.env, args...)
		if status != 2 && c.name != "file that is none" && c.name != "NATS port" || status == 0 {
			t.Errorf("%s: status %d: %s", c.name, status, stderr)
		}
		for _, w := range c.want {
			if !strings.Contains(stderr, w) {
				t.Errorf("%s: said %q, want %q in it", c.name, stderr, w)
			}
		}
		if lines := strings.Count(strings.TrimSpace(stderr), "\n"); lines > 2 {
			t.Errorf("%s: said %d lines: %s", c.name, lines+1, stderr)
		}
	}
}

func TestFlagGoesBeforeEnvironmentBeforeFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flag, env, fileAddr := harness.FreeAddr(t), harness.FreeAddr(t), harness.FreeAddr(t)
	file := filepath.Join(dir, "up.yaml")
	yaml := "listen: " + fileAddr + "\nmetrics: " + fileAddr + "\nnats-listen: " + harness.FreeAddr(t) + "\nname: n1\nbackend:\n- a=null\n- b=null\nquota: volumes=3\n"
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p := harness.StartEnv(t, []string{"SCORIA_LISTEN=" + env, "SCORIA_METRICS=" + env}, "up", "--data", filepath.Join(dir, "d"), "--config", file, "--listen", flag)
	if url := p.Ready(t); url != "http://"+flag {
		t.Errorf("listens at %s, want the flag's %s", url, flag)
	}
	if resp, err := http.Get("http://" + env + "/readyz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("metrics are not where the environment said: %v", err)
	}
	api := &harness.API{URL: "http://" + flag, Project: "demo"}
	var out struct{ Backends []struct{ Name string } }
	api.Must(t, 200, "GET", "/scoria/v1/backends", nil, &out)
	if len(out.Backends) != 2 {
		t.Errorf("backends %v, want the two of the file", out.Backends)
	}
	for i := range 4 {
		want := http.StatusAccepted
		if i == 3 {
			want = http.StatusRequestEntityTooLarge
		}
		api.Must(t, want, "POST", "/volumes", M{"volume": M{"size": 1}}, nil)
	}
}

func TestAPortInUseIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, flag := range []string{"--listen", "--nats-listen", "--metrics"} {
		args := []string{"up", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"}
		_, stderr, status := run(t, nil, append(args, flag, l.Addr().String())...)
		if status == 0 || !strings.Contains(stderr, "another process listens on "+l.Addr().String()) || !strings.Contains(stderr, flag) {
			t.Errorf("%s: status %d, said %s", flag, status, stderr)
		}
	}
}

func TestADataDirectoryOfANewerReleaseIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "scoria.json"), []byte(`{"format":99,"release":"9.1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := run(t, nil, "up", "--data", dir, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
	if status == 0 || !strings.Contains(stderr, "9.1") || !strings.Contains(stderr, "start the newer release") {
		t.Errorf("status %d, said %s", status, stderr)
	}
}

// A stream with other settings is named and left as it is.
func TestAStreamWithOtherSettingsIsRefused(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null")
	nc, err := nats.Connect(s.NATSURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_scoria")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.AllowDirect = true
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := run(t, nil, "api-node", "--nats", s.NATSURL(), "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
	if status == 0 || !strings.Contains(stderr, "AllowDirect") && !strings.Contains(stderr, "allow_direct") || !strings.Contains(stderr, "does not change a stream") {
		t.Errorf("status %d, said %s", status, stderr)
	}
	if now, err := js.Stream(t.Context(), "KV_scoria"); err != nil || !now.CachedInfo().Config.AllowDirect {
		t.Errorf("the stream was changed: %v", err)
	}
}

func TestProcessesSayWhenTheyAreReadyAndEndCleanly(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null")
	for _, url := range []string{"http://" + s.Listen, "http://" + s.Metrics} {
		resp, err := http.Get(url + "/readyz")
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s/readyz: %v %v", url, resp, err)
		}
	}
	api := harness.Start(t, "api-node", "--nats", s.NATSURL(), "--listen", harness.FreeAddr(t), "--metrics", harness.FreeAddr(t))
	second := &harness.API{URL: api.Ready(t), Project: "demo"}
	node := harness.Start(t, "volume-node", "--nats", s.NATSURL(), "--name", "n2", "--state", t.TempDir(), "--backend", "other=null", "--metrics", harness.FreeAddr(t))
	metrics := node.Ready(t)
	volume := second.Create(t, M{"size": 1})
	harness.Eventually(t, 10*time.Second, "the first API node shows what the second accepted", func() bool {
		ans, err := s.Do(t.Context(), "GET", "/volumes/"+volume, nil)
		return err == nil && ans.Status == 200
	})
	resp, err := http.Get(metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"scoria_build_info", "scoria_saga_runs_total", "scoria_kvlock_events_total", "process_resident_memory_bytes"} {
		if !strings.Contains(text.String(), name) {
			t.Errorf("metrics lack %s", name)
		}
	}
	for name, p := range map[string]*harness.Process{"api-node": api, "volume-node": node} {
		if err := p.Stop(t); err != nil {
			t.Errorf("%s after SIGTERM: %v\n%s", name, err, p.Log())
		}
	}
	s.Stop(t)
	s.Start(t)
	if v := s.Get(t, volume); v.Status != "available" {
		t.Errorf("after a restart the volume is %s", v.Status)
	}
	s.VerifyClean(t)
}

// A node that brings another node's name, or another node's backend, is refused.
func TestANodeIsItsStateDirectory(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	s := harness.Up(t, "--backend", "local=file:path="+files)
	_, stderr, status := run(t, nil, "volume-node", "--nats", s.NATSURL(), "--name", "n1", "--state", t.TempDir(), "--backend", "x=null", "--metrics", "127.0.0.1:0")
	if status == 0 || !strings.Contains(stderr, "n1") {
		t.Errorf("same name, other state directory: status %d, said %s", status, stderr)
	}
	_, stderr, status = run(t, nil, "volume-node", "--nats", s.NATSURL(), "--name", "n2", "--state", t.TempDir(), "--backend", "local=file:path="+files, "--metrics", "127.0.0.1:0")
	if status == 0 || !strings.Contains(stderr, "local") || !strings.Contains(stderr, "n1") {
		t.Errorf("a backend of another node: status %d, said %s", status, stderr)
	}
}

func TestCommandsSpeakToPeopleAndToPrograms(t *testing.T) {
	t.Parallel()
	s := harness.Up(t)
	out, stderr, status := s.CLI(t, "volume", "create", "--size", "1", "--name", "first", "-o", "json")
	if status != 0 {
		t.Fatalf("create: %d %s", status, stderr)
	}
	var v harness.Volume
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Status != "available" || v.Name != "first" {
		t.Fatalf("create printed %s: %v", out, err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"volume", "list"}, "first"},
		{[]string{"volume", "show", v.ID}, "available"},
		{[]string{"volume", "extend", v.ID, "--size", "2"}, ""},
		{[]string{"snapshot", "create", v.ID, "--name", "s"}, "available"},
		{[]string{"snapshot", "list"}, v.ID},
		{[]string{"operation", "list"}, "volume.create"},
		{[]string{"lock", "list"}, "KEY"},
		{[]string{"lock", "explain", v.ID}, "nobody holds it"},
		{[]string{"verify"}, "clean"},
		{[]string{"version"}, "scoria "},
		{[]string{"completion", "bash"}, "complete"},
		{[]string{"--help"}, "volume"},
	} {
		out, stderr, status := s.CLI(t, c.args...)
		if status != 0 || !strings.Contains(out, c.want) {
			t.Errorf("%v: status %d, printed %q, said %q", c.args, status, out, stderr)
		}
	}
	_, stderr, status = s.CLI(t, "volume", "delete", v.ID)
	if status == 0 || !strings.Contains(stderr, "snapshot") {
		t.Errorf("delete of a volume with a snapshot: status %d, said %s", status, stderr)
	}
	_, stderr, status = s.CLI(t, "volume", "show", "nonsense")
	if status == 0 || !strings.Contains(stderr, "could not be found") {
		t.Errorf("show of nothing: status %d, said %s", status, stderr)
	}
	s.Stop(t)
	_, stderr, status = s.CLI(t, "volume", "list")
	if status == 0 || !strings.Contains(stderr, "nothing listens") {
		t.Errorf("no server: status %d, said %s", status, stderr)
	}
}
