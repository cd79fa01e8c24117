package obs

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is the registry of one process, served in Prometheus's text format.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	methods  sync.Map // servedKey -> *served
}

type servedKey struct {
	service, name, method string
	status                int
}

// served keeps the two series of a method, so that counting a call does not
// look labels up.
type served struct {
	count    prometheus.Counter
	duration prometheus.Observer
}

// NewMetrics makes a registry with the process's own figures.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "API calls answered.",
		}, []string{"method", "name", "status", "service"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Time from the request's header to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25},
		}, []string{"method", "name", "status", "service"}),
	}
	m.registry.MustRegister(m.requests, m.duration, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Served counts one answered API call.
func (m *Metrics) Served(service, name, method string, status int, took time.Duration) {
	key := servedKey{service, name, method, status}
	s, ok := m.methods.Load(key)
	if !ok {
		labels := []string{method, name, strconv.Itoa(status), service}
		s, _ = m.methods.LoadOrStore(key, &served{m.requests.WithLabelValues(labels...), m.duration.WithLabelValues(labels...)})
	}
	s.(*served).count.Inc()
	s.(*served).duration.Observe(took.Seconds())
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}
