package pulse

import (
	"context"
	"errors"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

const (
	// rotateEvery is how often it is looked whether a rotation is due.
	rotateEvery = time.Minute
	// dueAtOnce is how many rows are read at a time.
	dueAtOnce = 100
)

// rotate rotates the namespaces that are due: the other user gets a new password
// and becomes the active one, and the one that was active keeps its password
// until its turn comes again. Those of which RabbitMQ does not know what is
// stored are not rotated but brought to it, so that no password is replaced whose
// successor nobody could have. What RabbitMQ refuses of one namespace does not
// hold up others; when it does not answer, again and again, the rest waits.
func (s *Service) rotate(ctx context.Context) error {
	var failed failures
	now := s.clock.Now()
	for at, row, more := clock.Time(0), int64(0), true; more; {
		var due []*namespace
		err := s.store.ReadOne(ctx, func(tx *store.Tx) (err error) {
			due, err = s.all(tx.Query(stmt.due, at, row, now, dueAtOnce))
			return err
		})
		if err != nil {
			return errors.Join(failed.err(), err)
		}
		for _, n := range due {
			at, row = n.nextRotation, n.row
			if err := s.rotateOne(ctx, n); err != nil {
				if failed.add(err); ctx.Err() != nil || failed.enough() {
					return failed.err()
				}
			}
		}
		more = len(due) == dueAtOnce
	}
	return failed.err()
}

func (s *Service) rotateOne(ctx context.Context, n *namespace) error {
	if n.behind != lacksNone {
		return s.bringOnce(ctx, n)
	}
	var next *namespace
	err := s.store.Write(ctx, func(tx *store.Tx) (err error) {
		if _, err = tx.Exec(stmt.rotate, s.seal(n.name, newPassword()), n.row, n.sealed); err != nil {
			return err
		}
		next, err = s.find(tx, n.name)
		return err
	})
	if err != nil || next == nil || next.behind == lacksNone || next.removing {
		return err // it is not there any more, or is not to be rotated
	}
	return s.bringOnce(ctx, next)
}
