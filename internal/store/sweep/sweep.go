// Package sweep removes what is no longer wanted, beside whoever uses the store:
// what a service calls background removal, in steps so small that no request
// waits long for one.
//
// What it promises:
//
//   - A step's transactions take about Budget, with the commit; how many rows
//     that is, it learns.
//   - Between two steps three times as much time passes as the step took, so that
//     others get at least three quarters of the writer and of the disk.
//   - One process sweeps at a time (store.Repeat).
//   - What could not be removed is tried again at the next sweep.
package sweep

import (
	"context"
	"log/slog"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

const (
	// Budget is how long a transaction of a step should take, with its commit:
	// others wait for both. On a slow disk the commit alone may take longer.
	Budget = 3 * time.Millisecond
	// rests is how many times the time of a step passes before the next.
	rests = 3
	// A step handles this many rows at first, and later between these limits.
	firstStep, leastStep, mostStep = 50, 10, 500
	// progressEvery is how often a long sweep is logged.
	progressEvery = time.Minute
)

// Kind is one kind of thing that is removed. Its name is a plural, for the log.
type Kind struct {
	Name string
	// Walk begins a walk over what is due now.
	Walk func(now clock.Time) Step
}

// Step looks at up to n rows and removes what is due of them, in transactions
// that it makes with write.
type Step func(ctx context.Context, write Write, n int) (Outcome, error)

// Outcome is what a step did.
type Outcome struct {
	Removed int  // are gone
	Kept    int  // are due and could not be removed this time
	More    bool // there may be more to look at
}

// Write is store.Store.Write, timed.
type Write func(ctx context.Context, fn func(*store.Tx) error) error

// Sweeper sweeps now and then. Its fields must be set before its use.
type Sweeper struct {
	Name  string // of the lease and in the log: "queue/expire"
	Every time.Duration
	Store *store.Store
	Clock clock.Clock
	Log   *slog.Logger
	Kinds []Kind // in the order in which they are swept
}

// Run sweeps at once and then every s.Every, until ctx ends or the store is
// closed (store.Repeat).
func (s *Sweeper) Run(ctx context.Context) error {
	return s.Store.Repeat(ctx, s.Name, s.Every, func(ctx context.Context) error {
		_, err := s.Once(ctx)
		return err
	})
}

// Totals are what a sweep did.
type Totals struct {
	Removed map[string]int // by kind
	Kept    int            // are due and could not be removed this time
	Slowest time.Duration  // transaction, with its commit
}

// Once sweeps everything that is due, whoever else does.
func (s *Sweeper) Once(ctx context.Context) (Totals, error) {
	now, told := s.Clock.Now(), time.Now()
	done := Totals{Removed: make(map[string]int, len(s.Kinds))}
	for _, kind := range s.Kinds {
		walk, n := kind.Walk(now), firstStep
		for more := true; more; {
			began := time.Now()
			var longest time.Duration
			step, err := walk(ctx, s.timed(&longest), n)
			done.Removed[kind.Name] += step.Removed
			done.Kept += step.Kept
			done.Slowest = max(done.Slowest, longest)
			if err != nil {
				s.tell("a sweep was cut short", done)
				return done, err
			}
			more, n = step.More, next(n, longest)
			if time.Since(told) >= progressEvery {
				told = time.Now()
				s.tell("sweeping", done)
			}
			if more {
				if err := pause(ctx, rests*time.Since(began)); err != nil {
					return done, err
				}
			}
		}
	}
	s.tell("swept", done)
	return done, nil
}

// next is how many rows the next step should handle.
func next(n int, took time.Duration) int {
	switch {
	case took > Budget:
		return max(n/2, leastStep)
	case took < Budget/2:
		return min(n*2, mostStep)
	}
	return n
}

// timed is a Write that notes its longest transaction: the time of fn and that of
// the commit, but not that of others who share it. The time is real, whatever the
// clock says, for it is real work that others wait for.
func (s *Sweeper) timed(longest *time.Duration) Write {
	return func(ctx context.Context, fn func(*store.Tx) error) error {
		var work, commit time.Duration
		err := s.Store.Write(ctx, func(tx *store.Tx) error {
			began := time.Now()
			err := fn(tx)
			work = time.Since(began)
			var committing time.Time
			tx.BeforeCommit(func(*store.Tx) error {
				committing = time.Now()
				return nil
			})
			tx.OnCommit(func() { commit = time.Since(committing) })
			return err
		})
		*longest = max(*longest, work+commit)
		return err
	}
}

// tell logs what was done so far, if anything.
func (s *Sweeper) tell(what string, done Totals) {
	attrs := []any{"sweep", s.Name}
	for _, kind := range s.Kinds {
		if n := done.Removed[kind.Name]; n > 0 {
			attrs = append(attrs, kind.Name, n)
		}
	}
	if done.Kept > 0 {
		attrs = append(attrs, "kept", done.Kept)
	}
	if len(attrs) > 2 {
		s.Log.Info(what, append(attrs, "slowest", done.Slowest.Round(time.Microsecond).String())...)
	}
}

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

// Rows is a Walk for rows that one statement removes: q deletes at most n rows
// that were due at a time, its arguments, in this order.
func Rows(q *store.Stmt, grace time.Duration) func(now clock.Time) Step {
	return func(now clock.Time) Step {
		return func(ctx context.Context, write Write, n int) (done Outcome, err error) {
			err = write(ctx, func(tx *store.Tx) error {
				gone, err := tx.Exec(q, now.Add(-grace), n)
				done = Outcome{Removed: int(gone), More: int(gone) == n}
				return err
			})
			return done, err
		}
	}
}
