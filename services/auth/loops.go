package auth

import (
	"context"
	"errors"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
)

const (
	// retryDelay is the pause after a failure of background work.
	retryDelay = time.Second
	// purgeEvery is how often what is too old is looked for.
	purgeEvery = time.Hour
	// purgeBatch is how many rows one transaction deletes.
	purgeBatch = 500
	// usedEvery is how exactly lastDateUsed is kept.
	usedEvery = 6 * time.Hour
	// maxUsages is how many uses may wait to be written down; more are dropped.
	maxUsages = 1024
)

// Start begins the background work: following roles that other processes
// change, writing down when clients were used, and deleting what is too old.
func (s *Service) Start(g *lifecycle.Group) {
	g.Go("auth: follow roles", s.followRoles)
	g.Go("auth: last use of clients", s.writeUses)
	g.Go("auth: purge", func(ctx context.Context) error { return s.store.Repeat(ctx, "auth/purge", purgeEvery, s.purgeAll) })
}

// sleep waits, or returns the error of a context that ended.
func (s *Service) sleep(ctx context.Context, d time.Duration) error {
	due, cancel := s.clock.After(s.clock.Now().Add(d))
	defer cancel()
	select {
	case <-due:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// usage is the use of a client at some time.
type usage struct {
	clientID string
	at       clock.Time
}

// noteUse has lastDateUsed brought up to date if that is due. It never waits:
// this is on every request's path, and the date is a hint.
func (s *Service) noteUse(c *client, now clock.Time) {
	last := c.lastUse.Load()
	if now.Sub(clock.Time(last)) <= usedEvery || !c.lastUse.CompareAndSwap(last, int64(now)) {
		return
	}
	select {
	case s.used <- usage{c.id, now}:
	default:
	}
}

// writeUses writes down what noteUse found.
func (s *Service) writeUses(ctx context.Context) error {
	for {
		select {
		case first := <-s.used:
			err := s.store.Iterate(ctx, "auth/uses", func(ctx context.Context) error { return s.writeUse(ctx, first) })
			if err != nil && ctx.Err() == nil {
				s.logger.Warn("the last use of clients could not be written down", "error", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// writeUse writes down a use, and in the same transaction what else is waiting.
func (s *Service) writeUse(ctx context.Context, first usage) error {
	uses := []usage{first}
	for more := true; more && len(uses) < purgeBatch; {
		select {
		case u := <-s.used:
			uses = append(uses, u)
		default:
			more = false
		}
	}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		for _, u := range uses {
			if _, err := tx.Exec(stmt.setLastUsed, u.at, u.clientID, u.at); err != nil {
				return err
			}
		}
		return nil
	})
}

// purgeAll deletes expired clients, old history and expired keys at Sentry.
func (s *Service) purgeAll(ctx context.Context) error {
	clients, rows, err := s.purge(ctx)
	if clients+rows > 0 {
		s.logger.Info("auth: purged", "clients", clients, "auditRows", rows)
	}
	return errors.Join(err, s.brokers.Sentry.Purge(ctx))
}

// purge deletes clients that have expired and are to be deleted then, and
// history that is older than its retention. It publishes nothing: whoever
// still holds such a client in memory refuses it as expired.
func (s *Service) purge(ctx context.Context) (clients, rows int, err error) {
	for more := true; more; {
		var ids []string
		err := s.store.Write(ctx, func(tx *store.Tx) error {
			ids = ids[:0]
			now := tx.Now()
			found := tx.Query(stmt.expiredClients, now, purgeBatch)
			defer found.Close()
			for found.Next() {
				var id string
				if err := found.Scan(&id); err != nil {
					return err
				}
				ids = append(ids, id)
			}
			if err := found.Err(); err != nil {
				return err
			}
			for _, id := range ids {
				if _, err := tx.Exec(stmt.deleteClient, id); err != nil {
					return err
				}
				if err := writeAudit(tx, entityClient, id, ownClientID, "expired"); err != nil {
					return err
				}
				tx.Signal(clientTopic, id)
			}
			return nil
		})
		if err != nil {
			return clients, rows, err
		}
		clients += len(ids)
		more = len(ids) == purgeBatch
	}
	for more := true; more; {
		var n int64
		err := s.store.Write(ctx, func(tx *store.Tx) (err error) {
			n, err = tx.Exec(stmt.purgeAudit, tx.Now().Add(-s.retention), purgeBatch)
			return err
		})
		if err != nil {
			return clients, rows, err
		}
		rows += int(n)
		more = n == purgeBatch
	}
	return clients, rows, nil
}
