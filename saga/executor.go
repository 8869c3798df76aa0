package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Executor drives runs. It is safe for concurrent use and owns no goroutine: whoever calls it is the worker.
type Executor struct {
	journal      Journal
	registry     *Registry
	log          *slog.Logger
	observers    []func(Event)
	around       []Around
	writeTimeout time.Duration
	ceiling      time.Duration // of every wait; zero: what the steps say

	mu      sync.Mutex
	flights map[ID]*flight // runs under way here, by Exec, Resume and Replay
}

// Option sets what most callers leave alone.
type Option func(*Executor)

// WithLogger sets the logger that steps get, with the run's attributes. Without it nothing is logged.
func WithLogger(log *slog.Logger) Option { return func(e *Executor) { e.log = log } }

// WithObserver adds a function that is told of every event, on the goroutine of the run: it must not block.
func WithObserver(f func(Event)) Option {
	return func(e *Executor) { e.observers = append(e.observers, f) }
}

// WithAround adds a function around every call of a step, every journal write and every pause before a step's next try, the
// first one outermost: for traces, for bounds, and for faults in tests.
func WithAround(a Around) Option { return func(e *Executor) { e.around = append(e.around, a) } }

// WithWriteTimeout bounds one journal write, which goes on when the context of the run ends: what a step
// achieved should be journalled. Default 10 s.
func WithWriteTimeout(d time.Duration) Option { return func(e *Executor) { e.writeTimeout = d } }

// WithWaitCeiling caps every wait between tries, whatever the steps say: for tests.
func WithWaitCeiling(d time.Duration) Option { return func(e *Executor) { e.ceiling = d } }

// New makes an executor for the definitions of a registry. The journal may be nil if only Run is used.
func New(journal Journal, registry *Registry, opts ...Option) *Executor {
	e := &Executor{journal: journal, registry: registry, log: slog.New(slog.DiscardHandler),
		writeTimeout: 10 * time.Second, flights: make(map[ID]*flight)}
	for _, o := range opts {
		o(e)
	}
	return e
}

// Around wraps what an executor calls. next may be called not at all, once, or again; the error that Around
// returns is taken as that of the call. Around a Writing, any error stops driving, with the outcome open; around a Waiting, with the
// run as it was journalled.
type Around func(ctx context.Context, c Call, next func(context.Context) error) error

// Call says what is about to be called.
type Call struct {
	Action  Action
	ID      ID
	Step    StepShape // of a Writing: the step whose completion, failure or undo is written; of the hook at the end, the zero shape
	Index   int       // of the step, from 0
	Attempt int
	Phase   Phase // of the record that is written, in a Writing; of the run else
}

// Action is a kind of call.
type Action uint8

const (
	Doing     Action = iota + 1 // Do
	Checking                    // Check
	Reverting                   // Undo
	Writing                     // a journal write
	Waiting                     // the pause before a step's next try
)

func (a Action) String() string {
	switch a {
	case Doing:
		return "do"
	case Checking:
		return "check"
	case Reverting:
		return "undo"
	case Writing:
		return "write"
	case Waiting:
		return "wait"
	}
	return "?"
}

// Result is how a run stands, with its typed state.
type Result[S any] struct {
	Status Status
	State  S
}

// Exec runs a saga to its end: it begins the run if the journal has none of this ID, goes on with it if it
// is under way, and only tells the result if it ended. The input counts only for a run that begins. A second
// Exec of the same ID in this executor waits for the first.
//
// Errors: *UndoneError and *StuckError, with the Result; ErrParked; ErrFenced; ErrLeft; the context's; the journal's.
func Exec[S any](ctx context.Context, e *Executor, def Definition[S], id ID, input S) (Result[S], error) {
	t, err := compile(def)
	if err != nil {
		return Result[S]{}, fmt.Errorf("saga %s version %d: %w", def.Name, def.Version, err)
	}
	st, err := e.fly(ctx, id, func() (Status, error) {
		if err := e.begin(ctx, id, t, input); err != nil {
			return Status{}, err
		}
		return e.goOn(ctx, id, t, input)
	})
	return result[S](id, st, err)
}

func (e *Executor) begin(ctx context.Context, id ID, def runner, input any) error {
	switch _, err := e.journal.Load(ctx, id); {
	case err == nil:
		return nil
	case !errors.Is(err, ErrNotFound):
		return err
	}
	rec, err := newRecord(def, input)
	if err != nil {
		return err
	}
	b, err := rec.encode()
	if err != nil {
		return err
	}
	if err := e.journal.Begin(ctx, id, Entry{Record: b, Phase: rec.Phase}); err != nil && !errors.Is(err, ErrExists) {
		return err
	}
	return nil
}

// goOn takes a run over and drives it, unless it ended or is stuck. The input is for a run of which nothing was
// journalled.
func (e *Executor) goOn(ctx context.Context, id ID, def runner, input any) (Status, error) {
	log, err := e.journal.TakeOver(ctx, id)
	if errors.Is(err, ErrEnded) || errors.Is(err, ErrStuck) {
		return e.Inspect(ctx, id)
	}
	if err != nil {
		return Status{}, err
	}
	return e.drive(ctx, log, def, input)
}

func result[S any](id ID, st Status, err error) (Result[S], error) {
	res := Result[S]{Status: st}
	if len(st.State) > 0 {
		if derr := msgpack.Unmarshal(st.State, &res.State); derr != nil && err == nil {
			return res, fmt.Errorf("run %s: decode the state: %w", id, derr)
		}
	}
	if err != nil {
		return res, err
	}
	return res, st.err(id)
}

// err is nil unless the run was undone or is stuck.
func (st Status) err(id ID) error {
	if st.Phase == Undone {
		return &UndoneError{ID: id, Cause: st.Cause}
	}
	if st.Phase == Stuck {
		return &StuckError{ID: id, Step: st.Step, Cause: st.Stuck}
	}
	return nil
}

// Run drives a run that the caller holds, until it has ended or is stuck (then the error is nil and the
// status says which). Name, version and input (an S or *S) count only if nothing of it was journalled yet;
// version 0 is the latest registered. A Log serves one Run: whoever wants to drive on takes the run over again.
//
// Errors: ErrParked, ErrFenced, ErrLeft, the context's, the journal's. None of them changed the run.
func (e *Executor) Run(ctx context.Context, log Log, name string, version int, input any) (Status, error) {
	head := log.Head()
	if len(head.Record) > 0 {
		return e.drive(ctx, log, nil, nil)
	}
	if version == 0 {
		version = e.registry.Latest(name)
	}
	def, err := e.registry.lookup(name, version)
	if err != nil {
		e.observe(Event{Kind: RunParked, ID: log.ID(), Definition: name, Version: version, Err: err})
		return Status{Name: name, Version: version}, fmt.Errorf("run %s: %w", log.ID(), err)
	}
	return e.drive(ctx, log, def, input)
}

// Resume goes on with a run that is under way or stuck; who is the person that asks. A run that ended only tells
// its status. ErrParked, too, if nothing of the run was journalled: only a caller with its input can begin it.
func (e *Executor) Resume(ctx context.Context, id ID, who string) (Status, error) {
	return e.fly(ctx, id, func() (Status, error) {
		if err := e.journal.Resume(ctx, id, who, Resumed); err != nil && !errors.Is(err, ErrNotStuck) && !errors.Is(err, ErrEnded) {
			return Status{}, err
		}
		return e.goOn(ctx, id, nil, nil)
	})
}

// Cancel asks the run's worker, whoever that is, to undo it. ErrPivot if the run is past its pivot: nothing
// was asked then.
func (e *Executor) Cancel(ctx context.Context, id ID, who string) error {
	st, err := e.Inspect(ctx, id)
	if err != nil {
		return err
	}
	if st.Past && !st.Phase.Ended() {
		return fmt.Errorf("run %s, step %s: %w", id, st.Step, ErrPivot)
	}
	return e.journal.Cancel(ctx, id, who)
}

// Inspect reads how a run stands.
func (e *Executor) Inspect(ctx context.Context, id ID) (Status, error) {
	head, err := e.journal.Load(ctx, id)
	if err != nil {
		return Status{}, err
	}
	st, err := head.Status()
	if err != nil {
		return Status{}, fmt.Errorf("run %s: %w", id, err)
	}
	return st, nil
}

// Replay takes a stuck run back to an earlier step and goes forward from there, with the state as it is:
// for a person who knows that what that step made is gone or wrong. Steps from there on are done again,
// which they bear (invariant 1).
func (e *Executor) Replay(ctx context.Context, id ID, step, who string) (Status, error) {
	return e.fly(ctx, id, func() (Status, error) {
		st, err := e.Inspect(ctx, id)
		if err != nil {
			return Status{}, err
		}
		if st.Phase != Stuck {
			return st, fmt.Errorf("run %s is %s: %w", id, st.Phase, ErrNotStuck)
		}
		def, err := e.registry.lookup(st.Name, st.Version)
		if err != nil {
			return st, fmt.Errorf("run %s: %w", id, err)
		}
		err = e.journal.Resume(ctx, id, who, func(rec []byte) (Entry, error) { return rewind(rec, def.shape(), step) })
		if err != nil {
			return st, err
		}
		return e.goOn(ctx, id, def, nil)
	})
}

// flight is a run under way in this process.
type flight struct {
	done   chan struct{}
	status Status
	err    error
}

// fly lets one caller at a time drive a run here; others wait for what it finds. So a process never takes a
// run over from itself.
func (e *Executor) fly(ctx context.Context, id ID, drive func() (Status, error)) (Status, error) {
	e.mu.Lock()
	if f := e.flights[id]; f != nil {
		e.mu.Unlock()
		select {
		case <-f.done:
			return f.status, f.err
		case <-ctx.Done():
			return Status{}, context.Cause(ctx)
		}
	}
	f := &flight{done: make(chan struct{}), err: errors.New("the caller that drove the run died")}
	e.flights[id] = f
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.flights, id)
		e.mu.Unlock()
		close(f.done)
	}()
	f.status, f.err = drive()
	return f.status, f.err
}

func (e *Executor) observe(ev Event) {
	for _, f := range e.observers {
		f(ev)
	}
}

func (e *Executor) wrap(ctx context.Context, c Call, f func(context.Context) error) error {
	return e.wrapFrom(ctx, 0, c, f)
}

func (e *Executor) wrapFrom(ctx context.Context, i int, c Call, f func(context.Context) error) error {
	if i == len(e.around) {
		return f(ctx)
	}
	return e.around[i](ctx, c, func(ctx context.Context) error { return e.wrapFrom(ctx, i+1, c, f) })
}
