package queue

import (
	"fmt"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// What many callers want at a time costs PostgreSQL one statement of each kind
// for all of them: a statement costs it more than a row. SQLite has no such
// price, and its statements stand beside these (see store.go). Which ones are used
// is decided once, in New.

// setStmt has the statements over many rows at once.
var setStmt = struct {
	ensureGroups, resolveGroups, count       *store.Stmt
	known, insertTasks, insertDefinitions    *store.Stmt
	insertDependencies, markRequired         *store.Stmt
	claimRuns, reclaimRuns, resolveRuns      *store.Stmt
	recordClaims, tasks, claimableByID, best *store.Stmt
}{
	ensureGroups: store.Each("", `INSERT INTO task_groups (group_id, scheduler_id, expires, sealed, total, unresolved)
		SELECT id, scheduler, expires, 0, tasks, tasks
		FROM unnest(CAST(? AS BYTEA[]), CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS u (id, scheduler, expires, tasks)
		ON CONFLICT (group_id) DO UPDATE SET
			scheduler_id = excluded.scheduler_id,
			sealed = 0,
			expires = GREATEST(excluded.expires, task_groups.expires),
			total = task_groups.total + excluded.total,
			unresolved = task_groups.unresolved + excluded.unresolved
		WHERE task_groups.scheduler_id = excluded.scheduler_id AND task_groups.sealed = 0 OR task_groups.expires < CAST(? AS BIGINT)
		RETURNING id, group_id`),
	resolveGroups: store.Each("", `UPDATE task_groups g SET unresolved = g.unresolved - u.n
		FROM unnest(CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS u (id, n) WHERE g.id = u.id
		RETURNING g.id, g.scheduler_id, g.expires, g.sealed, g.unresolved`),
	count: store.Each("", `INSERT INTO queue_counts (task_queue_id, pending, running)
		SELECT * FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS u
		ON CONFLICT (task_queue_id) DO UPDATE SET pending = queue_counts.pending + excluded.pending,
			running = queue_counts.running + excluded.running`),

	known: store.Each("", `SELECT id, task_id, state, expires, has_dependents FROM tasks WHERE task_id = ANY(CAST(? AS BYTEA[]))`),
	// Rows get their numbers in order, which is the tasks' age.
	insertTasks: store.Each("", `INSERT INTO tasks (task_id, group_row, task_queue_id, state, priority, retries_left,
			unsatisfied, has_dependents, deadline, expires, due, run_id, reason_created, scheduled,
			concurrency_key, concurrency_limit)
		SELECT task_id, group_row, queue, state, priority, retries, unsatisfied, has_dependents, deadline, expires, due,
			run_id, reason, scheduled, key, lim
		FROM unnest(CAST(? AS BYTEA[]), CAST(? AS BIGINT[]), CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]),
			CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]),
			CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS TEXT[]), CAST(? AS BIGINT[]))
			WITH ORDINALITY AS u (task_id, group_row, queue, state, priority, retries, unsatisfied, has_dependents,
			deadline, expires, due, run_id, reason, scheduled, key, lim, n)
		ORDER BY n ON CONFLICT (task_id) DO NOTHING RETURNING id, task_id`),
	insertDefinitions: store.Each("", `INSERT INTO task_definitions
			(id, group_id, scheduler_id, project_id, retries, priority_at, tags, routes, definition)
		SELECT * FROM unnest(CAST(? AS BIGINT[]), CAST(? AS BYTEA[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS BIGINT[]),
			CAST(? AS BIGINT[]), CAST(? AS BYTEA[]), CAST(? AS BYTEA[]), CAST(? AS BYTEA[])) AS u`),
	insertDependencies: store.Each("", `INSERT INTO task_dependencies (required, dependent, requires, satisfied, expires)
		SELECT * FROM unnest(CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS u`),
	markRequired: store.Each("", `UPDATE tasks SET has_dependents = 1 WHERE id = ANY(CAST(? AS BIGINT[]))`),

	claimRuns: store.Each("", `UPDATE tasks t SET state = 2, started = u.started, worker_group = u.worker_group, worker_id = u.worker_id,
			taken_until = u.taken_until, due = u.due
		FROM unnest(CAST(? AS BIGINT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]))
			AS u (started, worker_group, worker_id, taken_until, due, id) WHERE t.id = u.id`),
	reclaimRuns: store.Each("", `UPDATE tasks t SET taken_until = u.taken_until, due = u.due
		FROM unnest(CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS u (taken_until, due, id) WHERE t.id = u.id`),
	resolveRuns: store.Each("", `UPDATE tasks t SET state = u.state, reason_resolved = u.reason, resolved = u.resolved, ever_resolved = 1, due = NULL
		FROM unnest(CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS u (state, reason, resolved, id)
		WHERE t.id = u.id`),
	recordClaims: store.Each("", `UPDATE queue_workers w SET recent_tasks = right(w.recent_tasks || u.tasks, 480)
		FROM unnest(CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[])) AS u (tasks, queue, worker_group, worker_id)
		WHERE w.task_queue_id = u.queue AND w.worker_group = u.worker_group AND w.worker_id = u.worker_id`),
	tasks:         store.Each("", `SELECT `+taskColumns+taskTables+`WHERE t.task_id = ANY(CAST(? AS BYTEA[]))`),
	claimableByID: store.Each("", `SELECT `+taskColumns+`, d.priority_at, d.definition`+taskTables+`WHERE t.task_id = ANY(CAST(? AS BYTEA[]))`),
	best: store.OnlyPostgres(`SELECT ` + taskColumns + `, d.priority_at, d.definition
		FROM pending_heads h CROSS JOIN LATERAL (
			SELECT r.task, r.scheduled FROM pending_runs r WHERE r.blocked = 0
			AND r.task_queue_id = h.task_queue_id AND r.rank = h.rank AND (r.scheduled, r.task) >= (h.scheduled, h.task)
			AND r.deadline > ? ORDER BY r.scheduled, r.task LIMIT ?) AS p
		JOIN tasks t ON t.id = p.task JOIN task_definitions d ON d.id = t.id
		WHERE h.task_queue_id = ? ORDER BY h.rank, p.scheduled, p.task LIMIT ?`),
}

// ensureGroups makes groups or counts tasks in, as ensureGroup does for one.
func (o *op) ensureGroups(list []groupDemand) error {
	if !o.s.sets {
		for i := range list {
			if err := o.ensureGroup(&list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	many := o.tx.Many(setStmt.ensureGroups)
	byID := make(map[slugid.ID]*groupDemand, len(list))
	var others []*groupDemand // that want a group as another scheduler's
	for i := range list {
		g := &list[i]
		if byID[g.id] != nil {
			others = append(others, g)
			continue
		}
		byID[g.id] = g
		many.Add(g.id, g.scheduler, g.expires, g.tasks, o.now)
	}
	rows := many.Query()
	for rows.Next() {
		var row int64
		var id slugid.ID
		if err := rows.Scan(&row, &id); err != nil {
			return err
		}
		byID[id].row = row
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	for _, g := range byID {
		if g.row == 0 {
			if err := o.refuseGroup(g); err != nil {
				return err
			}
		}
	}
	for _, g := range others {
		if err := o.ensureGroup(g); err != nil {
			return err
		}
	}
	return nil
}

// loaded are tasks that were read together. Whoever changes one changes it here.
type loaded map[slugid.ID]*task

func (l loaded) get(_ *store.Tx, id slugid.ID) (*task, error) {
	if t := l[id]; t != nil {
		return t, nil
	}
	return nil, store.ErrNoRows
}

// finishSet is finish with one statement for all groups.
func (o *op) finishSet() error {
	if o.ended != nil {
		if err := o.ended.Send(); err != nil {
			return err
		}
	}
	if len(o.groups) == 0 {
		return nil
	}
	many := o.tx.Many(setStmt.resolveGroups)
	for i := range o.groups {
		many.Add(o.groups[i].row, o.groups[i].first)
	}
	over := map[int64]*group{} // those without an unresolved task
	rows := many.Query()
	for rows.Next() {
		g := new(group)
		var unresolved int
		if err := rows.Scan(&g.row, &g.scheduler, &g.expires, &g.sealed, &unresolved); err != nil {
			return err
		}
		if unresolved == 0 {
			over[g.row] = g
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	for i := range o.groups {
		if g := over[o.groups[i].row]; g != nil {
			g.id = o.groups[i].id
			o.publishGroup("task-group-resolved", g)
		}
	}
	o.groups = o.groups[:0]
	return nil
}

// loadTasks reads tasks by their ids, with their definitions where defs is given.
func loadTasks(tx *store.Tx, many *store.Many, defs map[slugid.ID]stored) (loaded, error) {
	found := make(loaded, many.Len())
	rows := many.Query()
	defer rows.Close()
	for rows.Next() {
		t, def := new(task), stored{}
		extra := []any{&def.at, &def.text}
		if defs == nil {
			extra = nil
		}
		if err := scanTask(rows, t, extra...); err != nil {
			return nil, err
		}
		found[t.id] = t
		if defs != nil {
			defs[t.id] = def
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, t := range found {
		if err := t.loadPast(tx); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// createSet creates tasks of a batch with few statements, whatever their number.
// Those that it leaves out are there already, or to be refused.
func (o *op) createSet(calls []*creations, demands []groupDemand) (*creationSet, error) {
	w := &creationSet{o: o, demands: demands, byID: map[slugid.ID]*creation{}}
	for _, call := range calls {
		for _, item := range call.items {
			// The same task a second time is there when its turn comes.
			if item.broken == nil && demands[item.demand].refusal == nil && w.byID[item.def.id] == nil {
				w.byID[item.def.id] = item
				w.items = append(w.items, item)
			}
		}
	}
	if err := w.look(); err != nil {
		return nil, err
	}
	for _, item := range w.items {
		w.draft(item)
	}
	return w, w.insert()
}

// creationSet is the tasks that a batch creates together.
type creationSet struct {
	o       *op
	demands []groupDemand
	items   []*creation
	byID    map[slugid.ID]*creation
	known   map[slugid.ID]*knownTask // what was there before; nil if nothing has dependencies
	drafts  map[*creation]*draft
	order   []*draft
}

type knownTask struct {
	row     int64
	state   state
	expires clock.Time
	marked  bool // it knows that it has dependents
}

// draft is a task that will be inserted.
type draft struct {
	item *creation
	t    *task
	deps []draftDependency
}

type draftDependency struct {
	known     *knownTask
	other     *draft // of this batch; nil when it is known, or the task itself
	satisfied bool
}

// look reads what is there of the tasks and of those that they depend on.
func (w *creationSet) look() error {
	ids := w.o.tx.Many(setStmt.known)
	asked := map[slugid.ID]bool{}
	ask := func(id slugid.ID) {
		if !asked[id] {
			asked[id] = true
			ids.Add(id)
		}
	}
	w.drafts = make(map[*creation]*draft, len(w.items))
	for _, item := range w.items {
		for _, id := range item.def.dependencies {
			ask(id)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	for _, item := range w.items {
		ask(item.def.id)
	}
	w.known = map[slugid.ID]*knownTask{}
	rows := ids.Query()
	defer rows.Close()
	for rows.Next() {
		k := new(knownTask)
		var id slugid.ID
		var st int64
		if err := rows.Scan(&k.row, &id, &st, &k.expires, &k.marked); err != nil {
			return err
		}
		k.state = state(st)
		w.known[id] = k
	}
	return rows.Err()
}

// draft prepares a task for insertion, if all is well with it and what it
// depends on. What is not prepared, create looks after, with its reasons.
func (w *creationSet) draft(item *creation) {
	d := item.def
	if w.known[d.id] != nil {
		return
	}
	t := &task{
		id: d.id, group: d.group, groupRow: w.demands[item.demand].row, queue: d.queue, scheduler: d.scheduler, project: d.project,
		priority: d.priority, retries: d.retries, retriesLeft: d.retries,
		deadline: d.deadline, expires: d.expires, tags: d.tags, routes: d.rawRoutes,
		hasDependents: item.required, concurrency: d.concurrency, last: run{id: -1},
	}
	made := &draft{item: item, t: t}
	for i, id := range d.dependencies {
		if id == d.id { // legal: it waits for scheduleTask
			t.unsatisfied++
			t.hasDependents = true
			made.deps = append(made.deps, draftDependency{})
			continue
		}
		var dep draftDependency
		var st state
		var expires clock.Time
		if dep.known = w.known[id]; dep.known != nil {
			st, expires = dep.known.state, dep.known.expires
		} else {
			other := w.byID[id]
			if item.within != nil && item.within[i] != nil {
				other = item.within[i]
			}
			if dep.other = w.drafts[other]; dep.other == nil {
				return
			}
			st, expires = dep.other.t.state(), dep.other.t.expires
		}
		if expires < d.deadline {
			return
		}
		if dep.satisfied = st == completed || d.allResolved && st.resolved(); !dep.satisfied {
			t.unsatisfied++
		}
		made.deps = append(made.deps, dep)
	}
	if t.unsatisfied == 0 {
		t.last = run{id: 0, state: pending, reasonCreated: reasonScheduled, scheduled: w.o.now}
	}
	w.drafts[item] = made
	w.order = append(w.order, made)
}

// insert writes the drafts. One that turns out to be there already is dropped.
func (w *creationSet) insert() error {
	tx := w.o.tx
	required := tx.Many(setStmt.markRequired) // of those that were there
	for _, m := range w.order {
		for i := range m.deps {
			switch dep := &m.deps[i]; {
			case dep.satisfied || dep.known != nil && dep.known.marked:
			case dep.known != nil:
				dep.known.marked = true
				required.Add(dep.known.row)
			case dep.other != nil:
				dep.other.t.hasDependents = true // it is written below
			}
		}
	}
	tasks := tx.Many(setStmt.insertTasks)
	for _, m := range w.order {
		t := m.t
		key, limit := t.concurrency.columns()
		tasks.Add(t.id, t.groupRow, t.queue, int64(t.state()), int64(t.priority), t.retriesLeft,
			t.unsatisfied, t.hasDependents, t.deadline, t.expires, t.due(), t.last.id, int64(t.last.reasonCreated), t.last.scheduled, key, limit)
	}
	rows := tasks.Query()
	for rows.Next() {
		var row int64
		var id slugid.ID
		if err := rows.Scan(&row, &id); err != nil {
			return err
		}
		w.drafts[w.byID[id]].t.row = row
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	definitions, dependencies := tx.Many(setStmt.insertDefinitions), tx.Many(setStmt.insertDependencies)
	for _, m := range w.order {
		t := m.t
		if t.row == 0 {
			if w.known != nil { // then it was looked for
				return fmt.Errorf("task %s came out of nowhere", t.id)
			}
			continue
		}
		definitions.Add(t.row, t.group, t.scheduler, t.project, t.retries, m.item.at, t.tags, t.routes, m.item.text)
		requires := 0
		if m.item.def.allResolved {
			requires = 1
		}
		for _, dep := range m.deps {
			row := t.row
			if dep.known != nil {
				row = dep.known.row
			} else if dep.other != nil {
				row = dep.other.t.row
			}
			dependencies.Add(row, t.row, requires, dep.satisfied, t.expires)
		}
	}
	for _, many := range []*store.Many{definitions, dependencies, required} {
		if err := many.Send(); err != nil {
			return err
		}
	}
	return nil
}

// created does what follows the insertion of a task, if it was inserted.
func (w *creationSet) created(item *creation) bool {
	m := w.drafts[item]
	if m == nil || m.t.row == 0 {
		return false
	}
	o := w.o
	o.moved(m.t, unscheduled)
	o.publishDefined(m.t)
	if m.t.state() == pending {
		o.publishPending(m.t)
	}
	item.task, item.reply = m.t, m.t.statusReply()
	return true
}
