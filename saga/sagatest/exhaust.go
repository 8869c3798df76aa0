package sagatest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/saga"
)

// scenarioTimeout is far above what a scenario takes: it ends one that hangs.
const scenarioTimeout = 60 * time.Second

// Exhaust meets every step of the operation that newWorld makes with every fault, each in a world of its
// own, in parallel subtests. newWorld may be called from several goroutines; what it needs to clean up it
// hands to the t that it is given.
func Exhaust(t *testing.T, newWorld func(t *testing.T) World) {
	t.Helper()
	proveSight(t, newWorld)
	ref := reference(t, newWorld)
	if t.Failed() {
		return // nothing to compare with
	}
	all := ref.scenarios()
	t.Logf("%d steps, %d scenarios", len(ref.steps), len(all))
	for _, sc := range all {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			newPlay(t, newWorld(t), ref, sc).run()
		})
	}
}

// proveSight plants each leftover in a world of its own: a snapshot that does not see it is blind.
func proveSight(t *testing.T, newWorld func(t *testing.T) World) {
	t.Helper()
	n := len(newWorld(t).Leftovers())
	if n == 0 {
		t.Fatal("the world plants no leftovers: nothing proves that its snapshot sees any")
	}
	for i := range n {
		w := newWorld(t)
		l := w.Leftovers()[i]
		before := snapshot(t, w)
		if err := l.Plant(t.Context()); err != nil {
			t.Fatalf("plant %s: %v", l.Name, err)
		}
		if before.Diff(snapshot(t, w)) == "" {
			t.Errorf("the snapshot is blind: it does not see a planted %s", l.Name)
		}
	}
}

// ref is what runs without a fault, and a plain way back, look like.
type ref struct {
	name    string // of the definition
	version int
	steps   []saga.StepShape
	before  Snapshot
	done    Snapshot // after a run that met no fault
	undone  Snapshot // expected after a way back
	undos   []bool   // Undo of step i is called on the way back
	real    []bool   // and it is not saga.Nothing
	writes  []bool   // and it makes a journal write

	cancels, fences bool // what the world can do
}

func reference(t *testing.T, newWorld func(t *testing.T) World) *ref {
	t.Helper()
	r := &ref{}
	w := newWorld(t)
	r.before = snapshot(t, w)
	r.undone = r.before
	if u, ok := w.(Undoner); ok {
		r.undone = u.Undone(r.before)
	}
	_, r.cancels = w.(Canceler)
	_, r.fences = w.(Fencer)
	r.done = r.forth(t, w)
	again := newWorld(t)
	if d := r.before.Diff(snapshot(t, again)); d != "" {
		t.Fatalf("two fresh worlds differ, so no two scenarios could be compared; leave times, revisions and random IDs out of the snapshot:%s", d)
	}
	if d := r.done.Diff(r.forth(t, again)); d != "" {
		t.Fatalf("two runs without a fault differ, so no two scenarios could be compared; leave times, revisions and random IDs out of the snapshot:%s", d)
	}
	if len(r.steps) == 0 {
		t.Fatal("the run called no step: Drive must hand its options to the executor")
	}
	r.back(t, newWorld(t))
	return r
}

// forth runs a world without a fault, and learns its steps.
func (r *ref) forth(t *testing.T, w World) Snapshot {
	t.Helper()
	if err := w.Submit(t.Context()); err != nil {
		t.Fatalf("submit: %v", err)
	}
	r.steps = nil
	st, err := w.Drive(t.Context(), quick(), saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if c.Action == saga.Doing && c.Index == len(r.steps) {
			r.steps = append(r.steps, c.Step)
		}
		return next(ctx)
	}))
	if err != nil || st.Phase != saga.Done {
		t.Fatalf("a run without a fault: phase %s, error %v, %s; want done", st.Phase, err, tell(st))
	}
	r.name, r.version = st.Name, st.Version
	return snapshot(t, w)
}

// trigger is the step whose failure sends the run all the way back.
func (r *ref) trigger() int {
	for i, s := range r.steps {
		if s.Pivot {
			return i
		}
	}
	return len(r.steps) - 1
}

// back runs a world all the way back, and learns which undos are called and journalled.
func (r *ref) back(t *testing.T, w World) {
	t.Helper()
	n := len(r.steps)
	r.undos, r.real, r.writes = make([]bool, n), make([]bool, n), make([]bool, n)
	if err := w.Submit(t.Context()); err != nil {
		t.Fatalf("submit: %v", err)
	}
	st, err := w.Drive(t.Context(), quick(), saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		switch {
		case c.Action == saga.Doing && c.Index == r.trigger():
			return r.failAtTrigger(ctx, next)
		case c.Action == saga.Reverting:
			err := next(ctx)
			r.undos[c.Index], r.real[c.Index] = true, err == nil
			return err
		case c.Action == saga.Writing && (c.Phase == saga.Undone || c.Phase == saga.Undoing && r.undos[c.Index]):
			r.writes[c.Index] = true
		}
		return next(ctx)
	}))
	if err != nil || st.Phase != saga.Undone {
		t.Fatalf("step %s failed for good: phase %s, error %v, %s; want undone", r.steps[r.trigger()].Name, st.Phase, err, tell(st))
	}
	if d := r.undone.Diff(snapshot(t, w)); d != "" {
		t.Errorf("step %s failed for good and the run was undone, but the world is not as before:%s", r.steps[r.trigger()].Name, d)
	}
}

// failAtTrigger fails after the effect if that can be undone.
func (r *ref) failAtTrigger(ctx context.Context, next func(context.Context) error) error {
	if r.steps[r.trigger()].Undo {
		if err := next(ctx); err != nil {
			return err
		}
	}
	return saga.Permanent(errFault)
}

var (
	errFault = errors.New("a fault of the test")
	errCrash = errors.New("a crash of the test")
)

// quick keeps waits between tries short.
func quick() saga.Option { return saga.WithWaitCeiling(time.Millisecond) }

func snapshot(t *testing.T, w World) Snapshot {
	t.Helper()
	s, err := w.Snapshot(t.Context())
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return s
}

func tell(st saga.Status) string {
	s := fmt.Sprintf("step %s, tried %d", st.Step, st.Tried)
	if st.Cause != nil {
		s += ", cause: " + st.Cause.Error()
	}
	if st.Stuck != nil {
		s += ", stuck: " + st.Stuck.Error()
	}
	if n := len(st.Last); n > 0 {
		s += ", last error: " + st.Last[n-1].Message
	}
	return s
}

// play is one scenario in one world.
type play struct {
	t     *testing.T
	w     World
	ref   *ref
	sc    scenario
	mu    sync.Mutex
	met   int  // how often the fault fired
	quiet bool // no more faults: after a person resumed
	stuck int  // RunStuck events
}

func newPlay(t *testing.T, w World, r *ref, sc scenario) *play {
	return &play{t: t, w: w, ref: r, sc: sc}
}

// run submits, drives until nothing is left to do, and compares.
func (p *play) run() {
	ctx, cancel := context.WithTimeout(p.t.Context(), scenarioTimeout)
	defer cancel()
	if err := p.w.Submit(ctx); err != nil {
		p.t.Fatalf("submit: %v", err)
	}
	st := p.settle(ctx)
	if p.fired() == 0 {
		p.t.Fatalf("the fault was never met; phase %s, %s", st.Phase, tell(st))
	}
	if p.sc.sticks {
		st = p.unstick(ctx, st)
	}
	if st.Phase != p.sc.want {
		p.t.Fatalf("phase %s, %s; want %s", st.Phase, tell(st), p.sc.want)
	}
	want := p.ref.done
	if st.Phase == saga.Undone {
		want = p.ref.undone
	}
	got, err := p.w.Snapshot(ctx)
	if err != nil {
		p.t.Fatalf("snapshot: %v", err)
	}
	switch d := want.Diff(got); {
	case p.sc.unlike && d == "":
		p.t.Errorf("every undo was left out, and the snapshot does not show it: it is blind to what the steps make")
	case !p.sc.unlike && d != "":
		p.t.Errorf("the run is %s, but the world is not as it should be:%s", st.Phase, d)
	}
}

// settle drives, again after each crash, until the run has ended or is stuck.
func (p *play) settle(ctx context.Context) saga.Status {
	const enough = 20
	var st saga.Status
	for range enough {
		var err error
		st, err = p.w.Drive(ctx, p.options()...)
		switch {
		case err == nil && (st.Phase.Ended() || st.Phase == saga.Stuck):
			return st
		case errors.Is(err, errCrash), errors.Is(err, saga.ErrFenced):
		case errors.Is(err, saga.ErrStuck):
			return st
		default:
			p.t.Fatalf("drive: phase %s, error %v, %s", st.Phase, err, tell(st))
		}
	}
	p.t.Fatalf("driven %d times and not ended: phase %s, %s", enough, st.Phase, tell(st))
	return st
}

// unstick checks that a stuck run is seen to be stuck, and lets it go on without faults.
func (p *play) unstick(ctx context.Context, st saga.Status) saga.Status {
	if st.Phase != saga.Stuck {
		p.t.Fatalf("phase %s, %s; want stuck", st.Phase, tell(st))
	}
	if st.Stuck == nil || p.stuckEvents() == 0 {
		p.t.Errorf("stuck, but not visible: cause %v, %d events", st.Stuck, p.stuckEvents())
	}
	if c, ok := p.w.(StuckChecker); ok {
		if err := c.CheckStuck(ctx); err != nil {
			p.t.Errorf("stuck, but: %v", err)
		}
	}
	if err := p.w.Resume(ctx); err != nil {
		p.t.Fatalf("resume: %v", err)
	}
	p.mu.Lock()
	p.quiet = true
	p.mu.Unlock()
	return p.settle(ctx)
}

func (p *play) stuckEvents() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stuck
}

func (p *play) fired() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met
}

// fire counts that the fault happens now, unless it happened limit times already (0: no limit).
func (p *play) fire(limit int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet || limit > 0 && p.met >= limit {
		return false
	}
	p.met++
	return true
}

func (p *play) options() []saga.Option {
	return []saga.Option{
		quick(),
		saga.WithObserver(func(ev saga.Event) {
			if ev.Kind == saga.RunStuck {
				p.mu.Lock()
				p.stuck++
				p.mu.Unlock()
			}
		}),
		saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
			return p.sc.around(p, ctx, c, next)
		}),
	}
}
