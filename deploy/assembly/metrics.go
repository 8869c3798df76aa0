package assembly

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// DefaultMetrics is where metrics are served.
const DefaultMetrics = "127.0.0.1:9776"

// metricsServer serves /metrics, /healthz and /readyz on a port of its own.
type metricsServer struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{}
}

// serveMetrics listens; ready says why the process is not ready, or nil.
func serveMetrics(addr string, registry *prometheus.Registry, ready func() error) (*metricsServer, error) {
	if addr == "" {
		addr = DefaultMetrics
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("metrics: another process listens on %s; end it, or give another address with --metrics", addr)
		}
		return nil, &SettingError{"metrics", addr, err.Error()}
	}
	m := &metricsServer{listener: l, done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(m.done)
		_ = m.server.Serve(l) // it ends with Close
	}()
	return m, nil
}

func newRegistry(release string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "scoria_build_info", Help: "What this process was built from; always 1."}, []string{"version", "goversion"})
	info.WithLabelValues(release, runtime.Version()).Set(1)
	r.MustRegister(info)
	return r
}

// URL is where the metrics are served, without the path.
func (m *metricsServer) URL() string { return "http://" + m.listener.Addr().String() }

// Close ends the server and its requests.
func (m *metricsServer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := m.server.Shutdown(ctx)
	if err != nil {
		err = m.server.Close()
	}
	<-m.done
	return err
}
