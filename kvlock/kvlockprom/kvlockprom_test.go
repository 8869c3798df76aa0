package kvlockprom_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlockprom"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

// gather returns the value of each series, "name{label}"; of a histogram its count.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName() + "{" + m.GetLabel()[0].GetValue() + "}"
			if h := m.GetHistogram(); h != nil {
				got[name] = float64(h.GetSampleCount())
			} else {
				got[name] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}

func TestEventsBecomeMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	metrics := kvlockprom.New()
	reg.MustRegister(metrics)
	if got := gather(t, reg); len(got) != len(kvlock.EventKinds)+3 {
		t.Errorf("series before the first event: %v", got)
	}

	l := kvlock.New(natstest.Start(t).Store(t), kvlock.WithObserver(metrics))
	g, err := l.TryAcquire(t.Context(), "op-1", nil, kvlock.Exclusive("volume.v1"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := l.TryAcquire(t.Context(), "op-2", nil, kvlock.Shared("volume.v1")); err == nil {
			t.Fatal("claims that conflict were granted")
		}
	}
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	metrics.Observe(kvlock.Event{Kind: kvlock.Broken, Phase: kvlock.Void, Held: time.Second})

	got := gather(t, reg)
	for name, want := range map[string]float64{
		"scoria_kvlock_events_total{acquired}": 1,
		"scoria_kvlock_events_total{refused}":  2,
		"scoria_kvlock_events_total{released}": 1,
		"scoria_kvlock_events_total{broken}":   1,
		"scoria_kvlock_events_total{adopted}":  0,
		"scoria_kvlock_held_seconds{done}":     1,
		"scoria_kvlock_held_seconds{void}":     1,
		"scoria_kvlock_held_seconds{undone}":   0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v, want %v", name, v, want)
		}
	}
}

func ExampleNew() {
	m := kvlockprom.New()
	prometheus.MustRegister(m)
	_ = kvlock.WithObserver(m) // an option of kvlock.New
	// Output:
}
