package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/clock"
	"taskcluster/internal/hawk"
	"taskcluster/worker/task"
)

// reclaimAt is when to renew a claim: 3 minutes before it ends, or when a
// fifth of it is left if it is a short one. A queue that answers with claims
// that have ended already is not asked more than once a second.
func reclaimAt(now, takenUntil clock.Time) clock.Time {
	return max(now.Add(time.Second), takenUntil.Add(-min(3*time.Minute, takenUntil.Sub(now)/5)))
}

// keepClaim renews the claim until ctx ends, and swaps the credentials each
// time. When the run is no longer ours, it aborts.
func (w *Worker) keepClaim(ctx context.Context, r *task.Run, credentials *client.RotatingCredentials, until time.Time, abort context.CancelCauseFunc) {
	deadline, cancel := w.cfg.Clock.After(clock.Of(r.Definition.Deadline.Time))
	defer cancel()
	takenUntil := clock.Of(until)
	for {
		due, cancel := w.cfg.Clock.After(reclaimAt(w.cfg.Clock.Now(), takenUntil))
		select {
		case <-ctx.Done():
			cancel()
			return
		case <-deadline:
			cancel()
			abort(errDeadline)
			return
		case <-due:
		}
		answer, err := w.reclaim(ctx, r, takenUntil)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			abort(task.Fail(task.Aborted, fmt.Errorf("Task aborted - the claim is lost: %w", err)))
			return
		}
		credentials.Set(of(answer.Credentials))
		takenUntil = clock.Of(answer.TakenUntil.Time)
	}
}

// reclaim tries to renew the claim until that succeeds, is refused, or the
// claim has ended.
func (w *Worker) reclaim(ctx context.Context, r *task.Run, takenUntil clock.Time) (*queue.TaskReclaimResponse, error) {
	for {
		answer, err := r.Queue.ReclaimTask(ctx, r.TaskID, strconv.Itoa(r.RunID))
		if err == nil || ctx.Err() != nil || refused(err) || w.cfg.Clock.Now() >= takenUntil {
			return answer, err
		}
		w.cfg.Log.Warn("reclaim failed", "taskId", r.TaskID, "runId", r.RunID, "error", err)
		w.wait(ctx, 5*time.Second)
	}
}

// watchStatus asks how the run stands until ctx ends, and aborts when it is no
// longer ours: cancelled, say. Without it a worker would learn of that only when
// it renews the claim. An answer that does not come harms no run.
func (w *Worker) watchStatus(ctx context.Context, r *task.Run, abort context.CancelCauseFunc) {
	for {
		w.wait(ctx, w.cfg.StatusInterval)
		if ctx.Err() != nil {
			return
		}
		answer, err := w.queue.Status(ctx, r.TaskID)
		if ctx.Err() != nil {
			return
		}
		if client.StatusCode(err) == http.StatusForbidden {
			w.statusRefused.Do(func() {
				w.cfg.Log.Info("the worker may not ask how its runs stand: it learns of cancelled ones when it renews their claims",
					"scope", "queue:status:<taskId>", "error", err)
			})
			return
		}
		if err != nil || r.RunID >= len(answer.Status.Runs) {
			w.cfg.Log.Debug("how the run stands was not told", "taskId", r.TaskID, "runId", r.RunID, "error", err)
			continue
		}
		if run := &answer.Status.Runs[r.RunID]; run.State != "running" || run.WorkerGroup != w.cfg.WorkerGroup || run.WorkerID != w.cfg.WorkerID {
			how := cmp.Or(run.ReasonResolved, run.State+" elsewhere")
			abort(task.Fail(task.Aborted, fmt.Errorf("Task aborted - the run is no longer this worker's: %s", how)))
			return
		}
	}
}

// refused tells whether it is of no use to repeat a call.
func refused(err error) bool {
	if errors.Is(err, hawk.ErrHeaderTooLong) {
		return true
	}
	status := client.StatusCode(err)
	return status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}

// reportFor is how long the worker tries to report before it leaves the run to
// the expiry of its claim.
const reportFor = 15 * time.Minute

// report tells the queue how the run ended.
func (w *Worker) report(ctx context.Context, r *task.Run, resolution task.Resolution) {
	if resolution == task.Aborted {
		return
	}
	id, run := r.TaskID, strconv.Itoa(r.RunID)
	giveUp := w.cfg.Clock.Now().Add(reportFor)
	for {
		var err error
		switch resolution {
		case task.Completed:
			_, err = r.Queue.ReportCompleted(ctx, id, run)
		case task.Failed:
			_, err = r.Queue.ReportFailed(ctx, id, run)
		default:
			_, err = r.Queue.ReportException(ctx, id, run, &queue.TaskExceptionRequest{Reason: string(resolution)})
		}
		if err == nil {
			return
		}
		if client.StatusCode(err) == http.StatusConflict {
			// Cancelled, past its deadline, or claimed by another since.
			w.cfg.Log.Info("the queue had resolved the run before", "taskId", id, "runId", r.RunID, "resolution", resolution)
			return
		}
		w.cfg.Log.Error("report failed", "taskId", id, "runId", r.RunID, "resolution", resolution, "error", err)
		if ctx.Err() != nil || refused(err) || w.cfg.Clock.Now() >= giveUp {
			return
		}
		w.wait(ctx, 5*time.Second)
	}
}
