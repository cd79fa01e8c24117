package auth

import (
	"context"
	"strconv"
	"time"

	"taskcluster/internal/store"
)

// What keeps the memory of all processes in step: a client that changed is
// forgotten, and roles that changed are read again.
const (
	clientTopic = "auth/client" // with the client's id
	rolesTopic  = "auth/roles"  // with the version of the set
)

// followEvery is how often the version of the roles is looked at, in case
// a signal was missed.
const followEvery = 30 * time.Second

// watch begins to follow changes, also those of this process.
func (s *Service) watch() {
	s.store.Watch(clientTopic, func(signal store.Signal) {
		if signal.Lost {
			s.clients.clear()
		} else {
			s.clients.forget(signal.Detail)
		}
	})
	s.store.Watch(rolesTopic, func(signal store.Signal) {
		version, err := strconv.ParseInt(signal.Detail, 10, 64)
		if known := s.roles.Load(); err == nil && !signal.Lost && known != nil && known.version >= version {
			return
		}
		s.rolesHeard.Add(1)
		select {
		case s.rolesMoved <- struct{}{}:
		default:
		}
	})
}

// followRoles reads the roles when another process has changed them.
func (s *Service) followRoles(ctx context.Context) error {
	var tick <-chan time.Time
	if s.store.Shared() {
		ticker := time.NewTicker(followEvery)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-s.rolesMoved:
		case <-tick:
		case <-ctx.Done():
			return ctx.Err()
		}
		for {
			err := s.store.Iterate(ctx, "auth/roles", s.loadRoles)
			if err == nil || ctx.Err() != nil {
				break
			}
			s.logger.Error("auth: roles that another process changed cannot be read", "error", err)
			if err := s.sleep(ctx, retryDelay); err != nil {
				return err
			}
		}
	}
}
