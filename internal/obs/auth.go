package obs

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxClients is how many clients have a series of their own; those that are seen
// later share one. Every series costs the monitoring system memory, and whoever
// may make clients may make many.
const maxClients = 200

// otherClients is the label of clients without a series of their own.
const otherClients = "(other)"

// authentications counts checks of credentials.
type authentications struct {
	success, failure *prometheus.CounterVec

	mu     *sync.RWMutex
	series map[authKey]prometheus.Counter
}

type authKey struct{ scheme, client string }

func newAuthentications() authentications {
	return authentications{
		success: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auth_success_total", Help: "Requests with good credentials, by client; those of tasks and workers are one each.",
		}, []string{"clientId", "scheme"}),
		failure: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auth_failure_total", Help: "Requests whose credentials were refused, or could not be checked (internal-error).",
		}, []string{"reason", "scheme"}),
		mu: &sync.RWMutex{}, series: map[authKey]prometheus.Counter{},
	}
}

// Authenticated counts one check of credentials, which were good if there is no
// reason against them.
func (m *Metrics) Authenticated(scheme, clientID, reason string) {
	if reason != "" {
		m.auth.failure.WithLabelValues(reason, scheme).Inc()
		return
	}
	m.auth.of(authKey{scheme, normalised(clientID)}).Inc()
}

// normalised is the label of a client: those that exist for a task or a worker
// are as many as there are of these.
func normalised(clientID string) string {
	for _, kind := range []string{"task-client/", "worker/"} {
		if strings.HasPrefix(clientID, kind) {
			return kind + "*"
		}
	}
	return clientID
}

func (a *authentications) of(key authKey) prometheus.Counter {
	a.mu.RLock()
	c, ok := a.series[key]
	full := len(a.series) >= maxClients
	a.mu.RUnlock()
	if ok {
		return c
	}
	if full {
		return a.success.WithLabelValues(otherClients, key.scheme)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c = a.success.WithLabelValues(strings.Clone(key.client), key.scheme)
	a.series[authKey{key.scheme, strings.Clone(key.client)}] = c
	return c
}
