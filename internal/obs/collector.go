package obs

import "github.com/prometheus/client_golang/prometheus"

// Family is a named metric, with as many series as there are label values.
type Family struct {
	Name, Help string
	Labels     []string
	Counter    bool // it only grows; otherwise a gauge
}

// Publish publishes families whose figures are read together, in order,
// whenever metrics are asked for: read calls emit once for each series, with as
// many values as the family has labels.
func (m *Metrics) Publish(families []*Family, read func(emit func(f *Family, value float64, labels ...string))) {
	c := &collector{read: read, descs: map[*Family]*prometheus.Desc{}}
	for _, f := range families {
		c.descs[f] = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
	}
	m.registry.MustRegister(c)
}

type collector struct {
	descs map[*Family]*prometheus.Desc
	read  func(emit func(f *Family, value float64, labels ...string))
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.read(func(f *Family, value float64, labels ...string) {
		kind := prometheus.GaugeValue
		if f.Counter {
			kind = prometheus.CounterValue
		}
		ch <- prometheus.MustNewConstMetric(c.descs[f], kind, value, labels...)
	})
}
