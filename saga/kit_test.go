package saga_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/scoria-storage/scoria/saga"
)

// The tests of the nine rules in the package's doc. Time is the bubble's: waits cost nothing.

type state struct {
	Names []string `msgpack:"names"`
}

// bench records what the steps of a saga do.
type bench struct {
	t       *testing.T
	journal *saga.Memory
	reg     saga.Registry
	mu      sync.Mutex
	calls   []string
	events  []saga.Event
	faults  map[string][]error // by call, such as "do a": the errors of the first calls; nil: works
	opts    []saga.Option
}

func newBench(t *testing.T) *bench {
	return &bench{t: t, journal: saga.NewMemory(), faults: make(map[string][]error)}
}

// called notes a call and returns its fault.
func (b *bench) called(what string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, what)
	if f := b.faults[what]; len(f) > 0 {
		b.faults[what] = f[1:]
		return f[0]
	}
	return nil
}

// step adds its name to the state.
func (b *bench) step(name string) saga.Step[state] {
	return saga.Step[state]{
		Name: name,
		Do: func(_ context.Context, _ saga.Run, s *state) error {
			s.Names = append(s.Names, name)
			return b.called("do " + name)
		},
		Undo: func(context.Context, saga.Run, state) error { return b.called("undo " + name) },
	}
}

func (b *bench) pivot(name string) saga.Step[state] {
	s := b.step(name)
	s.Undo, s.Pivot = nil, true
	return s
}

func (b *bench) past(name string) saga.Step[state] {
	s := b.step(name)
	s.Undo = nil
	return s
}

func define(steps ...saga.Step[state]) saga.Definition[state] {
	return saga.Definition[state]{Name: "test", Version: 1, Steps: steps}
}

// executor is a new worker.
func (b *bench) executor() *saga.Executor {
	return saga.New(b.journal, &b.reg, append(b.opts, saga.WithObserver(func(ev saga.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, ev)
	}))...)
}

func (b *bench) exec(def saga.Definition[state]) (saga.Result[state], error) {
	return saga.Exec(b.t.Context(), b.executor(), def, "op-1", state{})
}

func (b *bench) wantCalls(want ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.calls, want) {
		b.t.Errorf("calls were %q, want %q", b.calls, want)
	}
}

func (b *bench) saw(kind saga.EventKind) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, ev := range b.events {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}

// crashAt makes the first call of the kind, for the step, the last thing that the worker does.
func crashAt(action saga.Action, step string, after bool) saga.Option {
	fired := false
	return saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if fired || c.Action != action || c.Step.Name != step {
			return next(ctx)
		}
		fired = true
		if after {
			if err := next(ctx); err != nil {
				return err
			}
		}
		return saga.Leave(errCrash)
	})
}

var (
	errCrash = errors.New("crash")
	errFault = errors.New("fault")
)
