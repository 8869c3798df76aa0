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

// Metrics counts events and measures how long operations waited for their claims and held them, and how long lines are.
type Metrics struct {
	events  *prometheus.CounterVec
	held    *prometheus.HistogramVec
	waited  *prometheus.HistogramVec
	letIn   prometheus.Histogram
	waiting prometheus.Histogram
}

// How a wait ended.
const (
	granted = "granted"
	left    = "left"
)

// New returns metrics that nobody has registered yet:
//
//	scoria_kvlock_events_total{event}         what happened, by kind
//	scoria_kvlock_held_seconds{phase}         from the grant of an operation to its end
//	scoria_kvlock_wait_seconds{outcome}       in line, until it was let in (granted) or gave up (left)
//	scoria_kvlock_handover_grants             operations that one commit let in, where some waited
//	scoria_kvlock_line_waiters                operations that still waited after it
//
// The last three are told by the process that lets in, so the sum over all processes counts each wait once.
func New() *Metrics {
	m := &Metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scoria_kvlock_events_total",
			Help: "Events of locks and their operations, by kind.",
		}, []string{"event"}),
		held: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "scoria_kvlock_held_seconds",
			Help:    "Time from the grant of an operation's claims to its end, by the phase that it ended in.",
			Buckets: seconds,
		}, []string{"phase"}),
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "scoria_kvlock_wait_seconds",
			Help:    "Time that an operation stood in line until it was let in or gave up.",
			Buckets: seconds,
		}, []string{"outcome"}),
		letIn: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "scoria_kvlock_handover_grants",
			Help:    "Operations that one commit let in, of commits that met a line.",
			Buckets: []float64{0, 1, 2, 4, 8, 16, 32, 64},
		}),
		waiting: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "scoria_kvlock_line_waiters",
			Help:    "Operations that still waited in the lines that a commit met.",
			Buckets: []float64{0, 1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
	}
	for _, outcome := range []string{granted, left} {
		m.waited.WithLabelValues(outcome)
	}
	for _, k := range kvlock.EventKinds {
		m.events.WithLabelValues(k.String())
	}
	for _, p := range []kvlock.Phase{kvlock.Done, kvlock.Undone, kvlock.Void} {
		m.held.WithLabelValues(p.String())
	}
	return m
}

// seconds are the buckets of times: a lock may be held for hours.
var seconds = []float64{.005, .02, .1, .5, 2, 10, 60, 300, 1800, 7200, 43200}

// Observe counts one event.
func (m *Metrics) Observe(e kvlock.Event) {
	m.events.WithLabelValues(e.Kind.String()).Inc()
	switch e.Kind {
	case kvlock.Released, kvlock.Broken:
		m.held.WithLabelValues(e.Phase.String()).Observe(e.Held.Seconds())
	case kvlock.HandedOver:
		m.waited.WithLabelValues(granted).Observe(e.Waited.Seconds())
	case kvlock.Left:
		m.waited.WithLabelValues(left).Observe(e.Waited.Seconds())
	case kvlock.LineServed:
		m.letIn.Observe(float64(e.LetIn))
		m.waiting.Observe(float64(e.Waiting))
	case kvlock.Acquired, kvlock.Refused, kvlock.Adopted, kvlock.Overtaken, kvlock.Canceled, kvlock.Voided, kvlock.Resumed, kvlock.Enqueued, kvlock.Woken:
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.events, m.held, m.waited, m.letIn, m.waiting}
}

// Describe is a prometheus.Collector's.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect is a prometheus.Collector's.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}
