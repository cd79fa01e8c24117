package obs

import (
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

	commits    prometheus.Histogram
	operations prometheus.Histogram
	blobs      *prometheus.HistogramVec
	iterations *prometheus.HistogramVec
	auth       authentications
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

// NewMetrics makes a registry with the process's own figures. version and commit
// are this program's.
func NewMetrics(version, commit string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "API calls answered.",
		}, []string{"method", "name", "status", "service"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Time from the request's header to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25},
		}, []string{"method", "name", "status", "service"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "taskcluster_store_commit_seconds", Help: "Time of a writing transaction, from its begin until it is durable.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		operations: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "taskcluster_store_commit_operations", Help: "Operations that share a writing transaction.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512},
		}),
		blobs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "taskcluster_blob_operation_seconds", Help: "Time of an operation of the artifact store by this process.",
			Buckets: []float64{.0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 60},
		}, []string{"operation", "outcome"}),
		iterations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "iterate_duration_seconds", Help: "Time of one turn of background work.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 600},
		}, []string{"name", "status"}),
		auth: newAuthentications(),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "taskcluster_build_info", Help: "This program; the value is always 1.",
	}, []string{"version", "commit", "go"})
	build.WithLabelValues(version, commit, runtime.Version()).Set(1)
	m.registry.MustRegister(m.requests, m.duration, m.commits, m.operations, m.blobs, m.iterations, m.auth.success, m.auth.failure, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Committed counts one transaction of the store.
func (m *Metrics) Committed(operations int, took time.Duration) {
	m.commits.Observe(took.Seconds())
	m.operations.Observe(float64(operations))
}

// Iterated counts one turn of background work.
func (m *Metrics) Iterated(name string, took time.Duration, ok bool) {
	status := "success"
	if !ok {
		status = "exception"
	}
	m.iterations.WithLabelValues(name, status).Observe(took.Seconds())
}

// BlobOperation counts one operation of the artifact store: "get", "ok".
func (m *Metrics) BlobOperation(operation, outcome string, took time.Duration) {
	m.blobs.WithLabelValues(operation, outcome).Observe(took.Seconds())
}

// Names lists the metrics that there may be, whether they have a series yet or not.
func (m *Metrics) Names() []string {
	descs := make(chan *prometheus.Desc)
	go func() {
		m.registry.Describe(descs)
		close(descs)
	}()
	var names []string
	for d := range descs {
		// A Desc tells its name in its text only: Desc{fqName: "…", help: …
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
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
