package queue

import (
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// op is the transitions that one function makes within a transaction: they
// write the task, publish its events, and collect what is written once for all
// of them (counters, groups) or told to memory after the commit.
type op struct {
	s   *Service
	tx  *store.Tx
	now clock.Time
	c   *collected

	groups  []groupCount // of tasks that were resolved
	claimed *store.Many  // claims to be written together; nil: each is written at once
	ended   *store.Many  // resolutions to be written together; nil: each is written at once
}

type groupCount struct {
	row   int64
	id    slugid.ID
	first int // how many were resolved for the first time
}

// collected lives as long as the transaction.
type collected struct {
	counts  []queueCount
	changes []pendingChange
	due     clock.Time  // the earliest timer that was set
	release bool        // there is work for the loop that releases dependents
	touched []slugid.ID // tasks whose status changes

	resolved []resolutionKey // for the metrics

	// What only the database wants to know, by task queue.
	woken   map[string]int // runs that can be claimed now, and could not before
	advance []string       // where the place shall move at which claims begin
}

type queueCount struct {
	queue            string
	pending, running int
}

type collectedKey struct{ s *Service }

// begin starts transitions in a transaction. finish must be called at the end.
func (s *Service) begin(tx *store.Tx) *op {
	c := tx.Local(collectedKey{s}, func() any {
		c := new(collected)
		if s.sets {
			tx.BeforeCommit(c.writeCountsSet)
		} else {
			tx.BeforeCommit(c.writeCounts)
		}
		tx.BeforeCommit(func(*store.Tx) error {
			s.shown.hold(c.touched)
			return nil
		})
		tx.OnCommit(s.shown.release)
		s.pending.follow(tx, c)
		tx.OnCommit(func() {
			s.resolutions.add(c.resolved)
			if c.due != 0 {
				s.timers.before(c.due)
			}
			if c.release {
				s.releases.now()
			}
		})
		return c
	}).(*collected)
	return &op{s: s, tx: tx, now: tx.Now(), c: c}
}

// write runs a statement that changes the status of a task.
func (o *op) write(id slugid.ID, q transition, args ...any) error {
	o.touch(id)
	_, err := o.tx.Exec(q.Stmt, args...)
	return err
}

// touch notes that the status of a task changes with this transaction. Whoever
// collects changes in a store.Many calls it himself.
func (o *op) touch(id slugid.ID) { o.c.touched = append(o.c.touched, id) }

// save writes everything of a task that transitions change.
func (o *op) save(t *task) error {
	r := &t.last
	return o.write(t.id, stmt.saveTask, int64(r.state), t.retriesLeft, t.everResolved, nullable(t.due()), r.id,
		int64(r.reasonCreated), int64(r.reasonResolved), r.scheduled, r.started, r.workerGroup, r.workerID,
		r.takenUntil, r.resolved, t.row)
}

// writeCounts adds the differences to the task queues' counters.
func (c *collected) writeCounts(tx *store.Tx) error {
	for i := range c.counts {
		if n := &c.counts[i]; n.pending != 0 || n.running != 0 {
			if _, err := tx.Exec(stmt.count, n.queue, n.pending, n.running); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collected) writeCountsSet(tx *store.Tx) error {
	many := tx.Many(setStmt.count)
	for i := range c.counts {
		if n := &c.counts[i]; n.pending != 0 || n.running != 0 {
			many.Add(n.queue, n.pending, n.running)
		}
	}
	return many.Send()
}

// moved notes that a task went from one state to another: counters, the order
// of pending runs, timers.
func (o *op) moved(t *task, from state) {
	to := t.state()
	if from == pending || from == running || to == pending || to == running {
		n := o.count(t.queue)
		switch from {
		case pending:
			n.pending--
		case running:
			n.running--
		}
		switch to {
		case pending:
			n.pending++
		case running:
			n.running++
		}
	}
	if to == pending {
		c := t.pendingChange()
		c.fresh, c.ended = from != pending, from == running
		o.c.changes = append(o.c.changes, c)
	} else if from == pending || from == running && t.concurrency != nil {
		o.c.changes = append(o.c.changes, pendingChange{pendingRun: pendingRun{row: t.row, limit: t.concurrency},
			running: to == running, of: t.queue, ended: from == running})
	}
	o.timer(t)
}

// pendingChange says that the task is pending as it is now.
func (t *task) pendingChange() pendingChange {
	return pendingChange{pendingRun: pendingRun{row: t.row, scheduled: t.last.scheduled, priority: t.priority, limit: t.concurrency},
		queue: t.queue, of: t.queue, deadline: t.deadline}
}

// timer notes when the task is due.
func (o *op) timer(t *task) {
	if due := t.due(); due != 0 && (o.c.due == 0 || due < o.c.due) {
		o.c.due = due
	}
}

func (o *op) count(queue string) *queueCount {
	for i := range o.c.counts {
		if o.c.counts[i].queue == queue {
			return &o.c.counts[i]
		}
	}
	o.c.counts = append(o.c.counts, queueCount{queue: queue})
	return &o.c.counts[len(o.c.counts)-1]
}

// appendRun gives the task a new pending run after the last one, in memory.
func (o *op) appendRun(t *task, why reason) error {
	if t.last.id >= 0 {
		if err := t.savePast(o.tx, &t.last); err != nil {
			return err
		}
		t.past = append(t.past, t.last)
	}
	t.last = run{id: t.last.id + 1, state: pending, reasonCreated: why, scheduled: o.now}
	return nil
}

// makePending gives the task a new pending run and publishes it.
func (o *op) makePending(t *task, why reason) error {
	from := t.state()
	if err := o.appendRun(t, why); err != nil {
		return err
	}
	if err := o.save(t); err != nil {
		return err
	}
	o.moved(t, from)
	o.publishPending(t)
	return nil
}

// resolve ends the last run, which is unresolved, as st for the reason why. If
// the reason asks for a retry and one is left, the next run becomes pending;
// otherwise the task is resolved, and its group and dependents hear of it.
func (o *op) resolve(t *task, st state, why reason) (*run, error) {
	from := t.state()
	t.last.state, t.last.reasonResolved, t.last.resolved = st, why, o.now
	ended := t.last
	o.c.resolved = append(o.c.resolved, resolutionKey{t.queue, st, why})
	if retry := why.retryAs(); retry != noReason && t.retriesLeft > 0 {
		t.retriesLeft--
		if err := o.appendRun(t, retry); err != nil {
			return nil, err
		}
		if err := o.save(t); err != nil {
			return nil, err
		}
		o.moved(t, from)
		o.publishResolved(t, &ended)
		o.publishPending(t)
		return t.run(ended.id), nil
	}
	if o.ended != nil {
		o.touch(t.id)
		o.ended.Add(int64(st), int64(why), o.now, t.row)
	} else if err := o.write(t.id, stmt.resolveRun, int64(st), int64(why), o.now, t.row); err != nil {
		return nil, err
	}
	o.moved(t, from)
	o.publishResolved(t, &ended)
	first := !t.everResolved
	t.everResolved = true
	return &t.last, o.resolved(t, first)
}

// resolved does what follows the resolution of a task, or a repetition of it:
// the group counts it if it is the first, dependents are released.
func (o *op) resolved(t *task, first bool) error {
	i := 0
	for i < len(o.groups) && o.groups[i].row != t.groupRow {
		i++
	}
	if i == len(o.groups) {
		o.groups = append(o.groups, groupCount{row: t.groupRow, id: t.group})
	}
	if first {
		o.groups[i].first++
	}
	if !t.hasDependents {
		return nil
	}
	return o.releaseDependents(t)
}

// finish writes the groups' counters and publishes the groups that have no
// unresolved task left.
func (o *op) finish() error {
	if o.s.sets {
		return o.finishSet()
	}
	for i := range o.groups {
		g := group{id: o.groups[i].id}
		var unresolved int
		err := o.tx.Row(stmt.resolveGroup, o.groups[i].first, o.groups[i].row).Scan(&g.scheduler, &g.expires, &g.sealed, &unresolved)
		if err == store.ErrNoRows {
			continue // its time is over
		}
		if err != nil {
			return err
		}
		if unresolved == 0 {
			o.publishGroup("task-group-resolved", &g)
		}
	}
	o.groups = o.groups[:0]
	return nil
}
