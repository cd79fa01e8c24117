package queue

import (
	"context"

	"taskcluster/internal/store"
)

// Figures says how much there is to do in one task queue.
type Figures struct {
	TaskQueueID string
	Pending     int64 // runs that wait for a worker
	Running     int64 // runs that a worker has claimed
}

var figuresStmt = struct{ all *store.Stmt }{
	all: store.SQL(`SELECT task_queue_id, pending, running FROM queue_counts ORDER BY task_queue_id LIMIT ?`),
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
		return rows.Err()
	})
	return figures, err
}
