package queue

import (
	"context"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sweep"
)

const (
	// expireEvery is how often what has expired is looked for.
	expireEvery = 10 * time.Minute
	// expireGrace is for how long it is still shown, as published.
	expireGrace = 30 * time.Minute
)

// expiry removes what has expired. The order matters: artifacts, which others
// know by the names of their tasks, then tasks, then what they wait for (a task
// counts that), then what groups them.
func (s *Service) expiry() *sweep.Sweeper {
	return &sweep.Sweeper{
		Name: "queue/expire", Every: expireEvery,
		Store: s.store, Clock: s.clock, Log: s.logger,
		Kinds: []sweep.Kind{
			{Name: "artifacts", Walk: s.expireArtifacts},
			{Name: "tasks", Walk: s.expireTasks},
			{Name: "dependencies", Walk: sweep.Rows(expireStmt.dependencies, expireGrace)},
			{Name: "taskGroups", Walk: sweep.Rows(expireStmt.groups, expireGrace)},
			{Name: "workers", Walk: s.expireWorkers},
			{Name: "taskQueues", Walk: sweep.Rows(expireStmt.taskQueues, expireGrace)},
			{Name: "counters", Walk: s.expireCounters},
		},
	}
}

var expireStmt = struct {
	artifacts, hideArtifact, deleteArtifact                 *store.Stmt
	deleteTask                                              transition
	tasks, deleteDefinition, deleteRuns                     *store.Stmt
	dependencies, groups, workers, deleteWorker, taskQueues *store.Stmt
	counters, deleteCounter                                 *store.Stmt
	oldest                                                  *store.Stmt
}{
	artifacts: store.SQL(`SELECT id, task_id, run_id, name, storage_type, expires FROM artifacts
		WHERE (expires, id) > (?, ?) AND expires < ? ORDER BY expires, id LIMIT ?`),
	hideArtifact:   store.SQL(`UPDATE artifacts SET expires = 0 WHERE id = ? AND expires < ?`),
	deleteArtifact: store.SQL(`DELETE FROM artifacts WHERE id = ?`),

	// A task that is not resolved is left to its deadline, which is past.
	tasks: store.SQL(`SELECT id, task_id, group_row, run_id, ever_resolved, expires FROM tasks
		WHERE (expires, id) > (?, ?) AND expires < ? AND due IS NULL ORDER BY expires, id LIMIT ?`),
	deleteTask:       changes(`DELETE FROM tasks WHERE id = ?`),
	deleteDefinition: store.SQL(`DELETE FROM task_definitions WHERE id = ?`),
	deleteRuns:       store.SQL(`DELETE FROM past_runs WHERE task = ?`),

	dependencies: store.SQL(`DELETE FROM task_dependencies WHERE (required, dependent) IN (
		SELECT required, dependent FROM task_dependencies WHERE expires < ? ORDER BY expires LIMIT ?)`),
	groups: store.SQL(`DELETE FROM task_groups WHERE id IN (
		SELECT id FROM task_groups WHERE expires < ? AND total = 0 ORDER BY expires LIMIT ?)`),
	workers: store.SQL(`SELECT task_queue_id, worker_group, worker_id FROM queue_workers
		WHERE expires < ? AND quarantine_until < ? ORDER BY expires LIMIT ?`),
	deleteWorker: store.SQL(`DELETE FROM queue_workers WHERE task_queue_id = ? AND worker_group = ? AND worker_id = ?`),
	// One with a worker in quarantine stays, for without it nobody sees the worker.
	taskQueues: store.SQL(`DELETE FROM task_queues WHERE task_queue_id IN (
		SELECT q.task_queue_id FROM task_queues q WHERE q.expires < ?
			AND NOT EXISTS (SELECT 1 FROM queue_workers w WHERE w.task_queue_id = q.task_queue_id)
		ORDER BY q.expires LIMIT ?)`),

	counters: store.SQL(`SELECT c.task_queue_id, CASE WHEN c.pending = 0 AND c.running = 0
			AND NOT EXISTS (SELECT 1 FROM task_queues q WHERE q.task_queue_id = c.task_queue_id) THEN 1 ELSE 0 END
		FROM queue_counts c WHERE c.task_queue_id > ? ORDER BY c.task_queue_id LIMIT ?`),
	deleteCounter: store.SQL(`DELETE FROM queue_counts WHERE task_queue_id = ? AND pending = 0 AND running = 0`),

	// The heads of the indexes of what there can be much of.
	oldest: store.SQL(`SELECT
		(SELECT expires FROM tasks WHERE expires < ? AND due IS NULL ORDER BY expires LIMIT 1),
		(SELECT expires FROM artifacts WHERE expires > 0 AND expires < ? ORDER BY expires LIMIT 1),
		(SELECT expires FROM task_dependencies WHERE expires < ? ORDER BY expires LIMIT 1),
		(SELECT expires FROM task_groups WHERE expires < ? AND total = 0 ORDER BY expires LIMIT 1)`),
}

// ExpiryLag tells for how long something has been due for removal that is still
// there: tasks, dependencies, groups and artifacts, half an hour after they
// expired. It is 0 when nothing is due, up to the time between two sweeps when
// all is well, and grows when more expires than can be removed, or removal fails.
func (s *Service) ExpiryLag(ctx context.Context) (lag time.Duration, err error) {
	before := s.clock.Now().Add(-expireGrace)
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		lag = 0
		var oldest [4]*clock.Time
		if err := tx.Row(expireStmt.oldest, before, before, before, before).Scan(&oldest[0], &oldest[1], &oldest[2], &oldest[3]); err != nil {
			return err
		}
		for _, at := range oldest {
			if at != nil {
				lag = max(lag, before.Sub(*at))
			}
		}
		return nil
	})
	return lag, err
}

// expirePlace is where a walk along an index by expiration stands.
type expirePlace struct {
	expires clock.Time
	row     int64
}

// expiredTask is a task that is going to be deleted.
type expiredTask struct {
	row, group, lastRun int64
	id                  slugid.ID
	everResolved        bool
}

// expireTasks deletes tasks with their definitions and runs. Their group counts
// them no more.
func (s *Service) expireTasks(now clock.Time) sweep.Step {
	var at expirePlace
	return func(ctx context.Context, write sweep.Write, n int) (done sweep.Outcome, err error) {
		var due []expiredTask
		var next expirePlace
		err = write(ctx, func(tx *store.Tx) error {
			due, next = due[:0], at
			rows := tx.Query(expireStmt.tasks, at.expires, at.row, now.Add(-expireGrace), n)
			defer rows.Close()
			for rows.Next() {
				var t expiredTask
				if err := rows.Scan(&t.row, &t.id, &t.group, &t.lastRun, &t.everResolved, &next.expires); err != nil {
					return err
				}
				next.row = t.row
				due = append(due, t)
			}
			if err := rows.Err(); err != nil {
				return err
			}
			o := s.begin(tx)
			if err := o.deleteTasks(due); err != nil {
				return err
			}
			return o.finish()
		})
		at = next
		return sweep.Outcome{Removed: len(due), More: len(due) == n}, err
	}
}

func (o *op) deleteTasks(due []expiredTask) error {
	tx := o.tx
	type members struct{ total, unresolved int }
	groups := map[int64]members{}
	for _, t := range due {
		if err := o.write(t.id, expireStmt.deleteTask, t.row); err != nil {
			return err
		}
		if _, err := tx.Exec(expireStmt.deleteDefinition, t.row); err != nil {
			return err
		}
		if t.lastRun > 0 {
			if _, err := tx.Exec(expireStmt.deleteRuns, t.row); err != nil {
				return err
			}
		}
		g := groups[t.group]
		g.total++
		if !t.everResolved {
			g.unresolved++
		}
		groups[t.group] = g
	}
	for row, g := range groups {
		if _, err := tx.Exec(stmt.adjustGroup, -g.total, -g.unresolved, row); err != nil {
			return err
		}
	}
	return nil
}

// expireArtifacts removes artifacts: first nobody sees them, then the content is
// deleted, then the row, so that whatever is cut short is done again, and an
// upload under the same name cannot come between.
func (s *Service) expireArtifacts(now clock.Time) sweep.Step {
	at := expirePlace{expires: -1}
	return func(ctx context.Context, write sweep.Write, n int) (done sweep.Outcome, err error) {
		var gone []int64
		var keys []string
		var next expirePlace
		err = write(ctx, func(tx *store.Tx) error {
			gone, keys, next = gone[:0], keys[:0], at
			rows := tx.Query(expireStmt.artifacts, at.expires, at.row, now.Add(-expireGrace), n)
			defer rows.Close()
			for rows.Next() {
				var id slugid.ID
				var runID int
				var name, storage string
				if err := rows.Scan(&next.row, &id, &runID, &name, &storage, &next.expires); err != nil {
					return err
				}
				gone = append(gone, next.row)
				if storage == storageS3 {
					keys = append(keys, blobKey(id, runID, name))
				}
			}
			if err := rows.Err(); err != nil {
				return err
			}
			for _, row := range gone {
				if _, err := tx.Exec(expireStmt.hideArtifact, row, now.Add(-expireGrace)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return done, err
		}
		at, done.More = next, len(gone) == n
		if len(keys) > 0 {
			if err := s.blob.Delete(ctx, keys...); err != nil {
				if ctx.Err() != nil {
					return done, ctx.Err()
				}
				s.logger.Error("the content of expired artifacts could not be deleted; this is tried again", "artifacts", len(keys), "error", err)
				done.Kept = len(gone)
				return done, nil
			}
		}
		err = write(ctx, func(tx *store.Tx) error {
			for _, row := range gone {
				if _, err := tx.Exec(expireStmt.deleteArtifact, row); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			done.Removed = len(gone)
		}
		return done, err
	}
}

// expireWorkers forgets workers that were not seen for long and are not in
// quarantine.
func (s *Service) expireWorkers(now clock.Time) sweep.Step {
	return func(ctx context.Context, write sweep.Write, n int) (done sweep.Outcome, err error) {
		err = write(ctx, func(tx *store.Tx) error {
			var due []workerKey
			before := now.Add(-expireGrace)
			rows := tx.Query(expireStmt.workers, before, before, n)
			defer rows.Close()
			for rows.Next() {
				var k workerKey
				if err := rows.Scan(&k.queue, &k.group, &k.id); err != nil {
					return err
				}
				due = append(due, k)
			}
			if err := rows.Err(); err != nil {
				return err
			}
			for _, k := range due {
				if _, err := tx.Exec(expireStmt.deleteWorker, k.queue, k.group, k.id); err != nil {
					return err
				}
				tx.OnCommit(func() { s.workers.forget(k) })
			}
			done = sweep.Outcome{Removed: len(due), More: len(due) == n}
			return nil
		})
		return done, err
	}
}

// expireCounters removes the counters of task queues that nobody remembers. The
// walk reads all counters, so it does that on a snapshot.
func (s *Service) expireCounters(clock.Time) sweep.Step {
	after := ""
	return func(ctx context.Context, write sweep.Write, n int) (done sweep.Outcome, err error) {
		var idle []string
		looked := 0
		err = s.store.Read(ctx, func(tx *store.Tx) error {
			rows := tx.Query(expireStmt.counters, after, n)
			defer rows.Close()
			for rows.Next() {
				var unused bool
				if err := rows.Scan(&after, &unused); err != nil {
					return err
				}
				looked++
				if unused {
					idle = append(idle, after)
				}
			}
			return rows.Err()
		})
		if err != nil || len(idle) == 0 {
			return sweep.Outcome{More: looked == n}, err
		}
		err = write(ctx, func(tx *store.Tx) error {
			for _, queue := range idle {
				if _, err := tx.Exec(expireStmt.deleteCounter, queue); err != nil {
					return err
				}
				if err := s.pending.forget(tx, queue); err != nil {
					return err
				}
			}
			return nil
		})
		return sweep.Outcome{Removed: len(idle), More: looked == n}, err
	}
}
