package linearizability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/internal/history"
	"github.com/scoria-storage/scoria/kvlock/internal/link"
	"github.com/scoria-storage/scoria/kvlock/internal/long"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

const (
	bucket    = "lin"
	processes = 4
	// limit is how long anything may take that must happen: servers, elections, calls.
	limit = 2 * time.Minute
	// answerLimit is when a client repeats a call that was not answered.
	answerLimit = time.Second
)

// world is servers, processes that use them, and what those do.
type world struct {
	seed      uint64
	rng       *rand.Rand // of the faults
	servers   []*server
	processes []*process
	loads     []*load
	admin     jetstream.JetStream // not through a gate
	ends      context.Context     // when clients begin nothing new

	unanswered atomic.Int64 // calls whose answer did not come
	faulted    map[*server]bool
	changes    int // of the leader
}

// process is a store with a locker, on a connection of its own.
type process struct {
	store *kvtx.Store
	locks *kvlock.Locker
}

// load is one workload.
type load struct {
	name    string
	clients int
	rec     *history.Recorder
	model   porcupine.Model
	act     func(c *client) // One operation, or a few.
	check   func(t *testing.T)
}

// client does one operation of a workload after another.
type client struct {
	t       *testing.T
	w       *world
	rec     *history.Recorder
	name    string
	rng     *rand.Rand
	p, heir *process        // Its own; the one that takes over.
	ctx     context.Context // Ends what hangs.
	made    int
}

func TestHistoriesOnOneServer(t *testing.T) {
	t.Parallel()
	run(t, 1, number(t, "SCORIA_ROUNDS", 1))
}

// threeServers says that the test has them: too slow beside the race detector, so a short run leaves it out.
func threeServers(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("three servers")
	}
}

func TestHistoriesOnThreeServers(t *testing.T) {
	threeServers(t)
	t.Parallel()
	run(t, 3, number(t, "SCORIA_ROUNDS", 1))
}

// TestLongHistories makes new servers and histories until the time of SCORIA_LONG is over.
func TestLongHistories(t *testing.T) {
	d := long.For(t)
	for begin := time.Now(); time.Since(begin) < d && !t.Failed(); {
		t.Run("one server", func(t *testing.T) { run(t, 1, number(t, "SCORIA_ROUNDS", 3)) })
		t.Run("three servers", func(t *testing.T) { run(t, 3, number(t, "SCORIA_ROUNDS", 3)) })
	}
}

// run lets the clients of all workloads work side by side while the servers are disturbed, and checks what they saw.
func run(t *testing.T, servers int, rounds uint64) {
	w := &world{seed: number(t, "KVLOCK_SEED", rand.Uint64()), faulted: map[*server]bool{}}
	t.Logf("KVLOCK_SEED=%d", w.seed)
	w.rng = rand.New(rand.NewPCG(w.seed, 0))
	w.servers = startServers(t, servers)
	w.admin = w.connect(t, false)
	for range processes {
		w.processes = append(w.processes, w.process(t))
	}
	w.loads = workloads(servers == 1)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ends, end := context.WithCancel(ctx)
	defer end()
	w.ends = ends
	var clients, wakes sync.WaitGroup
	for _, p := range w.processes[:2] {
		wakes.Go(func() {
			if err := p.locks.ServeWakes(ctx); err != nil {
				t.Errorf("ServeWakes: %v", err)
			}
		})
	}
	for i, l := range w.loads {
		for n := range l.clients {
			c := &client{t: t, w: w, rec: l.rec, name: fmt.Sprintf("%s-%d", l.name, n), rng: rand.New(rand.NewPCG(w.seed, uint64(1+i*100+n)))}
			c.p, c.heir = w.processes[(i+n)%processes], w.processes[(i+n+1)%processes]
			clients.Go(func() { c.work(ctx, l.act) })
		}
	}
	w.disturb(t, int(rounds))
	end()
	clients.Wait()
	cancel()
	wakes.Wait()
	w.check(t)
	if servers > 1 && w.changes < 2 { // by its step at least, and by its end or its stop
		t.Errorf("the leader changed %d times, want twice at least", w.changes)
	}
}

// work does operations until the end, each within the limit.
func (c *client) work(ctx context.Context, act func(*client)) {
	for c.w.ends.Err() == nil && !c.t.Failed() {
		var cancel context.CancelFunc
		c.ctx, cancel = context.WithTimeout(ctx, limit)
		act(c)
		cancel()
		c.pause(10 * time.Millisecond)
	}
}

// check says what cannot have been, and what was left behind.
func (w *world) check(t *testing.T) {
	kvlocktest.RequireFree(t, w.processes[0].locks)
	kvlocktest.RequireSound(t, w.processes[0].locks)
	var all sync.WaitGroup
	for _, l := range w.loads {
		all.Go(func() {
			begin := time.Now()
			if err := l.rec.Check(l.model, time.Minute); err != nil {
				t.Errorf("%s: %v", l.name, err)
			}
			if l.check != nil {
				l.check(t)
			}
			certain := l.rec.Count(func(_ any, certain bool) bool { return certain })
			perhaps := l.rec.Count(func(_ any, certain bool) bool { return !certain })
			t.Logf("%s: %d calls, %d events, %d perhaps; checked in %.1fs", l.name, l.rec.Ended(), certain, perhaps, time.Since(begin).Seconds())
		})
	}
	all.Wait()
	t.Logf("%d calls were not answered, the leader changed %d times", w.unanswered.Load(), w.changes)
}

// number is an environment variable, or another value.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// connect connects to any server.
func (w *world) connect(t *testing.T, throughGate bool) jetstream.JetStream {
	t.Helper()
	opts := nats.GetDefaultOptions()
	opts.MaxReconnect, opts.ReconnectWait, opts.ReconnectJitter = -1, 50*time.Millisecond, 50*time.Millisecond
	opts.PingInterval, opts.MaxPingsOut, opts.Timeout = time.Second, 2, 2*time.Second
	opts.IgnoreDiscoveredServers = true
	for _, s := range w.servers {
		if throughGate {
			opts.Servers = append(opts.Servers, s.gate.url())
		} else {
			opts.Servers = append(opts.Servers, "nats://"+s.addr())
		}
	}
	nc, err := opts.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// process opens a store through the gates. Three servers need a moment until they know each other.
func (w *world) process(t *testing.T) *process {
	t.Helper()
	js := w.connect(t, true)
	var store *kvtx.Store
	var err error
	w.until(t, "the stream is there", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		store, err = kvtx.Ensure(ctx, js, kvtx.Config{Bucket: bucket, Replicas: len(w.servers)},
			kvtx.WithAckTimeout(answerLimit), kvtx.WithInterceptor(w.notice))
		return err == nil
	})
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &process{store: store, locks: kvlock.New(store)}
}

// info is what the server knows of the stream; nil if none answers.
func (w *world) info(t *testing.T) *jetstream.StreamInfo {
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	stream, err := w.admin.Stream(ctx, "KV_"+bucket)
	if err != nil || len(w.servers) > 1 && stream.CachedInfo().Cluster == nil {
		return nil
	}
	return stream.CachedInfo()
}

// until waits for a condition.
func (w *world) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s\n%s", limit, what, w.locks(t))
		}
		if t.Failed() {
			t.Fatalf("something else is wrong before this: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// locks is who holds what and who waits, for who looks for the reason of a halt.
func (w *world) locks(t *testing.T) (text string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, p := range w.processes[:1] {
		for lock, err := range p.locks.Locks(ctx) {
			text += fmt.Sprintf("key %s is %s at %d, %v\n", lock.Key, lock.Mode, lock.Revision, err)
			for _, h := range lock.Holders {
				rec, err := p.locks.Record(ctx, h.Owner)
				text += fmt.Sprintf("  held by %s, %s at %d, %v\n", h.Owner, rec.Phase, rec.Revision, err)
			}
			for _, h := range lock.Line {
				rec, err := p.locks.Record(ctx, h.Owner)
				text += fmt.Sprintf("  waited for by %s, %s at %d, %v\n", h.Owner, rec.Phase, rec.Revision, err)
			}
		}
	}
	return text
}

// notice counts the calls whose answer did not come. The store repeats them.
func (w *world) notice(ctx context.Context, _ kvtx.Call, next func(context.Context) error) error {
	err := next(ctx)
	if errors.Is(err, link.ErrNoAnswer) {
		w.unanswered.Add(1)
	}
	return err
}

// id is a new one.
func (c *client) id() string {
	c.made++
	return fmt.Sprintf("%s-%d", c.name, c.made)
}

// fail says what went wrong, and how the locks stand if nothing else went wrong before.
func (c *client) fail(format string, args ...any) {
	stand := ""
	if !c.t.Failed() {
		stand = "\n" + c.w.locks(c.t)
	}
	c.t.Errorf(format+"%s", append(args, stand)...)
}

// pause waits at most that long.
func (c *client) pause(most time.Duration) {
	select {
	case <-time.After(time.Duration(c.rng.Int64N(int64(most)))):
	case <-c.ctx.Done():
	}
}

// moment is long enough for everything, or too short for some.
func (c *client) moment() (context.Context, context.CancelFunc) {
	if c.rng.IntN(10) > 0 {
		return context.WithCancel(c.ctx)
	}
	return context.WithTimeout(c.ctx, time.Duration(1+c.rng.IntN(200))*time.Millisecond)
}

// settled calls until the answer is neither that the time is over nor a doubt. The first time is a moment.
func (c *client) settled(call func(ctx context.Context) error) error {
	ctx, cancel := c.moment()
	err := call(ctx)
	cancel()
	for (unknown(err) || ended(err)) && c.ctx.Err() == nil {
		err = call(c.ctx)
	}
	return err
}

// unknown says that a call may have had its effect.
func unknown(err error) bool { return errors.Is(err, kvtx.ErrInDoubt) }

// ended says that a call ran out of time.
func ended(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
