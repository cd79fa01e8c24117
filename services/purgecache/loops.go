package purgecache

import (
	"context"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store/sweep"
)

const (
	// expireEvery is how often expired requests are looked for.
	expireEvery = time.Hour
	// grace is for how long an expired request is kept.
	grace = time.Hour
)

// expiry removes requests that expired an hour ago or earlier.
func (s *Service) expiry() *sweep.Sweeper {
	return &sweep.Sweeper{
		Name: "purge-cache/expire", Every: expireEvery,
		Store: s.store, Clock: s.clock, Log: s.logger,
		Kinds: []sweep.Kind{{Name: "requests", Walk: s.expireRequests}},
	}
}

func (s *Service) expireRequests(now clock.Time) sweep.Step {
	step := sweep.Rows(stmt.expire, grace)(now)
	return func(ctx context.Context, write sweep.Write, n int) (done sweep.Outcome, err error) {
		done, err = step(ctx, write, n)
		if done.Removed > 0 {
			s.cache.clear()
		}
		return done, err
	}
}
