package queue

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"taskcluster/internal/store"
)

// databaseRuns keeps the order in tables, for any number of processes that share
// a database. As one of them writes at a time, a claim selects the best runs in
// its own transaction, and nothing of the order is in memory but who waits.
//
// A commit that makes runs pending signals how many, by task queue, and every
// node wakes as many of its callers; those that are too late wait on. What a
// signal fails to tell, a look every few seconds finds (see followLoop).
type databaseRuns struct {
	s      *Service
	claims *store.Batch[claimItem]
	line   *line
	taken  map[string]int // claims by task queue since the head moved; used by the writer only
}

const (
	// advanceEvery is after how many claims from a task queue the place moves
	// where claims begin.
	advanceEvery = 256
	// takenQueues bounds for how many task queues claims are counted.
	takenQueues = 10_000

	pendingTopic = "queue/pending" // "N QUEUE": so many more runs can be claimed
	claimsTopic  = "queue/claims"  // "N QUEUE": so many were claimed by the sender
)

func newDatabaseRuns(s *Service) *databaseRuns {
	p := &databaseRuns{s: s, line: newLine(), taken: map[string]int{}}
	p.claims = store.NewBatch(s.store, "queue.claim", p.claimBest)
	s.store.Watch(pendingTopic, func(signal store.Signal) {
		if signal.Lost {
			s.follower.reread()
		} else if queue, n, ok := parseCount(signal.Detail); ok {
			p.line.wake(queue, n)
		}
	})
	return p
}

// countDetail is the detail of a signal about n runs of a task queue.
func countDetail(queue string, n int) string { return strconv.Itoa(n) + " " + queue }

func parseCount(detail string) (queue string, n int, ok bool) {
	count, queue, ok := strings.Cut(detail, " ")
	n, err := strconv.Atoi(count)
	return queue, n, ok && err == nil
}

// load has nothing to do: the migration filled the tables.
func (p *databaseRuns) load(*store.Tx) error { return nil }

// follow writes what changed with the transaction, and wakes callers after it.
func (p *databaseRuns) follow(tx *store.Tx, c *collected) {
	c.woken = map[string]int{}
	tx.BeforeCommit(func(tx *store.Tx) error {
		if err := p.flush(tx, c); err != nil {
			return err
		}
		for queue, n := range c.woken {
			tx.Signal(pendingTopic, countDetail(queue, n))
		}
		for _, queue := range c.advance {
			if err := tx.Send(tableStmt.advance, queue); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *databaseRuns) enter(queue string, n int) claimant {
	return &databaseClaimant{p, p.line.enter(queue, n)}
}

type databaseClaimant struct {
	runs *databaseRuns
	*standing
}

func (c *databaseClaimant) claim(ctx context.Context, w workerName, audit func(*store.Tx)) ([]claim, error) {
	s := c.runs.s
	due := c.runs.line.look(c.standing)
	item := &claimItem{ctx: ctx, queue: c.queue, worker: w, n: c.n, audit: audit}
	err := c.runs.claims.Do(ctx, item)
	if err == nil && item.gone {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.runs.line.wake(c.queue, due) // this one may be first again, if he stays
		return nil, err
	}
	if n := len(item.claims); n > 0 {
		s.history.add(c.queue, n, s.clock.Now())
		s.follower.claimed(c.queue, n)
	} else {
		c.runs.line.stay(c.standing)
	}
	return item.claims, nil
}

func (c *databaseClaimant) woken() <-chan struct{} { return c.token }

func (c *databaseClaimant) leave() { c.runs.line.leave(c.standing) }

// claimBest claims the best runs of each task queue for all who ask for them at
// a time, and hands them out in the order in which they came.
func (p *databaseRuns) claimBest(tx *store.Tx, items []*claimItem) error {
	o := p.s.begin(tx)
	if err := p.flush(tx, o.c); err != nil { // what this transaction changed so far
		return err
	}
	var queues []string
	asking := map[string][]*claimItem{}
	for _, item := range items {
		item.claims, item.gone = nil, item.ctx.Err() != nil
		if item.gone {
			continue
		}
		if asking[item.queue] == nil {
			queues = append(queues, item.queue)
		}
		asking[item.queue] = append(asking[item.queue], item)
	}
	o.claimed = tx.Many(setStmt.claimRuns)
	for _, queue := range queues {
		if err := p.claimQueue(o, queue, asking[queue]); err != nil {
			return err
		}
	}
	if err := o.claimed.Send(); err != nil {
		return err
	}
	record := tx.Many(setStmt.recordClaims)
	recorded := map[workerKey]bool{}
	for _, item := range items {
		if len(item.claims) == 0 {
			continue
		}
		k := workerKey{item.queue, item.worker}
		if recorded[k] { // one statement changes a row once
			if err := o.recordClaims(item.queue, item.worker, item.claims); err != nil {
				return err
			}
		} else {
			recorded[k] = true
			record.Add(recentText(item.claims), item.queue, item.worker.group, item.worker.id)
		}
		item.audit(tx)
	}
	if err := record.Send(); err != nil {
		return err
	}
	return o.finish()
}

// candidate is a run that may be claimed when it is its turn. Those that were
// read with the order have their task.
type candidate struct {
	pendingRun
	task *task
	def  stored
}

// claimQueue claims the best runs of one task queue. One round does, unless there
// are runs with concurrency keys: each that is claimed may admit or block others.
func (p *databaseRuns) claimQueue(o *op, queue string, items []*claimItem) error {
	want, until := 0, o.takenUntil()
	for _, item := range items {
		want += item.n
	}
	for again := true; again && want > 0; {
		again = false
		list, err := p.candidates(o, queue, want)
		if err != nil {
			return err
		}
		live := map[string]int{}
		for i := range list {
			r := &list[i]
			if want == 0 {
				break
			}
			if r.limit != nil {
				again = true
				n, ok := live[r.limit.key]
				if !ok {
					if n, err = liveRuns(o.tx, r.limit.key); err != nil {
						return err
					}
				}
				live[r.limit.key] = n
				if n >= r.limit.limit {
					continue
				}
				live[r.limit.key]++
			}
			if r.task == nil {
				r.task = new(task)
				if err := scanTask(o.tx.Row(stmt.claimable, r.row), r.task, &r.def.at, &r.def.text); err != nil {
					return fmt.Errorf("the order of pending runs has a task that there is not: %w", err)
				}
			}
			if err := r.task.loadPast(o.tx); err != nil {
				return err
			}
			item := items[0]
			if err := o.claim(r.task, item.worker, until); err != nil {
				return err
			}
			r.def.priority = r.task.priority
			item.claims = append(item.claims, claim{r.task, r.def})
			if want--; len(item.claims) == item.n {
				items = items[1:]
			}
			p.count(o, queue)
		}
		if again { // what the next round begins with
			if err := p.flush(o.tx, o.c); err != nil {
				return err
			}
		}
	}
	return nil
}

// count notes a claim, and every now and then has the place moved where claims
// begin.
func (p *databaseRuns) count(o *op, queue string) {
	if len(p.taken) > takenQueues {
		clear(p.taken)
	}
	if p.taken[queue]++; p.taken[queue] == advanceEvery {
		delete(p.taken, queue)
		o.c.advance = append(o.c.advance, queue)
	}
}

// candidates are the best runs of a task queue, in order: up to n that stand in
// the order, and those that could follow them once they are claimed, which are
// the next ones of their classes.
func (p *databaseRuns) candidates(o *op, queue string, n int) (list []candidate, err error) {
	rows := o.tx.Query(setStmt.best, o.now, n, queue, n)
	classes := map[class]*concurrency{}
	for rows.Next() {
		r := candidate{task: new(task)}
		if err := scanTask(rows, r.task, &r.def.at, &r.def.text); err != nil {
			return nil, err
		}
		r.pendingRun = r.task.pendingChange().pendingRun
		list = append(list, r)
		if r.limit != nil {
			classes[class{r.limit.key, r.limit.limit, queue}] = r.limit
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil || len(classes) == 0 {
		return list, err
	}
	last := list[len(list)-1]
	cut := len(list) == n // what stands behind the last one is not known
	for cl, limit := range classes {
		rows := o.tx.Query(tableStmt.inClass, cl.key, cl.limit, queue, o.now, n)
		for rows.Next() {
			r := pendingRun{limit: limit}
			var rank int64
			if err := rows.Scan(&r.row, &rank, &r.scheduled); err != nil {
				return nil, err
			}
			if r.priority = priority(-rank); !cut || r.before(&last.pendingRun) {
				list = append(list, candidate{pendingRun: r})
			}
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		switch {
		case a.row == b.row:
			return 0
		case a.before(&b.pendingRun):
			return -1
		}
		return 1
	})
	return slices.CompactFunc(list, func(a, b candidate) bool { return a.row == b.row }), nil
}

func (p *databaseRuns) claimOne(ctx context.Context, t *task, fn func(tx *store.Tx, a admission) (refusal, err error)) error {
	var refusal error
	err := p.s.store.Write(ctx, func(tx *store.Tx) (err error) {
		a := admitted
		if t.concurrency != nil {
			if err := p.flush(tx, p.s.begin(tx).c); err != nil {
				return err
			}
			live, err := liveRuns(tx, t.concurrency.key)
			if err != nil {
				return err
			}
			if live >= t.concurrency.limit {
				a = full
			}
		}
		refusal, err = fn(tx, a)
		return err
	})
	if err == nil {
		err = refusal
	}
	return err
}

func (p *databaseRuns) ahead(tx *store.Tx, queue string, r pendingRun, most int) (n int, exact bool, err error) {
	err = tx.Row(tableStmt.ahead, queue, r.priority.rank(), r.scheduled, r.row, most).Scan(&n)
	return n, n < most, err
}

func (p *databaseRuns) live(tx *store.Tx, key string) (int, error) { return liveRuns(tx, key) }

func (p *databaseRuns) forget(tx *store.Tx, queue string) error {
	_, err := tx.Exec(tableStmt.forgetHeads, queue)
	return err
}
