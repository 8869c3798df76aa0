package driver

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Registry is the kinds of backend that a program knows, by name. Package drivers has one with all of Scoria's.
type Registry map[string]Factory

// Factory makes drivers of one kind.
type Factory struct {
	// Settings are the keys that a Spec of this kind may have; delay, which every kind has, is not among them.
	Settings []Setting
	// Open opens the backend. The spec was checked.
	Open func(ctx context.Context, spec Spec, env Env) (Driver, error)
}

// Env is what a driver gets from the program that it runs in. The zero value is usable.
type Env struct {
	Log *slog.Logger // nil: discard
	// Known: the backend was served before. Its storage is opened as it is, and nothing is made where it is missing: what
	// stands there instead is a mistake, such as the empty mount point of a file system that is not mounted.
	Known bool
	// Identity of the storage of a backend that is known; another one is refused. Empty: it was not recorded.
	Identity string
	// Pools takes the locks of pools; nil: the program has none, and a backend that needs them is refused.
	Pools PoolLocks
}

// PoolLocks takes locks of pools, which the processes of all nodes see. See package lock.
type PoolLocks interface {
	// Take takes the pool for a call, and waits for it as long as ctx lasts. It belongs to the call's operation: its next worker has it,
	// and the operation's end gives it back at the latest. Errors: ErrFenced if the operation has another worker than the one that
	// calls, or none; the context's.
	Take(ctx context.Context, pool string, call Call) (give func(), err error)
}

// Logger returns env.Log, or one that discards.
func (e Env) Logger() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log
}

// Setting is one key of a kind.
type Setting struct {
	Key      string
	Want     string // what the value is, in words and with its unit
	Default  string // for people; empty: none
	Required bool
	Check    func(value string) error // nil: anything but the empty string
}

// delaySetting is a key of every kind.
var delaySetting = Setting{
	Key: "delay", Want: "a time with its unit, such as 200ms or 1s", Default: "0s", Check: CheckDuration,
}

// Check refuses a spec of an unknown kind, with unknown, missing or wrong settings; it opens nothing.
func (r Registry) Check(spec Spec) error {
	factory, ok := r[spec.Kind]
	if !ok {
		return fmt.Errorf("backend %s: kind %q is not known: want one of %s", spec.Name, spec.Kind, strings.Join(slices.Sorted(maps.Keys(r)), ", "))
	}
	settings := append(slices.Clone(factory.Settings), delaySetting)
	for _, o := range spec.Options {
		i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == o.Key })
		if i < 0 {
			return fmt.Errorf("backend %s: kind %s has no setting %q: it has %s", spec.Name, spec.Kind, o.Key, keys(settings))
		}
		if err := settings[i].check(o.Value); err != nil {
			return fmt.Errorf("backend %s: %s=%s: %w", spec.Name, o.Key, o.Value, err)
		}
	}
	for _, s := range settings {
		if _, set := spec.Option(s.Key); s.Required && !set {
			return fmt.Errorf("backend %s: kind %s needs the setting %s: %s", spec.Name, spec.Kind, s.Key, s.Want)
		}
	}
	return nil
}

// Open checks the spec and opens its backend.
func (r Registry) Open(ctx context.Context, spec Spec, env Env) (Driver, error) {
	if err := r.Check(spec); err != nil {
		return nil, err
	}
	d, err := r[spec.Kind].Open(ctx, spec, env)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", spec.Name, err)
	}
	return Delay(d, spec.Duration(delaySetting.Key, 0)), nil
}

func (s Setting) check(value string) error {
	if value == "" {
		return fmt.Errorf("want %s, it is empty", s.Want)
	}
	if s.Check == nil {
		return nil
	}
	if err := s.Check(value); err != nil {
		return fmt.Errorf("want %s: %w", s.Want, err)
	}
	return nil
}

func keys(settings []Setting) string {
	names := make([]string, 0, len(settings))
	for _, s := range settings {
		names = append(names, s.Key)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// CheckDuration refuses what is not a time of zero or more with its unit.
func CheckDuration(value string) error {
	d, err := time.ParseDuration(value)
	if err != nil {
		if _, number := strconv.ParseFloat(value, 64); number == nil {
			return fmt.Errorf("the unit is missing")
		}
		return fmt.Errorf("that is no time")
	}
	if d < 0 {
		return fmt.Errorf("a time below zero")
	}
	return nil
}

// Duration returns the value of a checked key, or the default if it is not set.
func (s Spec) Duration(key string, unset time.Duration) time.Duration {
	value, ok := s.Option(key)
	if !ok {
		return unset
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return unset
	}
	return d
}
