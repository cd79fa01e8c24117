package queue

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// Figures says how much there is to do in one task queue, and who does it.
type Figures struct {
	TaskQueueID string
	Pending     int64 // runs that wait for a worker
	Running     int64 // runs that a worker has claimed

	Workers     int64 // that are known
	Quarantined int64 // of these
	Busy        int64 // workers with a claimed run
}

var figuresStmt = struct{ all, workers, busy *store.Stmt }{
	all:     store.SQL(`SELECT task_queue_id, pending, running FROM queue_counts ORDER BY task_queue_id LIMIT ?`),
	workers: store.SQL(`SELECT task_queue_id, count(*), count(CASE WHEN quarantine_until > ? THEN 1 END) FROM queue_workers GROUP BY task_queue_id`),
	busy: store.SQL(`
		SELECT task_queue_id, count(*)
		FROM (SELECT DISTINCT task_queue_id, worker_group, worker_id FROM tasks WHERE state = 2) AS claims
		GROUP BY task_queue_id`),
}

// maxFigures bounds what Figures returns: a monitoring system would choke on
// more series than that.
const maxFigures = 5000

// Figures lists the task queues that have ever had tasks, for metrics.
func (s *Service) Figures(ctx context.Context) (figures []Figures, err error) {
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		figures = figures[:0]
		rows := tx.Query(figuresStmt.all, maxFigures)
		defer rows.Close()
		for rows.Next() {
			var f Figures
			if err := rows.Scan(&f.TaskQueueID, &f.Pending, &f.Running); err != nil {
				return err
			}
			figures = append(figures, f)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		return addWorkers(tx, figures, s.clock.Now())
	})
	return figures, err
}

// addWorkers counts the workers of the task queues.
func addWorkers(tx *store.Tx, figures []Figures, now clock.Time) error {
	of := make(map[string]*Figures, len(figures))
	for i := range figures {
		of[figures[i].TaskQueueID] = &figures[i]
	}
	each := func(rows *store.Rows, scan func(f *Figures, queue *string) error) error {
		defer rows.Close()
		for rows.Next() {
			var f Figures
			if err := scan(&f, &f.TaskQueueID); err != nil {
				return err
			}
			if known := of[f.TaskQueueID]; known != nil {
				known.Workers, known.Quarantined, known.Busy = known.Workers+f.Workers, known.Quarantined+f.Quarantined, known.Busy+f.Busy
			}
		}
		return rows.Err()
	}
	known := tx.Query(figuresStmt.workers, now)
	err := each(known, func(f *Figures, queue *string) error { return known.Scan(queue, &f.Workers, &f.Quarantined) })
	if err != nil {
		return err
	}
	busy := tx.Query(figuresStmt.busy)
	return each(busy, func(f *Figures, queue *string) error { return busy.Scan(queue, &f.Busy) })
}

// Resolved says how many runs of a task queue this process has resolved in one
// way since it started.
type Resolved struct {
	TaskQueueID string
	State       string // completed, failed or exception
	Reason      string
	Runs        int64
}

// resolutions counts runs as they are resolved. Task queues that are seen when
// there are maxFigures already are counted together, under the name "".
type resolutions struct {
	mu     sync.Mutex
	counts map[resolutionKey]int64
}

type resolutionKey struct {
	queue string
	state state
	why   reason
}

func (r *resolutions) add(keys []resolutionKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[resolutionKey]int64{}
	}
	for _, k := range keys {
		if _, known := r.counts[k]; !known && len(r.counts) >= maxFigures {
			k.queue = ""
		}
		r.counts[k]++
	}
}

// Resolutions lists what was resolved by this process, for metrics.
func (s *Service) Resolutions() []Resolved {
	s.resolutions.mu.Lock()
	defer s.resolutions.mu.Unlock()
	list := make([]Resolved, 0, len(s.resolutions.counts))
	for k, n := range s.resolutions.counts {
		list = append(list, Resolved{k.queue, k.state.String(), k.why.String(), n})
	}
	slices.SortFunc(list, func(a, b Resolved) int {
		return cmp.Or(cmp.Compare(a.TaskQueueID, b.TaskQueueID), cmp.Compare(a.State, b.State), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}
