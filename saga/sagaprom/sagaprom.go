// Package sagaprom tells Prometheus what package saga observes.
//
// A Metrics is a prometheus.Collector whose Observe is given to saga.WithObserver.
//
// Invariants: labels come from closed sets, the definitions and their steps, never from IDs; every counter exists
// from the start, so that a rate over a first event is not lost.
//
// It does not say which runs are stuck: that is a list, not a number. An alert on
// increase(scoria_saga_runs_total{outcome="stuck"}[…]) sends a person to it.
package sagaprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scoria-storage/scoria/saga"
)

// Metrics counts what runs and steps came to, and measures how long they took.
type Metrics struct {
	active *prometheus.GaugeVec
	runs   *prometheus.CounterVec
	run    *prometheus.HistogramVec
	tries  *prometheus.CounterVec
	step   *prometheus.HistogramVec
}

// outcomes are the ends of a worker's work on a run.
var outcomes = map[saga.EventKind]string{
	saga.RunDone: "done", saga.RunUndone: "undone", saga.RunStuck: "stuck",
	saga.RunFenced: "fenced", saga.RunLeft: "left", saga.RunPaused: "paused",
}

// parked is the outcome of a run that no worker began to drive.
const parked = "parked"

// results are what one try of a step came to.
var results = map[saga.EventKind]string{
	saga.StepDone: "done", saga.StepFailed: "failed", saga.StepUndone: "undone", saga.UndoFailed: "undo-failed",
}

// New returns metrics for the definitions of a registry, which nobody has registered yet:
//
//	scoria_saga_runs_active{definition}              runs that this process drives now
//	scoria_saga_runs_total{definition,outcome}       done, undone, stuck; fenced, left, paused, parked: others go on
//	scoria_saga_run_seconds{definition,outcome}      from the first step to the end, over all workers
//	scoria_saga_tries_total{definition,step,result}  done, failed, undone, undo-failed
//	scoria_saga_step_seconds{definition,step}        of a try of a step that succeeded
func New(shapes []saga.Shape) *Metrics {
	buckets := []float64{.001, .005, .02, .1, .5, 2, 10, 60, 300, 1800, 7200}
	m := &Metrics{
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "scoria_saga_runs_active", Help: "Runs that this process drives now.",
		}, []string{"definition"}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scoria_saga_runs_total", Help: "Runs that this process drove, by what came of it.",
		}, []string{"definition", "outcome"}),
		run: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scoria_saga_run_seconds", Help: "Time from the beginning of a run to its end, over all workers.", Buckets: buckets,
		}, []string{"definition", "outcome"}),
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scoria_saga_tries_total", Help: "Tries of steps and of their undoing, by result.",
		}, []string{"definition", "step", "result"}),
		step: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scoria_saga_step_seconds", Help: "Time of the try of a step that succeeded.", Buckets: buckets,
		}, []string{"definition", "step"}),
	}
	for _, sh := range shapes {
		m.create(sh)
	}
	return m
}

func (m *Metrics) create(sh saga.Shape) {
	m.active.WithLabelValues(sh.Name)
	m.runs.WithLabelValues(sh.Name, parked)
	for _, o := range outcomes {
		m.runs.WithLabelValues(sh.Name, o)
	}
	for _, s := range sh.Steps {
		for _, r := range results {
			m.tries.WithLabelValues(sh.Name, s.Name, r)
		}
	}
}

// Observe counts one event.
func (m *Metrics) Observe(ev saga.Event) {
	if outcome, ok := outcomes[ev.Kind]; ok {
		m.active.WithLabelValues(ev.Definition).Dec()
		m.runs.WithLabelValues(ev.Definition, outcome).Inc()
	}
	if result, ok := results[ev.Kind]; ok {
		m.tries.WithLabelValues(ev.Definition, ev.Step, result).Inc()
	}
	switch ev.Kind {
	case saga.RunBegan, saga.RunResumed:
		m.active.WithLabelValues(ev.Definition).Inc()
	case saga.RunParked:
		m.runs.WithLabelValues(ev.Definition, parked).Inc()
	case saga.RunDone, saga.RunUndone:
		m.run.WithLabelValues(ev.Definition, outcomes[ev.Kind]).Observe(ev.Took.Seconds())
	case saga.StepDone:
		m.step.WithLabelValues(ev.Definition, ev.Step).Observe(ev.Took.Seconds())
	case saga.StepFailed, saga.StepUndone, saga.UndoFailed, saga.Progressed, saga.Waits, saga.RunTurned,
		saga.RunStuck, saga.RunFenced, saga.RunLeft, saga.RunPaused:
	}
}

// Describe is a prometheus.Collector's.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.each(func(c prometheus.Collector) { c.Describe(ch) })
}

// Collect is a prometheus.Collector's.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.each(func(c prometheus.Collector) { c.Collect(ch) })
}

func (m *Metrics) each(f func(prometheus.Collector)) {
	for _, c := range []prometheus.Collector{m.active, m.runs, m.run, m.tries, m.step} {
		f(c)
	}
}
