package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
	"github.com/scoria-storage/scoria/volume-node/export/control"
)

// campaign is some clients at work on one stack that is killed again and again.
type campaign struct {
	*harness.Stack
	backend string // directory of the file backend
	reflink bool
	// exportsToo: now and then the export server is killed, too, and hosts have to connect again.
	exportsToo bool

	mu    sync.Mutex
	under map[string]*request          // asked for, not known to have ended
	ended map[string]harness.Operation // accepted, and ended
	hit   map[string]bool              // under way at a kill
	fault error                        // the first thing that was wrong
	// Requests whose answer was lost: accepted, or not. Requests that were repeated after an answer.
	acceptedInTheDark, neverArrived, repeated int
	temporaries                               int           // that were there after a kill
	slowest                                   time.Duration // of the answers
}

func (c *campaign) count(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

// answer sends a request once, and notes how long its answer took.
func (c *campaign) answer(ctx context.Context, r *request) (*harness.Answer, error) {
	at := time.Now()
	ans, err := c.Do(ctx, r.method, r.path, r.body, "Idempotency-Key", r.key)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slowest = max(c.slowest, time.Since(at))
	return ans, err
}

func (c *campaign) open(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.under[r.key] = r
}

// close notes that a request has come to its end; op is zero if it was refused.
func (c *campaign) close(r *request, op harness.Operation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.under, r.key)
	if op.ID != "" {
		c.ended[r.key] = op
	}
}

func (c *campaign) done() (ended int, fault error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ended), c.fault
}

func (c *campaign) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault == nil {
		c.fault = err
	}
}

// plan is how much a campaign does.
type plan struct{ operations, kills, clients int }

// The process is killed at random moments while clients work: nothing that was accepted is lost, done twice or left half done.
func TestKillsLoseNothing(t *testing.T) {
	t.Parallel()
	p := plan{operations: 400, kills: 20, clients: 6}
	if testing.Short() {
		p = plan{operations: 60, kills: 3, clients: 4}
	}
	t.Run("copies", func(t *testing.T) {
		t.Parallel()
		runCampaign(t, p, t.TempDir(), false)
	})
	t.Run("reflinks", func(t *testing.T) {
		t.Parallel()
		runCampaign(t, p, harness.XFS(t, "16G"), true)
	})
}

// TestLongKillsLoseNothing runs campaigns until the time of SCORIA_LONG is over.
func TestLongKillsLoseNothing(t *testing.T) {
	text := os.Getenv("SCORIA_LONG")
	if text == "" {
		t.Skip("SCORIA_LONG, such as 1h, is not set")
	}
	limit, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SCORIA_LONG=%q: want a duration such as 1h", text)
	}
	p := plan{operations: 2000, kills: 80, clients: 8}
	for round, end := 1, time.Now().Add(limit); time.Now().Before(end); round++ {
		for _, reflink := range []bool{false, true} {
			ok := t.Run(fmt.Sprintf("%d/reflink=%v", round, reflink), func(t *testing.T) {
				dir := t.TempDir()
				if reflink {
					dir = harness.XFS(t, "64G")
				}
				runCampaign(t, p, dir, reflink)
			})
			if !ok {
				return
			}
		}
	}
}

func runCampaign(t *testing.T, p plan, dir string, reflink bool) {
	rnd := seed(t)
	c := &campaign{backend: filepath.Join(dir, "volumes"), reflink: reflink, exportsToo: reflink,
		under: map[string]*request{}, ended: map[string]harness.Operation{}, hit: map[string]bool{}}
	choice := "never"
	if reflink {
		choice = "always"
	}
	c.Stack = harness.Up(t, "--lease", "1s", "--quota", "volumes=-1,snapshots=-1,gigabytes=-1",
		"--backend", fmt.Sprintf("local=file:path=%s,reflink=%s,delay=20ms,oversubscription=1000", c.backend, choice))
	clients := c.hire(t, rnd, p.clients)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	stop := make(chan struct{})
	var working sync.WaitGroup
	for _, k := range clients {
		working.Go(func() { c.fail(k.work(ctx, stop)) })
	}
	begun := time.Now()
	c.killAll(t, rnd, p)
	close(stop)
	working.Wait()
	if _, err := c.done(); err != nil {
		t.Fatal(err)
	}
	c.Idle(t)
	t.Logf("%d operations in %v", len(c.ended), time.Since(begun).Round(time.Second))
	c.account(t, p)
	c.inspect(t, clients)
}

// hire makes what all clients copy from, and the clients.
func (c *campaign) hire(t *testing.T, rnd *rand.Rand, n int) []*tenant {
	t.Helper()
	golden := &disk{id: c.Create(t, M{"size": 1, "name": "golden"}), gib: 1, content: harness.Content{}}
	for i := range int64(2048) { // 8 MiB in 128 pieces: a copy takes long enough to be killed in it
		golden.content[i/16*64+i%16] = rnd.Uint64() | 1
	}
	if err := harness.WriteContent(c.file("volumes", golden.id), golden.content); err != nil {
		t.Fatal(err)
	}
	shared := &shot{id: c.Snapshot(t, golden.id), volume: golden.id, gib: 1, content: golden.content.Clone()}
	golden.shots = []*shot{shared}
	var all []*tenant
	for range n {
		all = append(all, &tenant{c: c, rnd: rand.New(rand.NewPCG(rnd.Uint64(), rnd.Uint64())), golden: golden, shared: shared})
	}
	return all
}

// work does one thing after the other until it is told to stop.
func (k *tenant) work(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, fault := k.c.done(); fault != nil {
			return fault
		}
		if err := k.step(ctx); err != nil {
			return err
		}
	}
}

// killAll kills and starts the process while the clients work, evenly over the operations, until both are enough. Half of
// the kills come at any moment, half when something is just being made on the backend.
func (c *campaign) killAll(t *testing.T, rnd *rand.Rand, p plan) {
	t.Helper()
	// An error of a client ends the wait.
	reached := func(n int) bool {
		have, fault := c.done()
		return fault != nil || have >= n
	}
	down := time.Duration(0)
	for kill := range p.kills {
		harness.Eventually(t, 2*time.Minute, "operations go on", func() bool { return reached((kill + 1) * p.operations / (p.kills + 1)) })
		if kill%2 == 0 {
			<-time.After(time.Duration(rnd.IntN(60_000)) * time.Microsecond)
		} else {
			c.untilTemporary(500 * time.Millisecond)
		}
		c.Kill()
		if c.exportsToo && kill%3 == 0 {
			harness.EndExportServer(t, filepath.Join(c.Dir, "node"))
		}
		c.mu.Lock()
		for key := range c.under {
			c.hit[key] = true
		}
		c.temporaries += len(c.temporary())
		c.mu.Unlock()
		at := time.Now()
		c.Start(t)
		down += time.Since(at)
	}
	t.Logf("down for %v in all", down.Round(time.Millisecond))
	harness.Eventually(t, 2*time.Minute, "operations go on", func() bool { return reached(p.operations) })
}

// untilTemporary waits until something is being made, for some time.
func (c *campaign) untilTemporary(limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end) && len(c.temporary()) == 0; {
	}
}

// temporary are the temporary files of the backend.
func (c *campaign) temporary() (found []string) {
	for _, folder := range []string{"volumes", "snapshots"} {
		names, err := filepath.Glob(filepath.Join(c.backend, folder, ".*"))
		if err != nil {
			panic(err) // the pattern is wrong
		}
		found = append(found, names...)
	}
	return found
}

// slowestAnswer is longer than any request waits for, and shorter than what gives one up that waits for what never comes.
const slowestAnswer = 15 * time.Second

// account proves that every accepted operation has ended as it should, and that the kills met something.
func (c *campaign) account(t *testing.T, p plan) {
	t.Helper()
	if len(c.under) != 0 {
		t.Errorf("%d requests have no end: %v", len(c.under), c.under)
	}
	accepted, again := 0, 0
	for key := range c.hit {
		op, found, err := c.lookup(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			continue // it was refused
		}
		accepted++
		if op.Epoch > 1 {
			again++
		}
	}
	for key := range c.ended {
		op, found, err := c.lookup(t.Context(), key)
		if err != nil || !found || !op.Ended || op.Phase != "done" {
			t.Errorf("operation %s: %+v, found %v, %v", key, op, found, err)
		}
	}
	t.Logf("%d kills met %d requests: %d were or became operations, %d of these were taken over again; of the answers that were lost %d said accepted, %d had not arrived; "+
		"%d requests were repeated after their answer; %d temporary files were left by the kills; the slowest answer took %v",
		p.kills, len(c.hit), accepted, again, c.acceptedInTheDark, c.neverArrived, c.repeated, c.temporaries, c.slowest.Round(time.Millisecond))
	if len(c.hit) < p.kills || again < p.kills/4 {
		t.Errorf("the kills met %d requests, %d of which were taken over again: want more of them", len(c.hit), again)
	}
	if c.slowest > slowestAnswer {
		t.Errorf("an answer took %v", c.slowest)
	}
	if c.temporaries == 0 {
		t.Errorf("no kill met anything that was being made on the backend")
	}
}

// inspect compares everything with what the clients believe.
func (c *campaign) inspect(t *testing.T, clients []*tenant) {
	t.Helper()
	if left := c.temporary(); len(left) != 0 {
		t.Errorf("temporary files are left: %v", left)
	}
	all := []*disk{clients[0].golden}
	for _, k := range clients {
		all = append(all, k.disks...)
		for _, path := range k.gone {
			c.Must(t, http.StatusNotFound, http.MethodGet, path, nil, nil)
		}
	}
	var volumes, snapshots, attachments []string
	for _, d := range all {
		want := "available"
		if d.host != nil {
			want = "in-use"
			attachments = append(attachments, d.attachment)
		}
		if v := c.Get(t, d.id); v.Status != want || v.Size != d.gib {
			t.Errorf("volume %s is %s with %d GiB, want %s with %d", d.id, v.Status, v.Size, want, d.gib)
		}
		if err := c.check("volumes", d.id, d.gib, d.content); err != nil {
			t.Error(err)
		}
		volumes = append(volumes, d.id)
		for _, s := range d.shots {
			if err := c.check("snapshots", s.id, s.gib, s.content); err != nil {
				t.Error(err)
			}
			snapshots = append(snapshots, s.id)
		}
	}
	sameSet(t, "volumes on the backend", c.names(t, "volumes"), volumes)
	sameSet(t, "snapshots on the backend", c.names(t, "snapshots"), snapshots)
	for path, want := range map[string][]string{"volumes": volumes, "snapshots": snapshots, "attachments": attachments} {
		var out map[string][]struct{ ID string }
		c.Must(t, http.StatusOK, http.MethodGet, "/"+path+"?limit=1000", nil, &out)
		var have []string
		for _, r := range out[path] {
			have = append(have, r.ID)
		}
		sameSet(t, path, have, want)
	}
	sameSet(t, "exports", c.exports(t), attachments)
	c.VerifyClean(t)
}

func (c *campaign) names(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.backend, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// exports asks the export server itself.
func (c *campaign) exports(t *testing.T) (names []string) {
	t.Helper()
	server, err := control.New(control.Config{StateDir: filepath.Join(c.Dir, "node")})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	list, err := server.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		names = append(names, x.Attachment)
	}
	return names
}

func sameSet(t *testing.T, what string, have, want []string) {
	t.Helper()
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("%s: %d\n%s\nwant %d\n%s", what, len(have), strings.Join(have, "\n"), len(want), strings.Join(want, "\n"))
	}
}
