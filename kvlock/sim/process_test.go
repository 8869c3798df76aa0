package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// plan is what a history is made of. All of it follows from the seed.
type plan struct {
	seed       uint64
	processes  int
	operations int // Of each client.

	lose, refuse, slow, pause              in // Of calls.
	crash, cut, freeze, cancel, jump, acks in // Of steps; acks: of acknowledgements.

	trace bool
	plant plant
}

// planOf draws the plan of a seed: some histories are calm, some lose much, some crash often.
func planOf(seed uint64) plan {
	rng := rand.New(rand.NewPCG(seed, 0))
	some := func(rates ...in) in { return rates[rng.IntN(len(rates))] }
	return plan{
		seed: seed, processes: 2 + rng.IntN(2), operations: 2 + rng.IntN(2),
		lose: some(0, 60, 25, 10), refuse: some(0, 80, 30, 10), slow: some(0, 6, 2), pause: some(60, 25, 8),
		crash: some(0, 400, 120, 60), cut: some(0, 300, 80), freeze: some(0, 300, 100), cancel: some(0, 150, 40), jump: some(0, 0, 0, 500), acks: some(0, 4),
	}
}

// process is one that uses the store, from its start to its end.
type process struct {
	w      *world
	name   string
	life   int
	conn   *conn
	frozen int // It does nothing before this step.
	ops    int

	ended  atomic.Bool
	ctx    context.Context // Ends with it.
	cancel context.CancelFunc
	all    sync.WaitGroup
	store  *kvtx.Store
	locks  *kvlock.Locker

	mu      sync.Mutex
	working int // Clients that have not done all their operations.
}

// Actors of each process.
const clients = 2

func (w *world) start(name string, life, ops int) *process {
	p := &process{w: w, name: name, life: life, ops: ops, working: clients}
	p.conn = newConn(w, p)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.all.Go(p.run)
	return p
}

func (p *process) label() string { return fmt.Sprintf("%s-%d", p.name, p.life) }

// jitter is any time about d that is the same for the same moment: what several goroutines draw at once must not depend on their order.
func (p *process) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(hashOf(p.w.plan.seed, p.label(), time.Since(p.w.begin))%uint64(d+1))
}

// turn holds a goroutine of the store back until it is its turn.
func (p *process) turn(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	got := make(chan struct{})
	p.w.add(&event{
		name: p.label() + "/" + who(ctx) + " goes on", kind: turn, proc: p, gone: func() bool { return ctx.Err() != nil || p.dead() },
		happen: func(fate) { close(got) },
	})
	select {
	case <-got:
	case <-ctx.Done():
	case <-p.ctx.Done():
	}
}

func hashOf(parts ...any) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, parts...)
	return h.Sum64()
}

// run is the life of the process.
func (p *process) run() {
	for p.store == nil {
		store, err := kvtx.OpenOn(p.ctx, p.conn, kvtx.Config{Bucket: bucket}, kvtx.Chance{Jitter: p.jitter, Turn: p.turn, Stream: stream{conn: p.conn}})
		if err == nil {
			p.store = store
		} else if !p.pause(100 * time.Millisecond) {
			return
		}
	}
	p.locks = kvlock.New(p.store)
	var actors sync.WaitGroup
	for i := range clients {
		actors.Go(p.actor(fmt.Sprintf("c%d", i+1)).client)
	}
	actors.Go(p.actor("n1").worker)
	actors.Go(p.actor("n2").worker)
	actors.Go(p.actor("k1").waker)
	if p.name == "p1" {
		actors.Go(p.actor("o1").operator)
	}
	<-p.ctx.Done()
	actors.Wait()
	_ = p.store.Close()
}

// pause waits, and says whether the process still lives.
func (p *process) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-p.ctx.Done():
		return false
	}
}

// crash ends the process: from now on nothing that it does has an effect. What it sent may still arrive.
func (p *process) crash() {
	p.ended.Store(true)
	p.conn.cut(true)
	p.cancel()
}

func (p *process) dead() bool { return p.ended.Load() }

func (p *process) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working--
}

func (p *process) works() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.working
}

// working is how many clients have something to do.
func (w *world) working() int {
	n := 0
	for _, p := range w.procs {
		if !p.dead() {
			n += p.works()
		}
	}
	return n
}

// mischief lets something go wrong that no call needs, and says whether it did.
func (w *world) mischief() bool {
	alive := slices.DeleteFunc(slices.Clone(w.procs), (*process).dead)
	p := alive[w.rng.IntN(len(alive))]
	switch {
	case w.chance(w.plan.crash):
		w.note("%s crashes", p.label())
		w.count("crash")
		p.crash()
		next := w.start(p.name, p.life+1, p.ops/2)
		next.frozen = w.step + w.rng.IntN(200)
		w.procs = append(w.procs, next)
	case w.chance(w.plan.cut):
		w.note("the connection of %s breaks", p.label())
		w.count("connection broken")
		p.conn.cut(false)
	case w.chance(w.plan.freeze):
		p.frozen = w.step + 20 + w.rng.IntN(200)
		w.note("%s stops until step %d", p.label(), p.frozen)
		w.count("process stopped for a while")
	case w.chance(w.plan.cancel):
		w.mu.Lock()
		names := slices.Sorted(maps.Keys(w.ctxs))
		w.mu.Unlock()
		if len(names) == 0 {
			return false
		}
		name := names[w.rng.IntN(len(names))]
		w.mu.Lock()
		cancel := w.ctxs[name]
		w.mu.Unlock()
		w.note("%s gives up", name)
		w.count("caller gave up")
		cancel()
	case w.chance(w.plan.jump):
		d := []time.Duration{61 * time.Minute, 25 * time.Hour}[w.rng.IntN(2)]
		w.note("%v pass in peace", d)
		w.count("markers expired")
		w.forget()
		w.thaw()
		w.calm = time.Now().Add(d)
	default:
		return false
	}
	return true
}

// heal ends all mischief.
func (w *world) heal() {
	w.note("nothing goes wrong any more")
	w.healing = true
	w.thaw()
}

// thaw lets all processes go on.
func (w *world) thaw() {
	for _, p := range w.procs {
		p.frozen = 0
	}
}

// left says what is still to be done; "" if nothing is.
func (w *world) left() string {
	var left []string
	if n := w.working(); n > 0 {
		left = append(left, fmt.Sprintf("%d clients at work", n))
	}
	w.mu.Lock()
	for _, e := range w.events {
		if e.kind == request || e.kind == answer && !e.gone() {
			left = append(left, e.name)
		}
	}
	w.mu.Unlock()
	left = append(left, w.truth.posted(dispatches)...)
	left = append(left, w.truth.posted(wakes)...)
	left = append(left, w.truth.live()...)
	return strings.Join(left, ", ")
}

// broker delivers dispatches as a consumer with acknowledgements does: each at least once, until it is acknowledged.
type broker struct {
	w     *world
	due   map[string]time.Time // When a message is delivered again.
	taken map[string]int       // How often it was.
}

// ackWait is when a message that nobody acknowledged is delivered again.
const ackWait = 5 * time.Second

// open are the subjects that are to be delivered.
func (b *broker) open() []string {
	var open []string
	for _, subject := range b.w.truth.posted(dispatches) {
		if due, ok := b.due[subject]; !ok || !time.Now().Before(due) {
			open = append(open, subject)
		}
	}
	return open
}

// take delivers one of the subjects.
func (b *broker) take() string {
	open := b.open()
	subject := open[b.w.rng.IntN(len(open))]
	b.due[subject] = time.Now().Add(ackWait)
	if b.taken[subject]++; b.taken[subject] > 1 {
		b.w.count("delivered again")
	}
	return subject
}

// acknowledge is how a worker says that a delivery is done. It may be lost.
func (a *actor) acknowledge(subject string, seq uint64) {
	if !a.turn("acknowledges") {
		return
	}
	if !a.p.w.healing && a.p.w.plan.acks > 0 && a.rng.IntN(int(a.p.w.plan.acks)) == 0 {
		a.p.w.count("acknowledgement lost")
		return
	}
	a.p.w.truth.acknowledged(subject, seq)
}
