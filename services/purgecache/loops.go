package purgecache

import (
	"context"
	"errors"
	"time"

	"taskcluster/internal/store"
)

const (
	// expireEvery is how often expired requests are looked for.
	expireEvery = time.Hour
	// grace is for how long an expired request is kept.
	grace = time.Hour
	// expireBatch is how many requests one transaction removes.
	expireBatch = 500
)

// expireLoop removes expired requests, in one process at a time.
func (s *Service) expireLoop(ctx context.Context) error {
	for {
		if err := s.expireAlone(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
			s.logger.Error("expired purge requests could not be removed; it is tried again in an hour", "error", err)
		}
		due, cancel := s.clock.After(s.clock.Now().Add(expireEvery))
		select {
		case <-due:
		case <-ctx.Done():
			cancel()
			return nil
		}
	}
}

func (s *Service) expireAlone(ctx context.Context) (err error) {
	lease, mine, err := s.store.Lease(ctx, "purge-cache/expire", s.node, expireEvery)
	if err != nil || !mine {
		return err
	}
	defer func() { err = errors.Join(err, lease.Release(context.WithoutCancel(ctx))) }()
	removed, err := s.expire(ctx)
	if removed > 0 {
		s.logger.Info("removed expired purge requests", "requests", removed)
	}
	return err
}

// expire removes requests that expired an hour ago or earlier, in small steps.
func (s *Service) expire(ctx context.Context) (removed int64, err error) {
	for {
		var n int64
		err := s.store.Write(ctx, func(tx *store.Tx) (err error) {
			n, err = tx.Exec(stmt.expire, tx.Now().Add(-grace), expireBatch)
			if n > 0 {
				tx.OnCommit(s.cache.clear)
			}
			return err
		})
		if err != nil {
			return removed, err
		}
		removed += n
		if n < expireBatch {
			return removed, nil
		}
	}
}
