package api

import (
	"errors"
	"sync"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// outageQuiet is how long nobody has been refused when an outage is over.
const outageQuiet = 10 * time.Second

// outages are the times in which every call fails for one known reason: the
// database is away, or the disk is full. Thousands may call then, so that an
// outage is one incident, whose id all of them get, and two lines of the log:
// when it began, and what it was when it is over.
type outages struct {
	mu   sync.Mutex
	open map[string]*outage // by what is the matter
}

type outage struct {
	incident    string
	began, last clock.Time // of the refusals
	refused     int
}

// outageOf says which outage an error is due to.
func outageOf(err error) (what string, ok bool) {
	switch {
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrOutcomeUnknown):
		return "the database is away", true
	case errors.Is(err, store.ErrDiskFull):
		return "the disk is full", true
	}
	return "", false
}

// refusedByOutage counts a call that failed with err. The first one is logged.
func (s *Server) refusedByOutage(what string, err error) (incident string) {
	s.outages.mu.Lock()
	defer s.outages.mu.Unlock()
	now := s.clock.Now()
	o := s.outages.open[what]
	if o == nil {
		o = &outage{incident: newUUID(), began: now}
		s.outages.open[what] = o
		s.log.Error("incident", "incidentId", o.incident, "outage", what, "error", err.Error(),
			"further", "calls that fail so are counted, and told when it is over")
		go s.awaitEnd(what, o)
	}
	o.last = now
	o.refused++
	return o.incident
}

// awaitEnd logs the end of an outage. That calls succeed does not show it, since
// many are answered from memory.
func (s *Server) awaitEnd(what string, o *outage) {
	due := s.clock.Now().Add(outageQuiet)
	for {
		quiet, stop := s.clock.After(due)
		<-quiet
		stop()
		s.outages.mu.Lock()
		if due = o.last.Add(outageQuiet); due <= s.clock.Now() {
			break
		}
		s.outages.mu.Unlock()
	}
	delete(s.outages.open, what)
	s.outages.mu.Unlock()
	s.log.Warn("incident is over", "incidentId", o.incident, "outage", what,
		"refused", o.refused, "seconds", o.last.Sub(o.began).Seconds())
}
