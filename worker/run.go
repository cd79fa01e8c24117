package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/hawk"
	"taskcluster/worker/feature/artifacts"
	"taskcluster/worker/feature/environment"
	"taskcluster/worker/feature/livelog"
	"taskcluster/worker/task"
	"taskcluster/worker/tasklog"
)

// farewell is how long a run that was stopped has to report and to keep its log.
const farewell = 20 * time.Second

// run takes a claimed run from beginning to end. It ends early, resolved as
// worker-shutdown, when the context running does.
func (w *Worker) run(running context.Context, claim *queue.ClaimWorkResponseTask) {
	log := w.cfg.Log.With("taskId", claim.Status.TaskID, "runId", claim.RunID)
	log.Info("run started")
	begin := time.Now()

	var credentials client.RotatingCredentials
	credentials.Set(of(claim.Credentials))
	// A task may have so many scopes that its credentials sign no request. Nobody
	// could tell how it ended, so it must not begin either; its claim expires.
	if _, err := of(claim.Credentials).Header(hawk.Request{}, hawk.PayloadHash("", nil), begin); errors.Is(err, hawk.ErrHeaderTooLong) {
		log.Error("run is left alone: the task has too many scopes", "error", err)
		return
	}
	calls, err := w.client(credentials.Get)
	if err != nil {
		log.Error("run cannot be served", "error", err)
		return
	}
	r := &task.Run{
		TaskID: claim.Status.TaskID, RunID: claim.RunID, Definition: claim.Task, Queue: calls, Clock: w.cfg.Clock,
	}
	defer func() {
		// A fault of the worker's own must not take the others' runs with it.
		if p := recover(); p != nil {
			log.Error("run panicked", "panic", p, "stack", string(debug.Stack()))
			w.report(context.WithoutCancel(running), r, task.InternalError)
		}
	}()
	ctx, abort := context.WithCancelCause(running)
	defer abort(nil)
	kept := make(chan struct{})
	keeping, released := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(kept)
		w.keepClaim(keeping, r, &credentials, claim.TakenUntil.Time, abort)
	}()
	defer func() { released(); <-kept }()

	logs := logs{Settings: livelog.Default, stop: func() {}}
	err = w.prepare(r)
	if err == nil {
		defer w.discard(r)
		watching, enough := context.WithCancel(ctx)
		var watch sync.WaitGroup
		watch.Go(func() { w.watchStatus(watching, r, abort) })
		defer watch.Wait() // after a panic, too
		defer enough()
		err = w.perform(ctx, r, &logs)
		enough()
	}
	defer logs.stop()
	if r.Log != nil && r.Log.Err() != nil {
		removeAll(r.Dir) // most likely it is what filled the disk; the log's end needs some room
		full := w.failed(r, task.Fail(task.ResourceUnavailable, r.Log.Err()))
		err = cmp.Or(err, full)
	}
	if _, ok := errors.AsType[*task.Failure](err); err != nil && !ok && ctx.Err() != nil {
		err = context.Cause(ctx) // that the run was stopped explains what else went wrong
	}
	resolution := task.ResolutionOf(err)

	final, cancel := linger(ctx, farewell)
	defer cancel()
	stopped := ctx.Err() != nil
	if stopped {
		w.report(final, r, resolution) // there is little time: this comes first
	}
	if r.Log != nil {
		if keepErr := livelog.Keep(final, r, w.uploader, logs.Settings); keepErr != nil {
			log.Warn("log was not kept", "error", keepErr)
			if err == nil {
				resolution = task.ResolutionOf(keepErr)
			}
		}
	}
	if !stopped {
		w.report(final, r, resolution)
	}
	log.Info("run ended", "resolution", resolution, "seconds", time.Since(begin).Seconds())
}

// logs are the logs that a run has, and what ends the live one.
type logs struct {
	livelog.Settings
	stop func()
}

// linger makes a context that ends so much later than ctx, with its cause.
func linger(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			end(context.Cause(ctx))
		case <-out.Done():
		}
	})
	return out, func() { stop(); end(context.Canceled) }
}

func of(c queue.TaskCredentials) client.Credentials {
	return client.Credentials{ClientID: c.ClientID, AccessToken: c.AccessToken, Certificate: c.Certificate}
}

// prepare makes the run's directory and log.
func (w *Worker) prepare(r *task.Run) error {
	dir, err := os.MkdirTemp(w.cfg.TasksDir, fmt.Sprintf("%s%.8s_%d_", dirPrefix, r.TaskID, r.RunID))
	if err != nil {
		return task.Fail(task.ResourceUnavailable, err)
	}
	r.Dir, r.LogPath = dir, dir+".log"
	if r.Log, err = tasklog.Create(r.LogPath, w.cfg.LogLimit, w.cfg.Clock); err != nil {
		os.RemoveAll(dir)
		return task.Fail(task.ResourceUnavailable, err)
	}
	return nil
}

// perform runs the task and keeps its artifacts. In logs it leaves which logs
// the task wants, as soon as that is known.
func (w *Worker) perform(ctx context.Context, r *task.Run, logs *logs) error {
	w.header(r)
	if ctx.Err() != nil {
		return w.failed(r, context.Cause(ctx)) // it was claimed while the worker stopped
	}
	parsed, err := w.parser.Parse(r.Definition.Payload)
	if err != nil {
		return w.failed(r, task.Fail(task.MalformedPayload, err))
	}
	r.Payload = parsed
	logs.Settings = livelog.Of(r)
	if err := errors.Join(w.checkRunTime(r), artifacts.Check(r)); err != nil {
		return w.failed(r, task.Fail(task.MalformedPayload, err))
	}
	if logs.stop, err = livelog.Start(ctx, r, w.livelog, logs.Settings); err != nil {
		if task.ResolutionOf(err) == task.MalformedPayload || ctx.Err() != nil {
			return w.failed(r, err)
		}
		r.Log.Warnf("There is no live log: %v", err)
	}
	if parsed.SupersederSet {
		r.Log.Warnf("payload.supersederUrl is not used: superseding is no longer supported")
	}

	err = w.failed(r, w.commands(ctx, r))
	if ctx.Err() != nil {
		return err
	}
	if uploadErr := artifacts.Upload(ctx, r, w.uploader, logs.Names()...); err == nil {
		err = uploadErr
	}
	return err
}

// header begins the log.
func (w *Worker) header(r *task.Run) {
	metadata := map[string]any{
		"config":      map[string]any{"workerGroup": w.cfg.WorkerGroup, "workerId": w.cfg.WorkerID, "capacity": w.cfg.Capacity},
		"taskcluster": map[string]any{"engine": w.cfg.Engine.Name()},
	}
	for key, value := range w.cfg.Metadata {
		metadata[key] = value
	}
	text, err := json.MarshalIndent(metadata, "  ", "  ")
	if err != nil {
		text = []byte(err.Error())
	}
	r.Log.Infof("Worker Type (%s) settings:\n  %s", w.cfg.TaskQueueID, text)
	r.Log.Infof("Task ID: %s", r.TaskID)
	r.Log.Infof("Run ID: %d", r.RunID)
}

// failed writes an error into the log, and returns it.
func (w *Worker) failed(r *task.Run, err error) error {
	if err != nil {
		r.Log.Errorf("%s", strings.TrimSpace(err.Error()))
	}
	return err
}

// environment makes the variables of the run's commands.
func (w *Worker) environment(r *task.Run) []string {
	env, overridden := environment.Build(w.cfg.Inherit, r, environment.Settings{
		RootURL: w.cfg.RootURL, InstanceType: w.cfg.InstanceType, WorkerLocation: w.cfg.WorkerLocation,
	})
	for _, name := range overridden {
		r.Log.Warnf("payload.env.%s is not used: the worker sets %s itself", name, name)
	}
	return env
}
