package queue

import (
	"embed"
	"io/fs"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

//go:embed migrations
var migrations embed.FS

// Migrations makes the queue's tables.
func Migrations() store.Migrations {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err)
	}
	return store.Migrations{Component: "queue", FS: sub}
}

// taskColumns are what scanTask reads. The definition itself is read only
// where it is shown.
const (
	taskColumns = `t.id, t.task_id, t.group_row, t.task_queue_id, t.state, t.priority, t.retries_left,
		t.unsatisfied, t.ever_resolved, t.has_dependents, t.deadline, t.expires,
		t.run_id, t.reason_created, t.reason_resolved, t.scheduled, t.started,
		t.worker_group, t.worker_id, t.taken_until, t.resolved,
		t.concurrency_key, t.concurrency_limit,
		d.group_id, d.scheduler_id, d.project_id, d.retries, d.tags, d.routes`
	taskTables = ` FROM tasks t JOIN task_definitions d ON d.id = t.id `
)

// transition is a statement that changes what the status of a task shows. Only
// op.write runs it, which notes the task; those of sets.go change many tasks, each
// of which is noted by op.touch.
type transition struct{ *store.Stmt }

func changes(text string) transition { return transition{store.SQL(text)} }

// stmt holds every statement of the queue; a test prepares each on both engines.
var stmt = struct {
	task, taskByRow, claimable, claimableByID *store.Stmt
	definition, pastRuns                      *store.Stmt

	insertTask, insertDefinition, insertPastRun *store.Stmt
	claimRun, reclaimRun, resolveRun, saveTask  transition
	setPriority                                 transition
	pendingAtStart, liveAtStart                 *store.Stmt
	earliestDue, dueTasks                       *store.Stmt
	heldBy                                      *store.Stmt
	ensureGroup, adjustGroup, resolveGroup      *store.Stmt
	group, sealGroup, groupTasks                *store.Stmt
	groupUnresolved, groupOtherPriority         *store.Stmt
	count, counts, listPending, listRunning     *store.Stmt
	dependency, markRequired, insertDependency  *store.Stmt
	blocker, workersSeen, lastStarted           *store.Stmt
	openDependents, satisfy, unblock            *store.Stmt
	listDependents                              *store.Stmt
	insertRelease, nextRelease, moveRelease     *store.Stmt
	deleteRelease                               *store.Stmt
	insertArtifact, updateArtifact, artifact    *store.Stmt
	listArtifacts                               *store.Stmt
	touchQueue, touchWorker, recordClaims       *store.Stmt
	quarantined, worker, listWorkers            *store.Stmt
	quarantineWorker, taskQueue, listQueues     *store.Stmt
	listProvisioners, provisioner, listQueuesOf *store.Stmt
}{
	task:          store.SQL(`SELECT ` + taskColumns + taskTables + `WHERE t.task_id = ?`),
	taskByRow:     store.SQL(`SELECT ` + taskColumns + taskTables + `WHERE t.id = ?`),
	claimable:     store.SQL(`SELECT ` + taskColumns + `, d.priority_at, d.definition` + taskTables + `WHERE t.id = ?`),
	claimableByID: store.SQL(`SELECT ` + taskColumns + `, d.priority_at, d.definition` + taskTables + `WHERE t.task_id = ?`),
	definition:    store.SQL(`SELECT t.priority, d.priority_at, d.definition` + taskTables + `WHERE t.task_id = ?`),
	pastRuns: store.SQL(`SELECT run_id, state, reason_created, reason_resolved, scheduled, started,
		worker_group, worker_id, taken_until, resolved FROM past_runs WHERE task = ? ORDER BY run_id`),

	insertTask: store.Insert(`INSERT INTO tasks (task_id, group_row, task_queue_id, state, priority, retries_left,
		unsatisfied, has_dependents, deadline, expires, due, run_id, reason_created, scheduled,
		concurrency_key, concurrency_limit)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (task_id) DO NOTHING`),
	insertDefinition: store.SQL(`INSERT INTO task_definitions
		(id, group_id, scheduler_id, project_id, retries, priority_at, tags, routes, definition)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`),
	insertPastRun: store.SQL(`INSERT INTO past_runs (task, run_id, state, reason_created, reason_resolved,
		scheduled, started, worker_group, worker_id, taken_until, resolved)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
	claimRun: changes(`UPDATE tasks SET state = 2, started = ?, worker_group = ?, worker_id = ?,
		taken_until = ?, due = ? WHERE id = ?`),
	reclaimRun: changes(`UPDATE tasks SET taken_until = ?, due = ? WHERE id = ?`),
	resolveRun: changes(`UPDATE tasks SET state = ?, reason_resolved = ?, resolved = ?, ever_resolved = 1,
		due = NULL WHERE id = ?`),
	saveTask: changes(`UPDATE tasks SET state = ?, retries_left = ?, ever_resolved = ?, due = ?, run_id = ?,
		reason_created = ?, reason_resolved = ?, scheduled = ?, started = ?, worker_group = ?, worker_id = ?,
		taken_until = ?, resolved = ? WHERE id = ?`),
	setPriority: changes(`UPDATE tasks SET priority = ? WHERE id = ?`),

	pendingAtStart: store.SQL(`SELECT id, task_queue_id, priority, scheduled, concurrency_key, concurrency_limit FROM tasks
		WHERE state = 1 ORDER BY task_queue_id, scheduled, id`),
	liveAtStart: store.SQL(`SELECT id, concurrency_key, concurrency_limit FROM tasks
		WHERE state = 2 AND concurrency_limit > 0`),
	earliestDue: store.SQL(`SELECT due FROM tasks WHERE due IS NOT NULL ORDER BY due LIMIT 1`),
	dueTasks:    store.SQL(`SELECT id FROM tasks WHERE due IS NOT NULL AND due <= ? ORDER BY due LIMIT ?`),

	heldBy: store.SQL(`SELECT id FROM tasks WHERE task_queue_id = ? AND state = 2 AND started <= ?
		AND worker_group = ? AND worker_id = ? ORDER BY started, id LIMIT ?`),

	// A group whose time is over may be taken by another scheduler.
	ensureGroup: store.SQL(`INSERT INTO task_groups (group_id, scheduler_id, expires, sealed, total, unresolved)
		VALUES (?, ?, ?, 0, ?, ?)
		ON CONFLICT (group_id) DO UPDATE SET
			scheduler_id = excluded.scheduler_id,
			sealed = 0,
			expires = CASE WHEN excluded.expires > task_groups.expires THEN excluded.expires ELSE task_groups.expires END,
			total = task_groups.total + excluded.total,
			unresolved = task_groups.unresolved + excluded.unresolved
		WHERE task_groups.scheduler_id = excluded.scheduler_id AND task_groups.sealed = 0 OR task_groups.expires < ?
		RETURNING id`),
	adjustGroup: store.SQL(`UPDATE task_groups SET total = total + ?, unresolved = unresolved + ? WHERE id = ?`),
	resolveGroup: store.SQL(`UPDATE task_groups SET unresolved = unresolved - ? WHERE id = ?
		RETURNING scheduler_id, expires, sealed, unresolved`),
	group:     store.SQL(`SELECT id, scheduler_id, expires, sealed, total FROM task_groups WHERE group_id = ?`),
	sealGroup: store.SQL(`UPDATE task_groups SET sealed = ? WHERE id = ? AND sealed = 0`),
	groupTasks: store.SQL(`SELECT ` + taskColumns + `, d.priority_at, d.definition` + taskTables +
		`WHERE t.group_row = ? AND t.id > ? ORDER BY t.id LIMIT ?`),
	groupUnresolved: store.SQL(`SELECT t.id FROM tasks t
		WHERE t.group_row = ? AND t.id > ? AND t.state <= 2 AND t.deadline > ? ORDER BY t.id LIMIT ?`),
	groupOtherPriority: store.SQL(`SELECT t.id FROM tasks t WHERE t.group_row = ? AND t.id > ?
		AND t.ever_resolved = 0 AND t.priority <> ? AND t.deadline > ? ORDER BY t.id LIMIT ?`),

	count: store.SQL(`INSERT INTO queue_counts (task_queue_id, pending, running) VALUES (?, ?, ?)
		ON CONFLICT (task_queue_id) DO UPDATE SET pending = queue_counts.pending + excluded.pending,
			running = queue_counts.running + excluded.running`),
	counts: store.SQL(`SELECT pending, running FROM queue_counts WHERE task_queue_id = ?`),
	listPending: store.SQL(`SELECT t.task_id, t.run_id, t.scheduled, t.id, t.priority, d.priority_at, d.definition` + taskTables +
		`WHERE t.task_queue_id = ? AND t.state = 1 AND (t.scheduled, t.id) > (?, ?) ORDER BY t.scheduled, t.id LIMIT ?`),
	listRunning: store.SQL(`SELECT t.task_id, t.run_id, t.started, t.id, t.worker_group, t.worker_id, t.priority, d.priority_at, d.definition` + taskTables +
		`WHERE t.task_queue_id = ? AND t.state = 2 AND (t.started, t.id) > (?, ?) ORDER BY t.started, t.id LIMIT ?`),

	dependency: store.SQL(`SELECT id, state, expires, has_dependents FROM tasks WHERE task_id = ?`),
	blocker: store.SQL(`SELECT t.state, x.satisfied FROM tasks t
		JOIN task_dependencies x ON x.required = t.id AND x.dependent = ? WHERE t.task_id = ?`),
	workersSeen: store.SQL(`SELECT COUNT(*), COALESCE(SUM(CASE WHEN w.quarantine_until > ? THEN 1 ELSE 0 END), 0)
		FROM (SELECT quarantine_until FROM queue_workers
			WHERE task_queue_id = ? AND last_date_active > ? LIMIT ?) AS w`),
	lastStarted: store.SQL(`SELECT started FROM tasks WHERE task_queue_id = ? AND state = 2
		ORDER BY started DESC, id DESC LIMIT 1`),
	markRequired: store.SQL(`UPDATE tasks SET has_dependents = 1 WHERE id = ?`),
	insertDependency: store.SQL(`INSERT INTO task_dependencies (required, dependent, requires, satisfied, expires)
		VALUES (?, ?, ?, ?, ?)`),
	openDependents: store.SQL(`SELECT dependent FROM task_dependencies WHERE required = ? AND dependent > ?
		AND satisfied = 0 AND expires > ? AND requires >= ? ORDER BY dependent LIMIT ?`),
	satisfy: store.SQL(`UPDATE task_dependencies SET satisfied = 1 WHERE required = ? AND dependent = ?`),
	unblock: store.SQL(`UPDATE tasks SET unsatisfied = unsatisfied - 1 WHERE id = ?
		RETURNING unsatisfied, state, deadline`),
	listDependents: store.SQL(`SELECT ` + taskColumns + `, d.priority_at, d.definition FROM task_dependencies x
		JOIN tasks t ON t.id = x.dependent JOIN task_definitions d ON d.id = t.id
		WHERE x.required = ? AND x.dependent > ? AND x.expires > ? ORDER BY x.dependent LIMIT ?`),
	insertRelease: store.SQL(`INSERT INTO dependency_releases (required, completed, after) VALUES (?, ?, ?)`),
	nextRelease:   store.SQL(`SELECT id, required, completed, after FROM dependency_releases ORDER BY id LIMIT 1`),
	moveRelease:   store.SQL(`UPDATE dependency_releases SET after = ? WHERE id = ?`),
	deleteRelease: store.SQL(`DELETE FROM dependency_releases WHERE id = ?`),

	insertArtifact: store.SQL(`INSERT INTO artifacts
		(task_id, run_id, name, storage_type, content_type, content_length, expires, details, message)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`),
	updateArtifact: store.SQL(`UPDATE artifacts SET storage_type = ?, expires = ?, details = ?, message = ?
		WHERE task_id = ? AND run_id = ? AND name = ?`),
	artifact: store.SQL(`SELECT name, storage_type, content_type, content_length, expires, details, message
		FROM artifacts WHERE task_id = ? AND run_id = ? AND name = ?`),
	listArtifacts: store.SQL(`SELECT name, storage_type, content_type, content_length, expires, details, message
		FROM artifacts WHERE task_id = ? AND run_id = ? AND name > ? AND expires > 0
		AND (storage_type <> 'object' OR details = '') ORDER BY name LIMIT ?`),

	touchQueue: store.SQL(`INSERT INTO task_queues (task_queue_id, expires, last_date_active) VALUES (?, ?, ?)
		ON CONFLICT (task_queue_id) DO UPDATE SET last_date_active = excluded.last_date_active,
			expires = CASE WHEN excluded.expires > task_queues.expires THEN excluded.expires ELSE task_queues.expires END`),
	touchWorker: store.SQL(`INSERT INTO queue_workers (task_queue_id, worker_group, worker_id, recent_tasks,
			quarantine_until, quarantine_details, expires, first_claim, last_date_active)
		VALUES (?, ?, ?, '', ?, '[]', ?, ?, ?)
		ON CONFLICT (task_queue_id, worker_group, worker_id) DO UPDATE SET last_date_active = excluded.last_date_active,
			expires = CASE WHEN excluded.expires > queue_workers.expires THEN excluded.expires ELSE queue_workers.expires END`),
	// substr counts from the end in SQLite only, right() exists in PostgreSQL only.
	recordClaims: store.Dialect(`UPDATE queue_workers SET recent_tasks = substr(recent_tasks || ?, -480)
		WHERE task_queue_id = ? AND worker_group = ? AND worker_id = ?`,
		`UPDATE queue_workers SET recent_tasks = right(recent_tasks || ?, 480)
		WHERE task_queue_id = ? AND worker_group = ? AND worker_id = ?`),
	quarantined: store.SQL(`SELECT task_queue_id, worker_group, worker_id, quarantine_until FROM queue_workers
		WHERE quarantine_until > ?`),
	worker: store.SQL(`SELECT ` + workerColumns + ` FROM queue_workers
		WHERE task_queue_id = ? AND worker_group = ? AND worker_id = ?`),
	listWorkers: store.SQL(`SELECT ` + workerColumns + ` FROM queue_workers
		WHERE task_queue_id = ? AND (worker_group, worker_id) > (?, ?) ORDER BY worker_group, worker_id LIMIT ?`),
	quarantineWorker: store.SQL(`UPDATE queue_workers SET quarantine_until = ?, quarantine_details = ?,
		expires = CASE WHEN expires < ? THEN ? ELSE expires END
		WHERE task_queue_id = ? AND worker_group = ? AND worker_id = ?`),
	taskQueue: store.SQL(`SELECT task_queue_id, expires, last_date_active FROM task_queues
		WHERE task_queue_id = ? AND expires > ?`),
	listQueues: store.SQL(`SELECT task_queue_id, expires, last_date_active FROM task_queues
		WHERE task_queue_id > ? AND expires > ? ORDER BY task_queue_id LIMIT ?`),
	// '0' is the character after '/'.
	listQueuesOf: store.SQL(`SELECT task_queue_id, expires, last_date_active FROM task_queues
		WHERE task_queue_id > ? AND task_queue_id < ? AND expires > ? ORDER BY task_queue_id LIMIT ?`),
	listProvisioners: store.Dialect(`SELECT substr(task_queue_id, 1, instr(task_queue_id, '/') - 1) AS p, max(expires), max(last_date_active)
		FROM task_queues WHERE expires > ? GROUP BY p HAVING substr(task_queue_id, 1, instr(task_queue_id, '/') - 1) > ? ORDER BY p LIMIT ?`,
		`SELECT split_part(task_queue_id, '/', 1) AS p, max(expires), max(last_date_active)
		FROM task_queues WHERE expires > ? GROUP BY p HAVING split_part(task_queue_id, '/', 1) > ? ORDER BY p LIMIT ?`),
	provisioner: store.SQL(`SELECT count(*), COALESCE(max(expires), 0), COALESCE(max(last_date_active), 0) FROM task_queues
		WHERE task_queue_id > ? AND task_queue_id < ? AND expires > ?`),
}

// scanner is a row to be read.
type scanner interface{ Scan(dest ...any) error }

// scanTask reads taskColumns, and then the columns that extra names.
func scanTask(row scanner, t *task, extra ...any) error {
	var st, prio, created, resolved int64
	var key string
	var limit int
	dest := [36]any{&t.row, &t.id, &t.groupRow, &t.queue, &st, &prio, &t.retriesLeft,
		&t.unsatisfied, &t.everResolved, &t.hasDependents, &t.deadline, &t.expires,
		&t.last.id, &created, &resolved, &t.last.scheduled, &t.last.started,
		&t.last.workerGroup, &t.last.workerID, &t.last.takenUntil, &t.last.resolved,
		&key, &limit, &t.group, &t.scheduler, &t.project, &t.retries, &t.tags, &t.routes}
	n := 29 + copy(dest[29:], extra)
	if err := row.Scan(dest[:n]...); err != nil {
		return err
	}
	t.last.state, t.priority = state(st), priority(prio)
	t.last.reasonCreated, t.last.reasonResolved = reason(created), reason(resolved)
	t.concurrency = concurrencyOf(key, limit)
	return nil
}

// loadTask reads a task and its runs; store.ErrNoRows when there is none.
func loadTask(tx *store.Tx, id slugid.ID) (*task, error) {
	t := new(task)
	if err := scanTask(tx.Row(stmt.task, id), t); err != nil {
		return nil, err
	}
	return t, t.loadPast(tx)
}

func loadRow(tx *store.Tx, row int64) (*task, error) {
	t := new(task)
	if err := scanTask(tx.Row(stmt.taskByRow, row), t); err != nil {
		return nil, err
	}
	return t, t.loadPast(tx)
}

// loadPast reads the runs before the last one. Most tasks have none.
func (t *task) loadPast(tx *store.Tx) error {
	if t.last.id <= 0 {
		return nil
	}
	t.past = make([]run, 0, t.last.id)
	rows := tx.Query(stmt.pastRuns, t.row)
	defer rows.Close()
	for rows.Next() {
		var r run
		var st, created, resolved int64
		if err := rows.Scan(&r.id, &st, &created, &resolved, &r.scheduled, &r.started,
			&r.workerGroup, &r.workerID, &r.takenUntil, &r.resolved); err != nil {
			return err
		}
		r.state, r.reasonCreated, r.reasonResolved = state(st), reason(created), reason(resolved)
		t.past = append(t.past, r)
	}
	return rows.Err()
}

// savePast writes a run that another one is going to follow.
func (t *task) savePast(tx *store.Tx, r *run) error {
	_, err := tx.Exec(stmt.insertPastRun, t.row, r.id, int64(r.state), int64(r.reasonCreated), int64(r.reasonResolved),
		r.scheduled, r.started, r.workerGroup, r.workerID, r.takenUntil, r.resolved)
	return err
}

// nullable gives NULL for a time that is not set.
func nullable(at clock.Time) *clock.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
