package pulse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sweep"
	"taskcluster/services/pulse/management"
)

const (
	// expireEvery is how often expired namespaces are looked for.
	expireEvery = time.Minute
	// grace is for how long an expired namespace is kept.
	grace = time.Hour
	// forgetAfter is when a queue's state is forgotten, so that a problem that
	// stays is told of once a day.
	forgetAfter = 24 * time.Hour
	// keepMails is for how long mails are kept: until they are neither counted
	// nor tried any more, even where mails were switched off meanwhile.
	keepMails = 2 * giveUp
)

// expiry removes namespaces, and forgets what was noted of queues.
func (s *Service) expiry() *sweep.Sweeper {
	return &sweep.Sweeper{
		Name: "pulse/expire", Every: expireEvery,
		Store: s.store, Clock: s.clock, Log: s.logger,
		Kinds: []sweep.Kind{
			{Name: "states", Walk: sweep.Rows(stmt.oldStates, forgetAfter)},
			{Name: "mails", Walk: sweep.Rows(stmt.oldMails, keepMails)},
			{Name: "namespaces", Walk: s.expireNamespaces},
		},
	}
}

// expireNamespaces removes namespaces that expired an hour ago or earlier: it
// marks the row, so that no claim renews it from then on, deletes the users, and
// then the row. What is cut off in between is done again.
func (s *Service) expireNamespaces(now clock.Time) sweep.Step {
	var at clock.Time
	var row int64
	var failed failures
	return func(ctx context.Context, write sweep.Write, n int) (done sweep.Outcome, err error) {
		var due []*namespace
		err = write(ctx, func(tx *store.Tx) (err error) {
			if due, err = s.all(tx.Query(stmt.expired, at, row, now.Add(-grace), n)); err != nil {
				return err
			}
			for _, n := range due {
				if _, err := tx.Exec(stmt.hide, n.row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(due) == 0 {
			return done, err
		}
		last := due[len(due)-1]
		at, row = last.expires, last.row
		var gone []*namespace
		for _, n := range due {
			if failed.enough() {
				break
			}
			err := s.removeUsers(ctx, n.name)
			if err == nil {
				gone = append(gone, n)
				continue
			}
			if ctx.Err() != nil {
				return done, err
			}
			failed.add(err)
			s.logger.Error("the users of an expired namespace could not be deleted; this is tried again", "namespace", n.name, "error", err.Error())
		}
		err = write(ctx, func(tx *store.Tx) error {
			for _, n := range gone {
				if _, err := tx.Exec(stmt.remove, n.row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return done, err
		}
		return sweep.Outcome{Removed: len(gone), Kept: len(due) - len(gone), More: len(due) == n && !failed.enough()}, nil
	}
}

// removeUsers deletes both users of a namespace. One that is somebody else's is
// left to him.
func (s *Service) removeUsers(ctx context.Context, namespace string) error {
	for which := 1; which <= 2; which++ {
		name := s.user(namespace, which)
		exists, err := s.own(ctx, name)
		if foreign(err) {
			continue
		}
		if err == nil && exists {
			err = s.broker.Management.DeleteUser(ctx, name)
		}
		if err != nil && !errors.Is(err, management.ErrNotFound) {
			return fmt.Errorf("the user %s: %w", name, err)
		}
	}
	return nil
}
