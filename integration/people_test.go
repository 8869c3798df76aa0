package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// An attachment is shown whatever its status: it may be what keeps its volume from being used.
func TestAttachmentsAreShownWhateverTheirStatus(t *testing.T) {
	t.Parallel()
	s := harness.Up(t)
	volume, other := s.Create(t, M{"size": 1}), s.Create(t, M{"size": 1})
	var reserved, attached string
	var out struct{ Attachment struct{ ID string } }
	s.Must(t, http.StatusOK, http.MethodPost, "/attachments", M{"attachment": M{"volume_uuid": volume}}, &out)
	reserved = out.Attachment.ID
	attached, _ = attach(t, s.API, other)

	run := func(args ...string) string {
		t.Helper()
		out, errs, status := s.CLI(t, args...)
		if status != 0 {
			t.Errorf("%v: status %d: %s", args, status, errs)
		}
		return out
	}
	for line, want := range map[string][]string{
		"volume show " + volume:                    {reserved, "reserved"},
		"volume show " + other:                     {attached, "attached on "},
		"volume show " + volume + " -o json":       {reserved, `"status": "reserved"`},
		"attachment list":                          {reserved, attached, "reserved", "attached"},
		"attachment list -o json":                  {reserved, attached, `"status": "attached"`},
		"attachment show " + reserved:              {volume, "reserved"},
		"attachment show " + attached:              {other, "nbd+unix:///" + attached, "n1"},
		"attachment show " + attached + " -o json": {other, "nbd+unix:///" + attached},
	} {
		got := run(strings.Fields(line)...)
		for _, text := range want {
			if !strings.Contains(got, text) {
				t.Errorf("%s printed no %q:\n%s", line, text, got)
			}
		}
	}
	var all []struct{ ID string }
	if err := json.Unmarshal([]byte(run("attachment", "list", "--volume", volume, "-o", "json")), &all); err != nil || len(all) != 1 || all[0].ID != reserved {
		t.Errorf("attachments of the volume: %v, %v; want %s", all, err, reserved)
	}
}

// A wait that a signal ends says that the operation goes on, and how to see it again; its status is the shell's for that signal.
func TestAnInterruptedWaitNamesTheOperation(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null:delay=6s")
	env := []string{"SCORIA_ENDPOINT=" + s.URL}
	interrupt := func(p *harness.Process, signal syscall.Signal, want string) {
		t.Helper()
		p.Signal(t, signal)
		select {
		case <-p.Ended():
		case <-time.After(20 * time.Second):
			t.Fatalf("it does not end after %v", signal)
		}
		if p.Status() != 128+int(signal) || !strings.HasSuffix(p.Log(), "scoria: interrupted; the operation goes on: `scoria operation watch "+want+"`\n") {
			t.Errorf("after %v: status %d, said %q", signal, p.Status(), p.Log())
		}
	}
	p := harness.StartEnv(t, env, "volume", "create", "--size", "1")
	harness.Eventually(t, 20*time.Second, "the command tells how it goes on", func() bool { return strings.Contains(p.Log(), "volume.create  running") })
	if strings.Contains(p.Log(), "of 0)") {
		t.Errorf("said %q", p.Log())
	}
	var list struct{ Operations []struct{ ID string } }
	s.Must(t, http.StatusOK, http.MethodGet, "/scoria/v1/operations", nil, &list)
	if len(list.Operations) != 1 {
		t.Fatalf("%d operations", len(list.Operations))
	}
	id := list.Operations[0].ID
	interrupt(p, syscall.SIGINT, id)

	watch := harness.StartEnv(t, env, "operation", "watch", id)
	harness.Eventually(t, 20*time.Second, "the operation is watched", func() bool { return strings.Contains(watch.Output(), id) })
	interrupt(watch, syscall.SIGTERM, id)
	if op := operation(t, s.API, id); op.Ended {
		t.Errorf("the operation is %s", op.Phase)
	}
}

// A process that stays ends cleanly when it is told to, without a word of an error.
func TestAnExportServerEndsCleanly(t *testing.T) {
	t.Parallel()
	p := harness.Start(t, "export-server", "--state", t.TempDir())
	harness.Eventually(t, 20*time.Second, "it is ready", func() bool { return strings.Contains(p.Log(), "export server ready") })
	p.Signal(t, syscall.SIGTERM)
	select {
	case <-p.Ended():
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	if p.Status() != 0 || strings.Contains(p.Log(), "scoria: ") {
		t.Errorf("status %d, said %q", p.Status(), p.Log())
	}
}
