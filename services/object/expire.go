package object

import (
	"context"
	"errors"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
)

const (
	// expireEvery is how often what has expired is looked for.
	expireEvery = 10 * time.Minute
	// A step takes this many objects at first, and from then on as many as fit
	// into the budget of one transaction, between these limits.
	firstStep, leastStep, mostStep = 50, 10, 500
	stepBudget                     = 5 * time.Millisecond
	// leaseFor is how long a process may expire alone without a sign of life.
	leaseFor = 10 * time.Minute
)

// Start runs the background work until the group stops.
func (s *Service) Start(g *lifecycle.Group) {
	g.Go("object.expire", s.expireLoop)
}

func (s *Service) expireLoop(ctx context.Context) error {
	for {
		removed, kept, err := s.expireAlone(ctx)
		if removed+kept > 0 {
			s.logger.Info("object: expired", "removed", removed, "kept", kept)
		}
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return nil
		}
		if err != nil {
			s.logger.Error("object: expiration failed and is tried again", "error", err)
		}
		due, cancel := s.clock.After(s.clock.Now().Add(expireEvery))
		select {
		case <-due:
		case <-ctx.Done():
		}
		cancel()
	}
}

// expireAlone expires unless another process does.
func (s *Service) expireAlone(ctx context.Context) (removed, kept int, err error) {
	lease, mine, err := s.store.Lease(ctx, "object/expire", s.node, leaseFor)
	if err != nil || !mine {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, lease.Release(context.WithoutCancel(ctx))) }()
	return s.expire(ctx, lease)
}

// position is where the walk over what is due stands.
type position struct {
	due clock.Time
	row int64
}

// expire removes every object that is due, in steps. Those that cannot be
// removed now are kept for the next time.
func (s *Service) expire(ctx context.Context, lease *store.Lease) (removed, kept int, err error) {
	now := s.clock.Now()
	step := firstStep
	var at position
	for {
		if lease.Expires().Sub(s.clock.Now()) < leaseFor/2 {
			if mine, err := lease.Renew(ctx); err != nil || !mine {
				return removed, kept, err
			}
		}
		began := time.Now()
		gone, left, next, took, err := s.expireStep(ctx, now, at, step)
		removed, kept = removed+gone, kept+left
		if err != nil || gone+left < step {
			return removed, kept, err
		}
		at = next
		switch {
		case took > stepBudget:
			step = max(step/2, leastStep)
		case took < stepBudget/2:
			step = min(step*2, mostStep)
		}
		// As much time belongs to everybody else.
		if err := pause(ctx, time.Since(began)); err != nil {
			return removed, kept, err
		}
	}
}

// expireStep removes up to n objects behind a position. It hides them, deletes
// their data, and then the rows: whatever is cut short is done again. took is
// the time of the longer transaction.
func (s *Service) expireStep(ctx context.Context, now clock.Time, at position, n int) (removed, kept int, next position, took time.Duration, err error) {
	timed := func(fn func(*store.Tx) error) error {
		return s.store.Write(ctx, func(tx *store.Tx) error {
			began := time.Now()
			defer func() { took = max(took, time.Since(began)) }()
			return fn(tx)
		})
	}
	var due []*object
	err = timed(func(tx *store.Tx) (err error) {
		due, next, err = s.hideDue(tx, now, at, n)
		return err
	})
	if err != nil || len(due) == 0 {
		return 0, 0, next, took, err
	}
	gone := s.deleteData(ctx, due)
	if err := ctx.Err(); err != nil {
		return 0, 0, next, took, err
	}
	err = timed(func(tx *store.Tx) error {
		for _, o := range gone {
			if _, err := tx.Exec(stmt.delete, o.row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, next, took, err
	}
	return len(gone), len(due) - len(gone), next, took, nil
}

// hideDue reads the objects that are due and hides them, apart from those whose
// backend is not there.
func (s *Service) hideDue(tx *store.Tx, now clock.Time, at position, n int) (due []*object, next position, err error) {
	rows := tx.Query(stmt.expired, at.due, at.row, now, n)
	defer rows.Close()
	for rows.Next() {
		o := new(object)
		if err := rows.Scan(&o.row, &o.name, &o.backendID, &next.due); err != nil {
			return nil, next, err
		}
		next.row = o.row
		due = append(due, o)
	}
	if err := rows.Err(); err != nil {
		return nil, next, err
	}
	for _, o := range due {
		if _, ok := s.backends[o.backendID]; !ok {
			continue
		}
		if _, err := tx.Exec(stmt.hide, o.row, now); err != nil {
			return nil, next, err
		}
	}
	return due, next, nil
}

// deleteData deletes the data of objects, and returns those of which it is
// gone. Of one backend's, all or none count as gone.
func (s *Service) deleteData(ctx context.Context, due []*object) (gone []*object) {
	byBackend := map[string][]*object{}
	for _, o := range due {
		byBackend[o.backendID] = append(byBackend[o.backendID], o)
	}
	for id, objects := range byBackend {
		b, ok := s.backends[id]
		if !ok {
			s.logger.Error("object: objects cannot expire, because this deployment does not have their backend any more", "backendId", id, "objects", len(objects))
			continue
		}
		keys := make([]string, len(objects))
		for i, o := range objects {
			keys[i] = b.key(o)
		}
		if err := b.Blob.Delete(ctx, keys...); err != nil {
			if ctx.Err() == nil {
				s.logger.Error("object: the data of expired objects could not be deleted; this is tried again", "backendId", id, "error", err)
			}
			continue
		}
		gone = append(gone, objects...)
	}
	return gone
}

// pause waits in real time, for it is real work that it makes room for.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
