package object

import (
	"context"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sweep"
)

// expireEvery is how often what has expired is looked for.
const expireEvery = 10 * time.Minute

// Start runs the background work until the group stops.
func (s *Service) Start(g *lifecycle.Group) { g.Go("object.expire", s.expiry().Run) }

func (s *Service) expiry() *sweep.Sweeper {
	return &sweep.Sweeper{
		Name: "object/expire", Every: expireEvery,
		Store: s.store, Clock: s.clock, Log: s.logger,
		Kinds: []sweep.Kind{{Name: "objects", Walk: s.expireObjects}},
	}
}

// position is where the walk over what is due stands.
type position struct {
	due clock.Time
	row int64
}

// expireObjects hides objects that are due, deletes their data, and then the
// rows: whatever is cut short is done again.
func (s *Service) expireObjects(now clock.Time) sweep.Step {
	var at position
	return func(ctx context.Context, write sweep.Write, n int) (done sweep.Outcome, err error) {
		var due []*object
		var next position
		err = write(ctx, func(tx *store.Tx) (err error) {
			due, next, err = s.hideDue(tx, now, at, n)
			return err
		})
		if err != nil || len(due) == 0 {
			return done, err
		}
		at = next
		gone := s.deleteData(ctx, due)
		if err := ctx.Err(); err != nil {
			return done, err
		}
		err = write(ctx, func(tx *store.Tx) error {
			for _, o := range gone {
				if _, err := tx.Exec(stmt.delete, o.row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return done, err
		}
		return sweep.Outcome{Removed: len(gone), Kept: len(due) - len(gone), More: len(due) == n}, nil
	}
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
