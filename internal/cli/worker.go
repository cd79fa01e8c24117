package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"taskcluster/internal/obs"
	"taskcluster/worker"
	"taskcluster/worker/engine/native"
)

type workerCommand struct {
	RootURL       string `name:"root-url" placeholder:"URL" help:"The deployment (default: TASKCLUSTER_ROOT_URL, or else that of data/root.env)."`
	TaskQueueID   string `name:"task-queue-id" required:"" placeholder:"QUEUE" help:"Task queue to take tasks from, such as local/native."`
	WorkerGroup   string `default:"local" placeholder:"NAME" help:"Group of the worker (default: ${default})."`
	WorkerID      string `name:"worker-id" placeholder:"NAME" help:"Name of the worker in its group (default: the machine's)."`
	Capacity      int    `default:"1" placeholder:"N" help:"Tasks that run at once (default: ${default})."`
	TasksDir      string `default:"tasks" placeholder:"DIR" help:"Directory of the worker's own, where tasks run (default: ${default})."`
	IdleTimeout   span   `placeholder:"SPAN" help:"End after so long without work, such as 30m (default: never)."`
	NumberOfTasks int    `placeholder:"N" help:"End after so many runs (default: never)."`
	MaxTaskRun    span   `name:"max-task-run-time" placeholder:"SPAN" help:"Longest maxRunTime that a task may ask for (default: 24 hours)."`
	Grace         span   `default:"30s" placeholder:"SPAN" help:"Time that running tasks have to finish when the worker is stopped (default: ${default})."`
	LiveLogListen string `default:"127.0.0.1:0" placeholder:"ADDR" help:"Address to serve the logs of running tasks on, host:port; readers must reach it (default: ${default})."`
	LogLevel      string `default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" help:"Least severe log lines to write: ${enum} (default: ${default})."`
	LogFormat     string `default:"json" enum:"json,text" placeholder:"FORMAT" help:"Form of log lines: ${enum} (default: ${default})."`
}

func (*workerCommand) Help() string {
	return `Commands of tasks run as the worker's own user: take tasks only from people whom
you trust with it. Credentials come from the environment, and need the scopes
queue:claim-work:<task queue> and queue:worker-id:<group>/<id>; with
queue:status:<taskId>, which is public by default, the worker sees within
seconds that a task was cancelled.

The first SIGINT or SIGTERM lets running tasks finish within --grace; the queue
gives the others to another worker. A second one stops at once.

` + examples(
		"taskcluster worker --task-queue-id local/native",
		"taskcluster worker --task-queue-id proj/linux --capacity 4 --idle-timeout 10m")
}

// Run runs a worker until it is stopped or has nothing more to do.
func (c *workerCommand) Run(s *session) error {
	if c.Capacity < 1 {
		return usageError("--capacity must be at least 1")
	}
	r := remote{RootURL: c.RootURL}
	cfg, err := r.config(s)
	if err != nil {
		return err
	}
	log, err := obs.NewLogger(s.stderr, c.LogFormat, c.LogLevel)
	if err != nil {
		return err
	}
	id := c.WorkerID
	if id == "" {
		if id, err = machineName(); err != nil {
			return err
		}
	}
	w, err := worker.New(worker.Config{
		RootURL: cfg.RootURL, Credentials: cfg.Credentials,
		TaskQueueID: c.TaskQueueID, WorkerGroup: c.WorkerGroup, WorkerID: id,
		Engine: &native.Engine{}, TasksDir: c.TasksDir,
		Capacity: c.Capacity, MaxTaskRunTime: time.Duration(c.MaxTaskRun),
		IdleTimeout: time.Duration(c.IdleTimeout), NumberOfTasks: c.NumberOfTasks, Grace: time.Duration(c.Grace),
		LiveLogListen: c.LiveLogListen, Log: log,
	})
	if err != nil {
		return err
	}
	log.Info("worker started", "rootUrl", cfg.RootURL, "taskQueueId", c.TaskQueueID, "workerGroup", c.WorkerGroup, "workerId", id, "capacity", c.Capacity)
	defer killOnSecondSignal(w)()
	err = w.Run(s.ctx)
	switch {
	case errors.Is(err, worker.ErrIdle):
		fmt.Fprintln(s.stderr, "No work for the idle time-out; the worker ends.")
		return nil
	case errors.Is(err, context.Canceled) && s.ctx.Err() != nil:
		return nil // it was asked to stop, and did
	}
	return err
}

// killOnSecondSignal makes a second signal end the worker with its tasks, in
// place of the process alone.
func killOnSecondSignal(w *worker.Worker) (stop func()) {
	signals, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for range 2 {
			select {
			case <-signals:
			case <-done:
				return
			}
		}
		w.Kill()
	}()
	return func() { signal.Stop(signals); close(done) }
}

var notInID = regexp.MustCompile(`[^a-zA-Z0-9_-]+`)

// machineName is the host name in the form of a worker id.
func machineName() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("%w: give the worker a name with --worker-id", err)
	}
	name = notInID.ReplaceAllString(name, "-")
	return name[:min(len(name), 38)], nil
}
