package queue

import (
	"context"

	"taskcluster/internal/store"
)

// memoryRuns claims from the order in memory: a caller takes runs first, and
// then claims in a transaction what he took.
type memoryRuns struct {
	*memoryPending
	s      *Service
	claims *store.Batch[claimItem]
}

func newMemoryRuns(s *Service) *memoryRuns {
	return &memoryRuns{newMemoryPending(), s, store.NewBatch(s.store, "queue.claim", s.claimBatch)}
}

func (p *memoryRuns) load(tx *store.Tx) error {
	if err := p.loadLive(tx); err != nil {
		return err
	}
	rows := tx.Query(stmt.pendingAtStart)
	defer rows.Close()
	var batch []pendingChange
	for rows.Next() {
		var c pendingChange
		var prio int64
		var key string
		var limit int
		if err := rows.Scan(&c.row, &c.queue, &prio, &c.scheduled, &key, &limit); err != nil {
			return err
		}
		c.limit = concurrencyOf(key, limit)
		c.priority = priority(prio)
		if batch = append(batch, c); len(batch) == 4096 {
			p.apply(batch)
			batch = batch[:0]
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	p.apply(batch)
	return nil
}

// loadLive counts the running tasks that have a concurrency key.
func (p *memoryRuns) loadLive(tx *store.Tx) error {
	rows := tx.Query(stmt.liveAtStart)
	defer rows.Close()
	for rows.Next() {
		c := pendingChange{running: true}
		var key string
		var limit int
		if err := rows.Scan(&c.row, &key, &limit); err != nil {
			return err
		}
		c.limit = concurrencyOf(key, limit)
		p.apply([]pendingChange{c})
	}
	return rows.Err()
}

// follow has memory hold what was committed.
func (p *memoryRuns) follow(tx *store.Tx, c *collected) {
	tx.OnCommit(func() { p.apply(c.changes) })
}

func (p *memoryRuns) enter(queue string, n int) claimant {
	return &memoryClaimant{runs: p, queue: queue, n: n}
}

type memoryClaimant struct {
	runs  *memoryRuns
	queue string
	n     int
	wait  *waiter // in line, or with runs that were handed to it
}

func (c *memoryClaimant) claim(ctx context.Context, w workerName, audit func(*store.Tx)) ([]claim, error) {
	for {
		var runs []pendingRun
		if c.wait != nil {
			runs = c.runs.memoryPending.leave(c.wait)
			c.wait = nil
		}
		if len(runs) == 0 {
			if runs, c.wait = c.runs.take(c.queue, c.n); c.wait != nil {
				return nil, nil
			}
		}
		claims, err := c.runs.claimTaken(ctx, c.queue, w, runs, audit)
		if err != nil || len(claims) > 0 {
			return claims, err
		}
	}
}

func (c *memoryClaimant) woken() <-chan struct{} { return c.wait.ready }

func (c *memoryClaimant) leave() {
	if c.wait != nil {
		c.runs.putBack(c.queue, c.runs.memoryPending.leave(c.wait))
		c.wait = nil
	}
}

// claimTaken claims runs that were taken. Those that turn out not to be pending
// any more are left out; if claiming fails all are put back.
func (p *memoryRuns) claimTaken(ctx context.Context, queue string, w workerName, runs []pendingRun, audit func(*store.Tx)) ([]claim, error) {
	s := p.s
	item := &claimItem{ctx: ctx, queue: queue, worker: w, runs: runs, audit: audit}
	// Not ctx: we must learn what became of the runs.
	err := p.claims.Do(context.WithoutCancel(ctx), item)
	if err == nil && item.gone {
		err = context.Cause(ctx)
	}
	if err != nil {
		p.putBack(queue, runs)
		return nil, err
	}
	if len(item.claims) < len(runs) {
		p.release(runs)
	}
	if len(item.claims) > 0 {
		s.history.add(queue, len(item.claims), s.clock.Now())
	}
	return item.claims, nil
}

func (p *memoryRuns) claimOne(ctx context.Context, t *task, fn func(tx *store.Tx, a admission) (refusal, err error)) error {
	a := admitted
	var runs []pendingRun
	if t.concurrency != nil {
		a = elsewhere
		if t.state() == pending {
			r, there, room := p.takeRun(t.row)
			switch {
			case !room:
				a = full
			case there:
				a, runs = admitted, []pendingRun{r}
			}
		}
	}
	var refusal error
	err := p.s.store.Write(ctx, func(tx *store.Tx) (err error) {
		refusal, err = fn(tx, a)
		return err
	})
	if err == nil {
		err = refusal
	}
	if err != nil && runs != nil {
		p.putBack(t.queue, runs)
	}
	return err
}

func (p *memoryRuns) ahead(_ *store.Tx, queue string, r pendingRun, most int) (n int, exact bool, err error) {
	n, exact = p.memoryPending.ahead(queue, r, most)
	return n, exact, nil
}

func (p *memoryRuns) live(_ *store.Tx, key string) (int, error) {
	return p.memoryPending.live(key), nil
}

func (p *memoryRuns) forget(*store.Tx, string) error { return nil }
