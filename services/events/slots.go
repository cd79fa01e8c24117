package events

import (
	"sync"

	"taskcluster/internal/api"
	"taskcluster/internal/tcerr"
)

// slots counts the connections of a process, by caller. One may have at most
// twice as many as are free: a single one gets two thirds of them, two get two
// fifths each, and whoever comes new finds some.
type slots struct {
	limit int

	mu      sync.Mutex
	open    int
	callers map[string]int
}

// caller is who counts as one: a client together with all to whom it issued
// temporary credentials, under whatever names, or for who has no credentials the
// address that he comes from.
func caller(c *api.Call) string {
	if a := c.Auth(); a.Status == api.AuthSuccess {
		return "client " + a.Issuer
	}
	return "address " + c.SourceIP()
}

// enter counts a connection in, or refuses it; leave must follow.
func (s *slots) enter(caller string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, has := s.limit-s.open, s.callers[caller]
	switch {
	case free <= 0:
		return tcerr.New(tcerr.TooManyRequests, "this server has %d subscribers, which is as many as it serves: try again later", s.limit)
	case has >= 2*free:
		return tcerr.New(tcerr.TooManyRequests, "%s has %d of the %d subscribers that this server serves, and %d are left for everybody else: "+
			"close some, or bind more exchanges on each", caller, has, s.limit, free)
	}
	s.open++
	s.callers[caller]++
	return nil
}

func (s *slots) leave(caller string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.callers[caller]--; s.callers[caller] == 0 {
		delete(s.callers, caller)
	}
}

func (s *slots) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}
