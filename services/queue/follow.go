package queue

import (
	"context"
	"sync"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

const (
	// followEvery is how often a node looks at what no signal told it: timers that
	// others set, work that others left over, runs that somebody here waits for.
	followEvery = 4 * time.Second
	// followLeast is the least time between two looks.
	followLeast = 250 * time.Millisecond
)

// follower has a node keep up with the others that share the database.
type follower struct {
	s     *Service
	again chan struct{} // holds one token when signals may have been missed

	mu     sync.Mutex
	claims map[string]int // made here, which the others do not know of yet
}

func newFollower(s *Service) *follower {
	f := &follower{s: s, again: make(chan struct{}, 1), claims: map[string]int{}}
	s.store.Watch(claimsTopic, func(signal store.Signal) {
		if queue, n, ok := parseCount(signal.Detail); ok && signal.Elsewhere {
			s.history.add(queue, n, s.clock.Now())
		}
	})
	return f
}

// reread has the follower look at once, and read anew what is in memory.
func (f *follower) reread() {
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// claimed notes claims, of which the others hear with the next look.
func (f *follower) claimed(queue string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.claims[queue] += n
}

// run looks every followEvery until ctx ends.
func (f *follower) run(ctx context.Context) error {
	c := f.s.clock
	for {
		missed := false
		due, cancel := c.After(c.Now().Add(followEvery))
		select {
		case <-ctx.Done():
		case <-f.again:
			missed = true
		case <-due:
		}
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		err := f.s.store.Iterate(ctx, "queue/follow", func(ctx context.Context) error {
			if err := f.look(ctx, missed); err != nil {
				return err
			}
			return f.tell(ctx)
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			f.s.logger.Error("background work of the queue failed and is tried again", "loop", "follow", "error", err)
			if missed {
				f.reread()
			}
		}
		least, cancel := c.After(c.Now().Add(followLeast))
		select {
		case <-ctx.Done():
		case <-least:
		}
		cancel()
	}
}

// look reads what there is to do: one statement, one more when somebody waits
// here, and one more when signals were missed.
func (f *follower) look(ctx context.Context, missed bool) error {
	p := f.s.pending.(*databaseRuns)
	var due clock.Time
	var left bool
	found := map[string]int{}
	queues := p.line.waiting()
	read := f.s.store.Read
	if !missed && len(queues) == 0 {
		read = f.s.store.ReadOne
	}
	err := read(ctx, func(tx *store.Tx) error {
		if err := tx.Row(tableStmt.attention).Scan(&due, &left); err != nil {
			return err
		}
		if missed {
			if err := f.s.workers.load(tx, f.s.clock.Now()); err != nil {
				return err
			}
		}
		if len(queues) == 0 {
			return nil
		}
		waiting := tx.Many(tableStmt.waiting)
		for queue := range queues {
			waiting.Add(f.s.clock.Now(), queue)
		}
		rows := waiting.Query()
		defer rows.Close()
		for rows.Next() {
			var queue string
			var n int
			if err := rows.Scan(&queue, &n); err != nil {
				return err
			}
			found[queue] = n
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	if due != 0 {
		f.s.timers.before(due)
	}
	if left {
		f.s.releases.now()
	}
	for queue, n := range found {
		p.line.wake(queue, n)
	}
	return nil
}

// tell has the other nodes know how many runs were claimed here.
func (f *follower) tell(ctx context.Context) error {
	f.mu.Lock()
	claims := f.claims
	f.claims = map[string]int{}
	f.mu.Unlock()
	if len(claims) == 0 {
		return nil
	}
	return f.s.store.Write(ctx, func(tx *store.Tx) error {
		for queue, n := range claims {
			tx.Signal(claimsTopic, countDetail(queue, n))
		}
		return nil
	})
}
