package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
)

// Start runs the background work until the group stops.
func (s *Service) Start(g *lifecycle.Group) {
	g.Go("queue.timers", s.timerLoop)
	g.Go("queue.releases", s.releaseLoop)
	g.Go("queue.expire", s.expiry().Run)
	if s.follower != nil {
		g.Go("queue.follow", s.follower.run)
	}
}

// Drain has every claimWork that waits, now or later, answer at once with no
// task, so that a server can stop without waiting for the long polls. It may
// be called more than once.
func (s *Service) Drain() { s.drain.Do(func() { close(s.stopping) }) }

// alarm tells a loop when to look again. The zero time is never.
type alarm struct {
	mu   sync.Mutex
	at   clock.Time
	wake chan struct{}
}

func newAlarm() *alarm { return &alarm{wake: make(chan struct{}, 1)} }

// before makes sure that the loop looks at the given time, or earlier.
func (a *alarm) before(at clock.Time) {
	a.mu.Lock()
	earlier := a.at == 0 || at < a.at
	if earlier {
		a.at = at
	}
	a.mu.Unlock()
	if earlier {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// now makes the loop look at once.
func (a *alarm) now() { a.before(1) }

// next is the time at which the loop has to look, 0 for never.
func (a *alarm) next() clock.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at
}

// clear is called just before the loop looks; what is set from then on counts
// for the next time.
func (a *alarm) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = 0
}

// wait returns when it is time to look: false when ctx ended instead.
func (a *alarm) wait(ctx context.Context, c clock.Clock) bool {
	for {
		at := a.next()
		if at != 0 && at <= c.Now() {
			return ctx.Err() == nil
		}
		var due <-chan struct{}
		cancel := func() {}
		if at != 0 {
			due, cancel = c.After(at)
		}
		select {
		case <-ctx.Done():
			cancel()
			return false
		case <-a.wake: // it is time earlier than we knew
		case <-due:
		}
		cancel()
	}
}

// dueChunk is how many timers one transaction handles.
const dueChunk = 100

// retryPause is how long a loop waits after a failure, for instance of a disk
// that is full.
const retryPause = time.Second

// timerLoop resolves runs whose claim expired and tasks whose deadline passed.
// Between the times that are due it sleeps, without a query.
func (s *Service) timerLoop(ctx context.Context) error {
	return s.loop(ctx, s.timers, "timers", func(ctx context.Context) (next clock.Time, err error) {
		err = s.store.Write(ctx, func(tx *store.Tx) error {
			next, err = s.expireDue(tx)
			return err
		})
		return next, err
	})
}

// releaseLoop releases the dependents that one transaction was too short for.
func (s *Service) releaseLoop(ctx context.Context) error {
	return s.loop(ctx, s.releases, "releases", func(ctx context.Context) (next clock.Time, err error) {
		err = s.store.Write(ctx, func(tx *store.Tx) error {
			next = 0
			more, err := s.releaseMore(tx)
			if more {
				next = tx.Now()
			}
			return err
		})
		return next, err
	})
}

// loop calls work at once, and then whenever the alarm or the time that work
// returned says so. It never ends on an error: it logs it and tries again.
func (s *Service) loop(ctx context.Context, a *alarm, name string, work func(context.Context) (clock.Time, error)) error {
	a.now()
	for a.wait(ctx, s.clock) {
		a.clear()
		var next clock.Time
		err := s.store.Iterate(ctx, "queue/"+name, func(ctx context.Context) (err error) {
			next, err = work(ctx)
			return err
		})
		switch {
		case ctx.Err() != nil || errors.Is(err, store.ErrClosed):
			return nil
		case err != nil:
			s.logger.Error("background work of the queue failed and is tried again", "loop", name, "error", err)
			next = s.clock.Now().Add(retryPause)
		}
		if next != 0 {
			a.before(next)
		}
	}
	return nil
}

// expireDue handles a chunk of the timers that are due, and returns when to
// look again, or 0 if nothing is waiting.
func (s *Service) expireDue(tx *store.Tx) (next clock.Time, err error) {
	rows := tx.Query(stmt.dueTasks, tx.Now(), dueChunk)
	due := make([]int64, 0, dueChunk)
	for rows.Next() {
		var row int64
		if err := rows.Scan(&row); err != nil {
			return 0, err
		}
		due = append(due, row)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if len(due) > 0 {
		o := s.begin(tx)
		for _, row := range due {
			if err := o.expire(row); err != nil {
				return 0, err
			}
		}
		if err := o.finish(); err != nil {
			return 0, err
		}
	}
	err = tx.Row(stmt.earliestDue).Scan(&next)
	if errors.Is(err, store.ErrNoRows) {
		return 0, nil
	}
	return next, err
}

// expire resolves a task that is due: past its deadline for good, with an
// expired claim so that it is retried if a retry is left.
func (o *op) expire(row int64) error {
	t, err := loadRow(o.tx, row)
	if err != nil {
		return err
	}
	switch {
	case t.state().resolved():
	case t.deadline <= o.now:
		return o.end(t, reasonDeadlineExceeded)
	case t.state() == running && t.last.takenUntil <= o.now:
		_, err := o.resolve(t, exception, reasonClaimExpired)
		return err
	}
	return o.save(t) // with the right due, so that the loop does not come back for it
}
