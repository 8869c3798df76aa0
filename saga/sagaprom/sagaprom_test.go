package sagaprom_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagaprom"
)

type state struct{}

func ok(context.Context, saga.Run, *state) error { return nil }

// gather returns each series that is not zero, "name{labels}"; of a histogram its count.
func gather(t *testing.T, m *sagaprom.Metrics) (values map[string]float64, series int) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(m); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values = make(map[string]float64)
	for _, f := range families {
		for _, s := range f.GetMetric() {
			name := f.GetName() + "{"
			for _, l := range s.GetLabel() {
				name += l.GetValue() + " "
			}
			series++
			v := s.GetCounter().GetValue() + s.GetGauge().GetValue() + float64(s.GetHistogram().GetSampleCount())
			if v != 0 {
				values[name[:len(name)-1]+"}"] = v
			}
		}
	}
	return values, series
}

func TestMetricsCountWhatRunsComeTo(t *testing.T) {
	t.Parallel()
	fails := func(context.Context, saga.Run, *state) error { return saga.Permanent(errors.New("no")) }
	once := 0
	flaky := func(context.Context, saga.Run, *state) error {
		if once++; once == 1 {
			return errors.New("not yet")
		}
		return nil
	}
	define := func(name string, do func(context.Context, saga.Run, *state) error, past bool) saga.Definition[state] {
		a := saga.Step[state]{Name: "a", Do: ok, Undo: func(context.Context, saga.Run, state) error { return nil }}
		if past {
			a.Undo, a.Pivot = nil, true
			return saga.Definition[state]{Name: name, Version: 1, Steps: []saga.Step[state]{a, {Name: "b", Do: do}}}
		}
		return saga.Definition[state]{Name: name, Version: 1, Steps: []saga.Step[state]{a, {Name: "b", Do: do, Undo: saga.Nothing[state]}}}
	}
	var reg saga.Registry
	defs := []saga.Definition[state]{define("good", flaky, false), define("bad", fails, false), define("late", fails, true)}
	for _, d := range defs {
		saga.MustRegister(&reg, d)
	}
	m := sagaprom.New(reg.Shapes())
	if values, series := gather(t, m); len(values) != 0 || series != 3*(1+7+2*4) {
		t.Errorf("before anything happened there are %d series, not zero %v; want 48 at zero", series, values)
	}
	e := saga.New(saga.NewMemory(), &reg, saga.WithObserver(m.Observe), saga.WithWaitCeiling(time.Millisecond))
	for i, d := range defs {
		if _, err := saga.Exec(t.Context(), e, d, saga.ID(fmt.Sprint("op-", i)), state{}); (err == nil) != (i == 0) {
			t.Errorf("Exec(%s) = %v", d.Name, err)
		}
	}
	values, _ := gather(t, m)
	want := map[string]float64{
		"scoria_saga_runs_total{good done}":      1,
		"scoria_saga_run_seconds{good done}":     1,
		"scoria_saga_tries_total{good done a}":   1,
		"scoria_saga_tries_total{good failed b}": 1,
		"scoria_saga_tries_total{good done b}":   1,
		"scoria_saga_step_seconds{good a}":       1,
		"scoria_saga_step_seconds{good b}":       1,
		"scoria_saga_runs_total{bad undone}":     1,
		"scoria_saga_run_seconds{bad undone}":    1,
		"scoria_saga_tries_total{bad done a}":    1,
		"scoria_saga_tries_total{bad failed b}":  1,
		"scoria_saga_tries_total{bad undone a}":  1,
		"scoria_saga_step_seconds{bad a}":        1,
		"scoria_saga_runs_total{late stuck}":     1,
		"scoria_saga_tries_total{late done a}":   1,
		"scoria_saga_tries_total{late failed b}": 1,
		"scoria_saga_step_seconds{late a}":       1,
	}
	if !maps.Equal(values, want) {
		for _, k := range slices.Sorted(maps.Keys(values)) {
			t.Logf("%s = %v", k, values[k])
		}
		t.Errorf("series differ from %v", want)
	}
}

func ExampleNew() {
	var reg saga.Registry
	m := sagaprom.New(reg.Shapes())
	prometheus.MustRegister(m)
	_ = saga.New(saga.NewMemory(), &reg, saga.WithObserver(m.Observe))
	// Output:
}
