package kvlockprom_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlockprom"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
)

// gather returns the value of each series, "name{label}"; of a histogram its count, and its sum as "name_sum{label}".
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := ""
			for _, l := range m.GetLabel() {
				label = "{" + l.GetValue() + "}"
			}
			if h := m.GetHistogram(); h != nil {
				got[f.GetName()+label] = float64(h.GetSampleCount())
				got[f.GetName()+"_sum"+label] = h.GetSampleSum()
			} else {
				got[f.GetName()+label] = m.GetCounter().GetValue()
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
	const histograms = 3 + 2 + 1 + 1 // by phase, by outcome, and two without a label
	if got := gather(t, reg); len(got) != len(kvlock.EventKinds)+2*histograms {
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
	for _, waiter := range []string{"op-3", "op-4", "op-5"} { // a reader, a writer behind it, and one more
		claim := kvlock.Shared("volume.v1")
		if waiter == "op-4" {
			claim = kvlock.Exclusive("volume.v1")
		}
		if _, err := l.Queue(t.Context(), waiter, nil, kvlock.Wait{}, claim); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Release(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	metrics.Observe(kvlock.Event{Kind: kvlock.Left, Phase: kvlock.Void, Waited: 3 * time.Second})
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

		"scoria_kvlock_events_total{enqueued}":    3,
		"scoria_kvlock_events_total{handed_over}": 1,
		"scoria_kvlock_events_total{line_served}": 1,
		"scoria_kvlock_events_total{woken}":       0,
		"scoria_kvlock_wait_seconds{granted}":     1,
		"scoria_kvlock_wait_seconds{left}":        1,
		"scoria_kvlock_wait_seconds_sum{left}":    3,
		"scoria_kvlock_handover_grants":           1,
		"scoria_kvlock_handover_grants_sum":       1,
		"scoria_kvlock_line_waiters":              1,
		"scoria_kvlock_line_waiters_sum":          2,
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
