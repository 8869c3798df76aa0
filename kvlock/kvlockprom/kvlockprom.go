// Package kvlockprom tells Prometheus what package kvlock observes.
//
// A Metrics is a kvlock.Observer and a prometheus.Collector: give it to kvlock.WithObserver and register it.
//
// Invariants: labels come from closed sets, never from IDs; every series exists from the start, so that a rate over a
// first event is not lost.
//
// It does not say who holds what now: that is a list, not a number.
package kvlockprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scoria-storage/scoria/kvlock"
)

// Metrics counts events and measures how long operations held their claims.
type Metrics struct {
	events *prometheus.CounterVec
	held   *prometheus.HistogramVec
}

// New returns metrics that nobody has registered yet:
//
//	scoria_kvlock_events_total{event}         what happened, by kind
//	scoria_kvlock_held_seconds{phase}         from the first write of an operation's record to its end
func New() *Metrics {
	m := &Metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scoria_kvlock_events_total",
			Help: "Events of locks and their operations, by kind.",
		}, []string{"event"}),
		held: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "scoria_kvlock_held_seconds",
			Help:    "Time from the first write of an operation's record to its end, by the phase that it ended in.",
			Buckets: []float64{.005, .02, .1, .5, 2, 10, 60, 300, 1800, 7200, 43200},
		}, []string{"phase"}),
	}
	for _, k := range kvlock.EventKinds {
		m.events.WithLabelValues(k.String())
	}
	for _, p := range []kvlock.Phase{kvlock.Done, kvlock.Undone, kvlock.Void} {
		m.held.WithLabelValues(p.String())
	}
	return m
}

// Observe counts one event.
func (m *Metrics) Observe(e kvlock.Event) {
	m.events.WithLabelValues(e.Kind.String()).Inc()
	if e.Kind == kvlock.Released || e.Kind == kvlock.Broken {
		m.held.WithLabelValues(e.Phase.String()).Observe(e.Held.Seconds())
	}
}

// Describe is a prometheus.Collector's.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.events.Describe(ch)
	m.held.Describe(ch)
}

// Collect is a prometheus.Collector's.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.events.Collect(ch)
	m.held.Collect(ch)
}
