package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
	"github.com/scoria-storage/scoria/volume-node/export/nbd/nbdtest"
)

// The process with the volume node is killed and started again: the host's one connection goes on meanwhile.
func TestHostsGoOnWhileUpIsKilled(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	s := harness.Up(t, "--lease", "1s")
	volume := s.Create(t, M{"size": 1})
	_, uri := attach(t, s.API, volume)
	host := newTraffic(t, uri, false, nil, rnd)
	for range 3 {
		host.goesOn(t, "before the kill")
		s.Kill()
		if _, err := s.Do(t.Context(), http.MethodGet, "/volumes", nil); err == nil {
			t.Fatal("the killed process answers")
		}
		host.goesOn(t, "after the kill")
		s.Start(t)
		host.goesOn(t, "after the new start")
	}
	content, err := host.stop()
	if err != nil {
		t.Error(err)
	}
	wantContent(t, volumeFile(s, volume), content)
	s.VerifyClean(t)
}

func TestHostsGoOnWhileAVolumeNodeIsKilled(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	h := newHouse(t, t.TempDir(), "reflink=auto")
	w := h.start(t)
	volume := h.Create(t, M{"size": 1})
	attachment, uri := attach(t, h.API, volume)
	host := newTraffic(t, uri, false, nil, rnd)
	host.goesOn(t, "before the kill")
	w.Kill()
	host.goesOn(t, "after the kill")
	w = h.start(t)
	host.goesOn(t, "after the new start")
	if err := w.Stop(t); err != nil {
		t.Errorf("end after SIGTERM: %v", err)
	}
	host.goesOn(t, "after the end of the process by SIGTERM: only up ends its export server")
	h.start(t)
	content, err := host.stop()
	if err != nil {
		t.Error(err)
	}
	detach(t, h.API, attachment)
	h.holds(t, volume, content)
	h.clean(t)
}

// The export server is killed, alone and together with the process that started it: the exports are back under the same
// URI, with all that was written.
func TestExportsAreBackAfterTheExportServerIsKilled(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	s := harness.Up(t, "--lease", "1s")
	volume := s.Create(t, M{"size": 1})
	attachment, uri := attach(t, s.API, volume)
	host := newTraffic(t, uri, true, nil, rnd)
	state := filepath.Join(s.Dir, "node")
	for round := range 4 {
		host.goesOn(t, "before the kill")
		pid := harness.ExportServerPID(state)
		if pid == 0 {
			t.Fatal("there is no export server")
		}
		together := round%2 == 1
		if together {
			s.Kill()
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, 10*time.Second, "the export server is dead", func() bool { return dead(pid) })
		if together {
			s.Start(t)
		}
		host.goesOn(t, "after the kill")
		if now := harness.ExportServerPID(state); now == 0 || now == pid {
			t.Errorf("round %d: the export server is process %d, want another one than %d", round, now, pid)
		}
		sameURI(t, s, attachment, uri)
	}
	content, err := host.stop()
	if err != nil {
		t.Error(err)
	}
	wantContent(t, volumeFile(s, volume), content)
	s.VerifyClean(t)
}

// cutOff says that the error is one of a host that was cut off: the server says so, or is not there any more.
func cutOff(err error) bool {
	return errors.Is(err, harness.ErrConnection) || errors.Is(err, syscall.ESHUTDOWN)
}

func dead(pid int) bool {
	state := harness.State(pid)
	return state == 0 || state == 'Z'
}

func sameURI(t *testing.T, s *harness.Stack, attachment, uri string) {
	t.Helper()
	var out struct{ Attachment attachmentShown }
	s.Must(t, http.StatusOK, http.MethodGet, "/attachments/"+attachment, nil, &out)
	if out.Attachment.Info.URI != uri {
		t.Errorf("the attachment is at %s, was at %s", out.Attachment.Info.URI, uri)
	}
}

// SIGTERM ends up and its export server: hosts are cut off in order. The next start serves the same URIs.
func TestSIGTERMEndsTheExportServerAndTheNextStartServesTheSameURIs(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	s := harness.Up(t)
	state := filepath.Join(s.Dir, "node")
	type attached struct{ volume, attachment, uri string }
	var all []attached
	for range 3 {
		a := attached{volume: s.Create(t, M{"size": 1})}
		a.attachment, a.uri = attach(t, s.API, a.volume)
		all = append(all, a)
	}
	content := harness.Content{}
	for range 2 {
		host := newTraffic(t, all[0].uri, false, content, rnd)
		host.goesOn(t, "before the end")
		pid := harness.ExportServerPID(state)
		s.Stop(t)
		if !dead(pid) || harness.ExportServerPID(state) != 0 {
			t.Errorf("the export server, process %d, lives after the end of up", pid)
		}
		<-host.ended
		if !cutOff(host.err) {
			t.Errorf("the host was not cut off: %v", host.err)
		}
		content = host.content
		have, _, err := harness.ReadContent(volumeFile(s, all[0].volume))
		if err != nil {
			t.Fatal(err)
		}
		for n, tag := range host.doubtful { // asked for when it ended: done or not
			if have[n] == tag {
				content[n] = tag
			}
		}
		if text := content.Differs(have); text != "" {
			t.Errorf("volume after the end: %s", text)
		}
		s.Start(t)
		for _, a := range all {
			sameURI(t, s, a.attachment, a.uri)
			host, err := harness.NewHost(a.uri)
			if err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, 10*time.Second, "the export is back", func() bool { _, err := host.Read(0); return err == nil })
			host.Close()
		}
	}
	s.VerifyClean(t)
}

// chain writes numbers 1, 2, 3 … over its blocks, over several connections, each only when the one before was answered. So
// at any moment the blocks hold what the first k writes left, for some k.
type chain struct {
	first           int64 // block
	asked, answered atomic.Uint64
}

const chainBlocks = 64

func (c *chain) block(n uint64) int64 { return c.first + int64(n%chainBlocks) }

func (c *chain) run(ctx context.Context, hosts []*nbdtest.Client) error {
	for n := uint64(1); ctx.Err() == nil; n++ {
		c.asked.Store(n)
		if err := hosts[n%uint64(len(hosts))].WriteAt(harness.Block(c.block(n), n), c.block(n)*harness.BlockBytes); err != nil {
			return fmt.Errorf("write %d: %w", n, err)
		}
		c.answered.Store(n)
	}
	return nil
}

// moment finds the k whose state the content is, or says why there is none.
func (c *chain) moment(have harness.Content) (k uint64, err error) {
	for b := range int64(chainBlocks) {
		k = max(k, have[c.first+b])
	}
	for n := k; n > 0 && n+chainBlocks > k; n-- {
		if have[c.block(n)] != n {
			return k, fmt.Errorf("write %d is in it, but block %d holds write %d, not %d", k, c.block(n), have[c.block(n)], n)
		}
	}
	return k, nil
}

// Copies of an attached volume on a file system with reflinks hold the content of one moment, while hosts write.
func TestCopiesOfAnAttachedVolumeAreOfOneMoment(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(harness.XFS(t, "16G"), "volumes")
	s := harness.Up(t, "--backend", "local=file:path="+dir+",reflink=always")
	volume := s.Create(t, M{"size": 1})
	_, uri := attach(t, s.API, volume)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writing sync.WaitGroup
	var chains []*chain
	var errs [3]error
	for i := range errs {
		c := &chain{first: int64(i) * chainBlocks * 2}
		var hosts []*nbdtest.Client
		for range 3 {
			host, err := harness.NewHost(uri)
			if err != nil {
				t.Fatal(err)
			}
			client, err := host.Connect()
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			hosts = append(hosts, client)
		}
		chains = append(chains, c)
		writing.Go(func() { errs[i] = c.run(ctx, hosts) })
	}
	for round := range 24 {
		var before, after [3]uint64
		for i, c := range chains {
			harness.Eventually(t, 10*time.Second, "hosts write", func() bool { return c.answered.Load() > uint64(round*chainBlocks) })
			before[i] = c.answered.Load()
		}
		path, folder := "/volumes/", "volumes"
		var id string
		if round%3 == 0 {
			id = s.Create(t, M{"source_volid": volume})
		} else {
			path, folder = "/snapshots/", "snapshots"
			id = s.Snapshot(t, volume)
		}
		for i, c := range chains {
			after[i] = c.asked.Load()
			if after[i] == before[i] {
				t.Errorf("round %d: nothing was written meanwhile", round)
			}
		}
		have, _, err := harness.ReadContent(filepath.Join(dir, folder, id))
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range chains {
			k, err := c.moment(have)
			if err != nil {
				t.Errorf("round %d: %s %s: %v", round, path, id, err)
			}
			if k < before[i] || k > after[i] {
				t.Errorf("round %d: it holds %d writes: %d were answered before, %d asked for when it was there", round, k, before[i], after[i])
			}
		}
		s.Delete(t, path+id)
	}
	cancel()
	writing.Wait()
	for i, err := range errs {
		if err != nil {
			t.Error(err)
		}
		t.Logf("chain %d: %d writes", i, chains[i].answered.Load())
	}
	s.VerifyClean(t)
}

// Where copies take time, a copy of an attached volume is refused with the reason, and nothing is left of it.
func TestCopiesOfAnAttachedVolumeAreRefusedWithoutReflinks(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "local=file:path="+filepath.Join(t.TempDir(), "v")+",reflink=never")
	volume := s.Create(t, M{"size": 1})
	attachment, _ := attach(t, s.API, volume)
	for path, body := range map[string]M{
		"/snapshots": {"snapshot": M{"volume_id": volume}},
		"/volumes":   {"volume": M{"source_volid": volume}},
	} {
		ans := s.Must(t, http.StatusBadRequest, http.MethodPost, path, body, nil)
		key, code, text := ans.Fault()
		if key != "badRequest" || code != 400 || !containsAll(text, []string{"Invalid volume", volume, "is attached", "no reflink"}) {
			t.Errorf("POST %s: refused with %s", path, ans.Body)
		}
	}
	var out struct{ Volumes, Snapshots []struct{ ID string } }
	s.Must(t, http.StatusOK, http.MethodGet, "/volumes", nil, &out)
	s.Must(t, http.StatusOK, http.MethodGet, "/snapshots", nil, &out)
	if len(out.Volumes) != 1 || len(out.Snapshots) != 0 {
		t.Errorf("something is left of what was refused: %+v", out)
	}
	s.VerifyClean(t)
	detach(t, s.API, attachment)
	s.Snapshot(t, volume)
	s.VerifyClean(t)
}

// Where copies take time, an attach waits for the copy that began before it: what the host writes is not in the copy.
func TestAnAttachWaitsForASlowCopy(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	dir := filepath.Join(t.TempDir(), "v")
	s := harness.Up(t, "--backend", "local=file:path="+dir+",reflink=never")
	volume := s.Create(t, M{"size": 1})
	content := scattered(rnd, 8_192)
	if err := harness.WriteContent(filepath.Join(dir, "volumes", volume), content); err != nil {
		t.Fatal(err)
	}
	var out struct{ Volume harness.Volume }
	clone := s.Must(t, http.StatusAccepted, http.MethodPost, "/volumes", M{"volume": M{"source_volid": volume}}, &out).Operation()
	harness.Eventually(t, 30*time.Second, "the copy is under way", func() bool {
		found, _ := filepath.Glob(filepath.Join(dir, "volumes", ".tmp-*"))
		return len(found) > 0
	})
	_, uri := attach(t, s.API, volume)
	var op struct{ Operation harness.Operation }
	s.Must(t, http.StatusOK, http.MethodGet, "/scoria/v1/operations/"+clone, nil, &op)
	if !op.Operation.Ended || op.Operation.Phase != "done" {
		t.Fatalf("the volume was attached while it was copied: %+v", op.Operation)
	}
	host, err := harness.NewHost(uri)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if err := host.Write(harness.Content{0: 1, 1: 2}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, filepath.Join(dir, "volumes", out.Volume.ID), content)
	s.VerifyClean(t)
}

// When a detach is answered the host is cut off: no byte of it reaches the volume any more, and it cannot come back.
func TestDetachCutsTheHostOffBeforeItReturns(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	s := harness.Up(t)
	volume := s.Create(t, M{"size": 1})
	content := harness.Content{}
	for round := range 8 {
		attachment, uri := attach(t, s.API, volume)
		host := newTraffic(t, uri, false, content, rnd)
		host.goesOn(t, "before the detach")
		detach(t, s.API, attachment)
		have, _, err := harness.ReadContent(volumeFile(s, volume))
		if err != nil {
			t.Fatal(err)
		}
		<-host.ended
		if !cutOff(host.err) {
			t.Fatalf("round %d: the host was not cut off: %v", round, host.err)
		}
		late, err := harness.NewHost(uri)
		if err != nil {
			t.Fatal(err)
		}
		if err := late.Write(harness.Content{0: 1}); err == nil {
			t.Errorf("round %d: a host wrote after the detach", round)
		}
		content = host.content
		for n, tag := range host.doubtful { // asked for at the detach: done or not, but not later
			if have[n] == tag {
				content[n] = tag
			}
		}
		if text := content.Differs(have); text != "" {
			t.Errorf("round %d: after the detach: %s", round, text)
		}
		wantContent(t, volumeFile(s, volume), content)
	}
	s.VerifyClean(t)
}

func TestAReadOnlyAttachmentRefusesWrites(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	s := harness.Up(t)
	volume := s.Create(t, M{"size": 1})
	content := scattered(rnd, 64)
	if err := harness.WriteContent(volumeFile(s, volume), content); err != nil {
		t.Fatal(err)
	}
	attachment, uri := attach(t, s.API, volume, "--read-only")
	host, err := harness.NewHost(uri)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	client, err := host.Connect()
	if err != nil {
		t.Fatal(err)
	}
	if client.Flags&nbdtest.ReadOnly == 0 {
		t.Errorf("flags %#x do not say that the export is read-only", client.Flags)
	}
	block := harness.Block(0, 1)
	for name, request := range map[string]error{
		"write":  client.WriteAt(block, 0),
		"trim":   client.Do(nbdtest.Trim, 0, 0, harness.BlockBytes, nil),
		"zeroes": client.Do(nbdtest.WriteZeroes, 0, 0, harness.BlockBytes, nil),
	} {
		if !errors.Is(request, syscall.EPERM) {
			t.Errorf("%s: %v, want EPERM", name, request)
		}
	}
	for n, tag := range content {
		if have, err := host.Read(n); err != nil || have != tag {
			t.Errorf("block %d reads as %#x, %v, want %#x", n, have, err, tag)
		}
	}
	qemu := tool(t, "qemu-io", "qemu-utils")
	if out, err := exec.Command(qemu, "-f", "raw", "-c", "write -P 1 0 4096", uri).CombinedOutput(); err == nil {
		t.Errorf("qemu-io wrote: %s", out)
	}
	wantContent(t, volumeFile(s, volume), content)
	detach(t, s.API, attachment)

	// The same volume, to be written to.
	attachment, uri = attach(t, s.API, volume)
	out, err := exec.Command(qemu, "-f", "raw", "-c", "write -P 0x5a 64M 1M", "-c", "flush", "-c", "read -P 0x5a 64M 1M", uri).CombinedOutput()
	if err != nil || strings.Contains(string(out), "failed") {
		t.Errorf("qemu-io: %v: %s", err, out)
	}
	detach(t, s.API, attachment)
	s.VerifyClean(t)
}
