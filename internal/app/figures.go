package app

import (
	"context"
	"strings"
	"time"

	"taskcluster/internal/obs"
)

// figuresTimeout bounds the read that a request for metrics makes.
const figuresTimeout = 5 * time.Second

// publishFigures makes what the parts count visible as metrics. The store's
// counters come first, so that they do not contain the query that follows.
func (a *App) publishFigures(m *obs.Metrics) {
	commits := &obs.Family{Name: "taskcluster_store_commits_total", Help: "Transactions committed.", Counter: true}
	operations := &obs.Family{Name: "taskcluster_store_operations_total", Help: "Operations that the group-commit writer has run.", Counter: true}
	statements := &obs.Family{Name: "taskcluster_store_statements_total", Help: "SQL statements executed.", Counter: true}
	head := &obs.Family{Name: "taskcluster_events_head", Help: "Position of the newest event."}
	labels := []string{"provisionerId", "workerType"}
	pending := &obs.Family{Name: "queue_pending_tasks", Help: "Tasks that wait for a worker.", Labels: labels}
	claimed := &obs.Family{Name: "queue_claimed_tasks", Help: "Tasks that a worker has claimed.", Labels: labels}
	lag := &obs.Family{Name: "queue_expiry_lag_seconds", Help: "For how long something has been due for removal that is still there."}
	m.Publish([]*obs.Family{commits, operations, statements, head, pending, claimed, lag}, func(emit func(*obs.Family, float64, ...string)) {
		stats := a.store.Stats()
		emit(commits, float64(stats.Commits))
		emit(operations, float64(stats.Operations))
		emit(statements, float64(stats.Statements))
		emit(head, float64(a.events.Head()))
		ctx, cancel := context.WithTimeout(context.Background(), figuresTimeout)
		defer cancel()
		figures, err := a.queue.Figures(ctx)
		if err != nil {
			a.log.Error("the task queues' figures cannot be read", "error", err.Error())
			return
		}
		for _, f := range figures {
			provisioner, worker, _ := strings.Cut(f.TaskQueueID, "/")
			emit(pending, float64(f.Pending), provisioner, worker)
			emit(claimed, float64(f.Running), provisioner, worker)
		}
		late, err := a.queue.ExpiryLag(ctx)
		if err != nil {
			a.log.Error("it cannot be read how late the queue's removal of what expired is", "error", err.Error())
			return
		}
		emit(lag, late.Seconds())
	})
}
