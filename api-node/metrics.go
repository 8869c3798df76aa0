package apinode

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scoria-storage/scoria/api-node/rest"
)

// requestMetrics counts the requests that were answered. Routes come from a closed set.
func requestMetrics(reg prometheus.Registerer) func(rest.Event) {
	if reg == nil {
		return nil
	}
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "scoria_rest_request_duration_seconds", Help: "Time from a request's arrival to its answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
	}, []string{"method", "route", "status"})
	reg.MustRegister(took)
	return func(e rest.Event) {
		route := e.Route
		if route == "" {
			route = "unknown"
		}
		took.WithLabelValues(e.Method, route, strconv.Itoa(e.Status)).Observe(e.Took.Seconds())
	}
}
