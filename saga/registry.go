package saga

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Registry maps the name and version of a definition to what runs it. The zero value is empty and ready.
// It is safe for concurrent use.
type Registry struct {
	mu   sync.RWMutex
	defs map[string]map[int]runner
}

// Register adds a definition. It says what is wrong with one that cannot run, and refuses a second one of
// the same name and version.
func Register[S any](r *Registry, def Definition[S]) error {
	t, err := compile(def)
	if err != nil {
		return fmt.Errorf("saga %s version %d: %w", def.Name, def.Version, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.defs == nil {
		r.defs = make(map[string]map[int]runner)
	}
	if r.defs[def.Name] == nil {
		r.defs[def.Name] = make(map[int]runner)
	}
	if r.defs[def.Name][def.Version] != nil {
		return fmt.Errorf("saga %s version %d is registered already", def.Name, def.Version)
	}
	r.defs[def.Name][def.Version] = t
	return nil
}

// MustRegister is Register for definitions that are part of the program: a wrong one is a bug in it.
func MustRegister[S any](r *Registry, def Definition[S]) {
	if err := Register(r, def); err != nil {
		panic(err)
	}
}

// Latest is the highest version of a definition, 0 if there is none.
func (r *Registry) Latest(name string) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	latest := 0
	for v := range r.defs[name] {
		latest = max(latest, v)
	}
	return latest
}

// Shapes describes all definitions, by name and version.
func (r *Registry) Shapes() []Shape {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []Shape
	for _, versions := range r.defs {
		for _, d := range versions {
			all = append(all, *d.shape())
		}
	}
	slices.SortFunc(all, func(a, b Shape) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.Version - b.Version
	})
	return all
}

func (r *Registry) lookup(name string, version int) (runner, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if d := r.defs[name][version]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("%w: %s version %d is not registered here", ErrParked, name, version)
}

// Shape describes a definition without its type.
type Shape struct {
	Name    string
	Version int
	State   string // the fields of S and their types, as they are encoded
	Steps   []StepShape
}

// StepShape describes a step.
type StepShape struct {
	Name   string
	Pivot  bool
	Past   bool // stands after the pivot
	Undo   bool // has an Undo (which may be Nothing)
	Check  bool
	Intent bool
	// Records: its Do only stages writes.
	Records bool

	retry, undoRetry Retry
	timeout          time.Duration
}

// Tries is how often Do is tried; Forever if there is no end.
func (s StepShape) Tries() int { return s.retry.Max }

// runner is a definition with its type erased. State goes in and out encoded.
type runner interface {
	shape() *Shape
	encode(input any) ([]byte, error)
	do(ctx context.Context, i int, run Run, state []byte) ([]byte, error)
	check(ctx context.Context, i int, run Run, state []byte) ([]byte, bool, error)
	undo(ctx context.Context, i int, run Run, state []byte) error
	done(run Run, state []byte) error
	undone(run Run, state []byte, c *Cause) error
}

type typed[S any] struct {
	def Definition[S]
	sh  Shape
}

func compile[S any](def Definition[S]) (*typed[S], error) {
	if !isToken(def.Name) {
		return nil, fmt.Errorf("the name %q is not a token ([A-Za-z0-9_.-]{1,64})", def.Name)
	}
	if def.Version < 1 {
		return nil, errors.New("versions count from 1")
	}
	if len(def.Steps) == 0 {
		return nil, errors.New("it has no steps")
	}
	sh := Shape{Name: def.Name, Version: def.Version, State: describe[S]()}
	seen := make(map[string]bool)
	past := false
	for i, s := range def.Steps {
		if err := checkStep(s, past); err != nil {
			return nil, fmt.Errorf("step %d %q: %w", i+1, s.Name, err)
		}
		if seen[s.Name] {
			return nil, fmt.Errorf("two steps are called %q", s.Name)
		}
		seen[s.Name] = true
		tries := DefaultTries
		if past {
			tries = Forever
		}
		sh.Steps = append(sh.Steps, StepShape{
			Name: s.Name, Pivot: s.Pivot, Past: past, Undo: s.Undo != nil, Check: s.Check != nil, Intent: s.Intent, Records: s.Records,
			retry: s.Retry.withDefaults(tries), undoRetry: s.UndoRetry.withDefaults(DefaultUndoTries), timeout: s.Timeout,
		})
		past = past || s.Pivot
	}
	return &typed[S]{def: def, sh: sh}, nil
}

func checkStep[S any](s Step[S], past bool) error {
	switch {
	case !isToken(s.Name):
		return errors.New("its name is not a token ([A-Za-z0-9_.-]{1,64})")
	case s.Do == nil:
		return errors.New("it has no Do")
	case past && s.Pivot:
		return errors.New("it is a second pivot")
	case past && s.Undo != nil:
		return errors.New("it stands after the pivot, so its Undo would never run")
	case !past && !s.Pivot && s.Undo == nil:
		return errors.New("it has no Undo: use saga.Nothing if there is nothing to undo, or make it the pivot")
	case s.Timeout < 0:
		return fmt.Errorf("its Timeout %s is negative", s.Timeout)
	}
	if err := s.Retry.validate(); err != nil {
		return err
	}
	return s.UndoRetry.validate()
}

func isToken(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

func (t *typed[S]) shape() *Shape { return &t.sh }

// encode takes an S or *S.
func (t *typed[S]) encode(input any) ([]byte, error) {
	switch in := input.(type) {
	case *S:
		if in != nil {
			return encodeState(in)
		}
	case S:
		return encodeState(&in)
	}
	return nil, fmt.Errorf("saga %s version %d takes a %T, not a %T", t.sh.Name, t.sh.Version, *new(S), input)
}

func (t *typed[S]) do(ctx context.Context, i int, run Run, state []byte) ([]byte, error) {
	s, err := decodeState[S](state)
	if err != nil {
		return nil, err
	}
	if err := t.def.Steps[i].Do(ctx, run, s); err != nil {
		return nil, err
	}
	return encodeState(s)
}

func (t *typed[S]) check(ctx context.Context, i int, run Run, state []byte) ([]byte, bool, error) {
	s, err := decodeState[S](state)
	if err != nil {
		return nil, false, err
	}
	done, err := t.def.Steps[i].Check(ctx, run, s)
	if err != nil || !done {
		return nil, false, err
	}
	state, err = encodeState(s)
	return state, true, err
}

func (t *typed[S]) undo(ctx context.Context, i int, run Run, state []byte) error {
	s, err := decodeState[S](state)
	if err != nil {
		return err
	}
	return t.def.Steps[i].Undo(ctx, run, *s)
}

func (t *typed[S]) done(run Run, state []byte) error {
	if t.def.Done == nil {
		return nil
	}
	s, err := decodeState[S](state)
	if err != nil {
		return err
	}
	return t.def.Done(run, *s)
}

func (t *typed[S]) undone(run Run, state []byte, c *Cause) error {
	if t.def.Undone == nil {
		return nil
	}
	s, err := decodeState[S](state)
	if err != nil {
		return err
	}
	return t.def.Undone(run, *s, c)
}

// decodeState makes a fresh S: what a failed step wrote to its own is never seen by another.
func decodeState[S any](b []byte) (*S, error) {
	s := new(S)
	if err := msgpack.Unmarshal(b, s); err != nil {
		return nil, Permanent(fmt.Errorf("decode the state: %w", err))
	}
	return s, nil
}

func encodeState[S any](s *S) ([]byte, error) {
	b, err := msgpack.Marshal(s)
	if err != nil {
		return nil, Permanent(fmt.Errorf("encode the state: %w", err))
	}
	if len(b) > MaxState {
		return nil, Permanent(fmt.Errorf("the state has %d bytes, more than %d", len(b), MaxState))
	}
	return b, nil
}
