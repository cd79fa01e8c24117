package app

import (
	"context"
	"strings"
	"time"

	"taskcluster/internal/events"
	"taskcluster/internal/obs"
)

// figuresTimeout bounds the reads that a request for metrics makes.
const figuresTimeout = 5 * time.Second

// maxDeadFigures bounds how many dead letters are counted one by one.
const maxDeadFigures = 10_000

// emitter takes one figure of a family.
type emitter = func(f *obs.Family, value float64, labels ...string)

// publishFigures makes what the parts count visible as metrics. The parts are
// read one after the other, the store first: so its counters contain the queries
// that all earlier readings made, and none of this one.
func (a *App) publishFigures(m *obs.Metrics) {
	var families []*obs.Family
	var reads []func(emitter)
	for _, part := range []func() ([]*obs.Family, func(emitter)){a.storeFigures, a.eventFigures, a.queueFigures, a.pulseFigures} {
		f, read := part()
		families, reads = append(families, f...), append(reads, read)
	}
	m.Publish(families, func(emit emitter) {
		for _, read := range reads {
			read(emit)
		}
	})
}

func (a *App) storeFigures() ([]*obs.Family, func(emitter)) {
	counter := func(name, help string) *obs.Family { return &obs.Family{Name: name, Help: help, Counter: true} }
	commits := counter("taskcluster_store_commits_total", "Transactions committed.")
	rollbacks := counter("taskcluster_store_rollbacks_total", "Transactions that were undone.")
	operations := counter("taskcluster_store_operations_total", "Operations that the group-commit writer has run.")
	reads := counter("taskcluster_store_reads_total", "Reads on a snapshot.")
	statements := counter("taskcluster_store_statements_total", "SQL statements executed.")
	waiting := &obs.Family{Name: "taskcluster_store_waiting_operations", Help: "Writes that wait in line for the next transaction."}
	leases := &obs.Family{Name: "taskcluster_leases_held", Help: "Leases for background work that some process holds."}
	return []*obs.Family{commits, rollbacks, operations, reads, statements, waiting, leases}, func(emit emitter) {
		stats := a.store.Stats()
		emit(commits, float64(stats.Commits))
		emit(rollbacks, float64(stats.Rollbacks))
		emit(operations, float64(stats.Operations))
		emit(reads, float64(stats.Reads))
		emit(statements, float64(stats.Statements))
		emit(waiting, float64(a.store.Waiting()))
		a.figure("the leases", func(ctx context.Context) error {
			held, err := a.store.LeasesHeld(ctx)
			if err == nil {
				emit(leases, float64(held))
			}
			return err
		})
	}
}

func (a *App) eventFigures() ([]*obs.Family, func(emitter)) {
	byConsumer := []string{"consumer"}
	head := &obs.Family{Name: "taskcluster_events_head", Help: "Position of the newest event."}
	lag := &obs.Family{Name: "taskcluster_events_lag_seconds", Help: "Age of the oldest event that a consumer has not handled yet; 0 when there is none.", Labels: byConsumer}
	dead := &obs.Family{Name: "taskcluster_events_dead_letters", Help: "Events that a consumer has given up and that wait for an operator.", Labels: byConsumer}
	lost := &obs.Family{Name: "taskcluster_events_lost_total", Help: "Events that were removed from the log before a consumer had come past them.", Labels: byConsumer, Counter: true}
	return []*obs.Family{head, lag, dead, lost}, func(emit emitter) {
		emit(head, float64(a.events.Head()))
		a.figure("the consumers of events", func(ctx context.Context) error {
			lags, err := a.events.Consumers(ctx)
			if err != nil {
				return err
			}
			for _, l := range lags {
				behind, err := a.events.Age(ctx, l.Position)
				if err != nil {
					return err
				}
				emit(lag, behind.Seconds(), l.Consumer)
				emit(lost, float64(l.Lost), l.Consumer)
			}
			counts, err := a.deadLetters(ctx, lags)
			for consumer, n := range counts {
				emit(dead, float64(n), consumer)
			}
			return err
		})
	}
}

// deadLetters counts dead letters by consumer; consumers without any have a 0.
func (a *App) deadLetters(ctx context.Context, lags []events.Lag) (map[string]int, error) {
	counts := map[string]int{}
	for _, l := range lags {
		counts[l.Consumer] = 0
	}
	letters, err := a.events.DeadLetters(ctx, 0, maxDeadFigures)
	for _, d := range letters {
		counts[d.Consumer]++
	}
	return counts, err
}

func (a *App) queueFigures() ([]*obs.Family, func(emitter)) {
	labels := []string{"provisionerId", "workerType"}
	gauge := func(name, help string) *obs.Family { return &obs.Family{Name: name, Help: help, Labels: labels} }
	pending := gauge("queue_pending_tasks", "Tasks that wait for a worker.")
	claimed := gauge("queue_claimed_tasks", "Tasks that a worker has claimed.")
	workers := gauge("queue_workers_total", "Workers that the queue knows: seen within a day, or in quarantine.")
	quarantined := gauge("queue_quarantined_workers", "Workers in quarantine.")
	running := gauge("queue_running_workers", "Workers that have claimed a task.")
	idle := gauge("queue_idle_workers", "Workers that have claimed no task.")
	completed := &obs.Family{Name: "queue_completed_tasks", Help: "Runs that this process has resolved as completed.", Labels: labels, Counter: true}
	failed := &obs.Family{Name: "queue_failed_tasks", Help: "Runs that this process has resolved as failed.", Labels: labels, Counter: true}
	exceptions := &obs.Family{Name: "queue_exception_tasks", Help: "Runs that this process has resolved as exception.", Labels: append(labels[:2:2], "reasonResolved"), Counter: true}
	late := &obs.Family{Name: "queue_expiry_lag_seconds", Help: "For how long something has been due for removal that is still there."}
	families := []*obs.Family{pending, claimed, workers, quarantined, running, idle, completed, failed, exceptions, late}
	return families, func(emit emitter) {
		for _, r := range a.queue.Resolutions() {
			provisioner, worker, _ := strings.Cut(r.TaskQueueID, "/")
			switch r.State {
			case "completed":
				emit(completed, float64(r.Runs), provisioner, worker)
			case "failed":
				emit(failed, float64(r.Runs), provisioner, worker)
			default:
				emit(exceptions, float64(r.Runs), provisioner, worker, r.Reason)
			}
		}
		a.figure("the task queues", func(ctx context.Context) error {
			figures, err := a.queue.Figures(ctx)
			for _, f := range figures {
				provisioner, worker, _ := strings.Cut(f.TaskQueueID, "/")
				emit(pending, float64(f.Pending), provisioner, worker)
				emit(claimed, float64(f.Running), provisioner, worker)
				if f.Workers > 0 {
					emit(workers, float64(f.Workers), provisioner, worker)
					emit(quarantined, float64(f.Quarantined), provisioner, worker)
					emit(running, float64(f.Busy), provisioner, worker)
					emit(idle, float64(f.Workers-f.Busy), provisioner, worker)
				}
			}
			return err
		})
		a.figure("how late the queue's removal of what expired is", func(ctx context.Context) error {
			lag, err := a.queue.ExpiryLag(ctx)
			if err == nil {
				emit(late, lag.Seconds())
			}
			return err
		})
	}
}

// figure reads figures from the database. When that fails they are missing, and
// the rest is there.
func (a *App) figure(what string, read func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), figuresTimeout)
	defer cancel()
	if err := read(ctx); err != nil {
		a.log.Error("metrics are incomplete: a figure cannot be read", "figure", what, "error", err.Error())
	}
}
