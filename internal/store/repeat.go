package store

import (
	"context"
	"errors"
	"time"
)

// Repeat runs work again and again, with a pause behind each time, while no other
// process that shares the database does so under the same name (RunLeased). It
// returns nil when ctx ends or the store is closed. Failures are logged, and work
// is done again after the pause.
func (s *Store) Repeat(ctx context.Context, name string, pause time.Duration, work func(context.Context) error) error {
	return s.RunLeased(ctx, name, func(ctx context.Context) error {
		for {
			err := s.Iterate(ctx, name, work)
			switch {
			case ctx.Err() != nil || errors.Is(err, ErrClosed):
				return nil
			case err != nil:
				s.log.Error("background work failed and is tried again", "work", name, "after", pause.String(), "error", err.Error())
			}
			due, cancel := s.clock.After(s.clock.Now().Add(pause))
			select {
			case <-due:
			case <-ctx.Done():
			}
			cancel()
		}
	})
}

// Iterate runs background work once, which the observer is told of unless the
// work was cut off by the end of ctx or of the store. It is for loops that Repeat
// is not for: those that every process has, or that wait for something else.
func (s *Store) Iterate(ctx context.Context, name string, work func(context.Context) error) error {
	began := time.Now()
	err := work(ctx)
	if s.observer != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
		s.observer.Iterated(name, time.Since(began), err == nil)
	}
	return err
}
