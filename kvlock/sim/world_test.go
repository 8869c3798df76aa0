package sim

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/scoria-storage/scoria/kvlock/internal/memserver"
)

const bucket = "sim"

// world is one simulated history.
type world struct {
	plan   plan
	rng    *rand.Rand // Of the goroutine of run alone.
	server *memserver.Server
	truth  *truth
	queue  *broker
	wakes  *durable
	procs  []*process
	stop   chan struct{} // Closed when the actors are to end.
	begin  time.Time

	healing bool      // Nothing goes wrong any more, and what was left is put in order.
	limit   int       // The step in which all must be in order.
	calm    time.Time // Until then nothing goes wrong, and no actor begins anything.
	step    int
	idle    time.Duration
	sum     uint64 // Of the trace.
	trace   []string
	met     map[string]int

	mu     sync.Mutex
	events []*event
	failed []string
	ctxs   map[string]context.CancelFunc // Of calls that may be canceled, by actor.
}

// result is what is left of a history.
type result struct {
	failed []string
	sum    uint64
	steps  int
	met    map[string]int
	trace  []string
}

// kind of an event.
type kind uint8

const (
	request kind = iota
	answer
	delivery
	turn
)

// event is something that may happen next.
type event struct {
	born     int // The step in which it became possible.
	name     string
	kind     kind
	proc     *process
	question bool        // It changes nothing.
	ready    func() bool // nil: it always is.
	happen   func(f fate)
	gone     func() bool // Nobody waits for it any more; nil: it happens all the same.
	late     func() bool // Of a request: its caller has given up.
	sent     time.Time
}

// simulate runs the history of a plan. It is called inside a bubble.
func simulate(p plan) result {
	w := &world{
		plan: p, rng: rand.New(rand.NewPCG(p.seed, 1)), server: memserver.New(bucket), stop: make(chan struct{}),
		met: map[string]int{}, ctxs: map[string]context.CancelFunc{}, begin: time.Now(),
	}
	w.truth = newTruth(w)
	w.queue = &broker{w: w, due: map[string]time.Time{}, taken: map[string]int{}}
	w.wakes = &durable{w: w, pending: map[uint64]time.Time{}}
	for i := range p.processes {
		w.procs = append(w.procs, w.start(fmt.Sprintf("p%d", i+1), 1, p.operations))
	}
	w.run()
	return result{w.failed, w.sum, w.step, w.met, w.trace}
}

// Limits of a history.
const (
	maxFaulty  = 3_000 // Steps until nothing goes wrong any more.
	maxHealing = 5_000 // Steps from then on, beside those that what was under way then takes: a process that stood still for hours has asked often.
)

// run lets one event happen after another, each when all goroutines wait.
func (w *world) run() {
	for {
		// A moment passes with each step: what two of them set off does not come due at once.
		<-time.After(time.Nanosecond)
		synctest.Wait()
		w.mu.Lock()
		w.step++ // While all wait: what happens in this step is born in it.
		w.mu.Unlock()
		switch {
		case len(w.failed) > 0:
			w.end()
			return
		case w.healing && w.step > w.limit:
			w.fail("no progress: %d steps, and still %s", w.step, w.left())
		case w.healing && w.left() == "":
			w.final()
			w.end()
			return
		case !w.healing && (w.step > maxFaulty || w.working() == 0):
			w.heal()
			w.mu.Lock()
			w.limit = w.step + maxHealing + len(w.events)
			w.mu.Unlock()
		default:
			w.next()
		}
	}
}

// next chooses what happens.
func (w *world) next() {
	if !w.healing && !w.isCalm() && w.mischief() {
		return
	}
	var can []*event
	w.mu.Lock()
	w.events = slices.DeleteFunc(w.events, func(e *event) bool { return e.gone != nil && e.gone() })
	slices.SortFunc(w.events, func(a, b *event) int {
		return cmp.Or(cmp.Compare(a.born, b.born), a.sent.Compare(b.sent), strings.Compare(a.name, b.name))
	})
	for i, e := range w.events {
		if i > 0 && e.twin(w.events[i-1]) && !e.question {
			w.failed = append(w.failed, "the simulation is at fault: two events of one moment are both "+e.name)
		}
		if e.proc.frozen <= w.step && (!w.isCalm() || e.kind != turn) && (e.ready == nil || e.ready()) {
			can = append(can, e)
		}
	}
	w.mu.Unlock()
	if len(can) == 0 || !w.healing && !w.isCalm() && w.chance(w.plan.pause) {
		w.sleep(len(can) == 0)
		return
	}
	w.idle = 0
	i := w.rng.IntN(len(can))
	if w.rng.IntN(4) > 0 {
		i = w.rng.IntN(i + 1) // The older ones more often.
	}
	e := can[i]
	if e.kind == request && slices.ContainsFunc(can[:i], func(o *event) bool { return o.kind == request && o.proc == e.proc }) {
		w.count("reordered")
	}
	f := w.fate(e)
	w.note("%s: %s", e.name, f)
	for _, e := range w.remove(e) {
		e.happen(f)
	}
}

// twin says whether nothing tells two events apart: several goroutines of a store ask the same question at once. They happen together.
func (e *event) twin(o *event) bool {
	return e.born == o.born && e.sent.Equal(o.sent) && e.name == o.name
}

func (w *world) isCalm() bool { return time.Now().Before(w.calm) }

func (w *world) chance(one in) bool { return one > 0 && w.rng.IntN(int(one)) == 0 }

// in is how rare something is: once in so many; 0 is never.
type in int

// sleep lets time pass: a little, or beyond what somebody waits for.
func (w *world) sleep(idle bool) {
	d := []time.Duration{time.Millisecond, 7 * time.Millisecond, 90 * time.Millisecond, 800 * time.Millisecond, 4 * time.Second, 11 * time.Second}[w.rng.IntN(6)]
	if idle {
		w.idle = min(max(2*w.idle, time.Millisecond), 10*time.Second)
		if d = w.idle; w.isCalm() {
			d = min(60*d, time.Until(w.calm)+1)
		}
	}
	w.note("time passes: %v", d)
	<-time.After(d)
}

// add makes an event possible.
func (w *world) add(e *event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.born, e.sent = w.step, time.Now()
	w.events = append(w.events, e)
}

// remove takes an event away, with its twins.
func (w *world) remove(e *event) (all []*event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = slices.DeleteFunc(w.events, func(o *event) bool {
		if o.twin(e) {
			all = append(all, o)
			return true
		}
		return false
	})
	return all
}

// note writes the trace. It is called by whoever runs alone.
func (w *world) note(format string, args ...any) {
	line := fmt.Sprintf("%d %v ", w.step, time.Since(w.begin)) + fmt.Sprintf(format, args...)
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%x %s", w.sum, line)
	w.sum = h.Sum64()
	if w.plan.trace {
		w.trace = append(w.trace, line)
	}
}

// count notes that something was met.
func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.met[what]++
}

// fail says that the history is wrong.
func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = append(w.failed, fmt.Sprintf("step %d: ", w.step)+fmt.Sprintf(format, args...))
}

// end ends all goroutines.
func (w *world) end() {
	close(w.stop)
	for _, p := range w.procs {
		p.crash()
	}
	for _, p := range w.procs {
		p.all.Wait()
	}
}
