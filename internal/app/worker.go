package app

import (
	"fmt"
	"path/filepath"
	"time"

	"taskcluster/client"
	"taskcluster/internal/hawk"
	"taskcluster/internal/store/keyring"
	"taskcluster/worker"
	"taskcluster/worker/engine/native"
)

// The local worker's names, and the path below which it serves logs.
const (
	localTaskQueue = "local/native"
	localGroup     = "local"
	localWorkerID  = "worker"
	liveLogPath    = "/livelog/"
)

// How long running tasks have to finish when the program stops, and how long a
// command that is being ended has between SIGTERM and SIGKILL.
const (
	taskGrace    = 10 * time.Second
	commandGrace = 2 * time.Second
)

// localWorker makes the worker of `serve --worker`. It calls the services
// without a socket, and its live logs are served by this process.
func (a *App) localWorker(keys *keyring.Keyring) (*worker.Worker, error) {
	w, err := worker.New(worker.Config{
		RootURL: a.rootURL, Transport: client.InProcess(a.handler),
		Credentials: hawk.Credentials{ClientID: workerClient, AccessToken: serviceToken(keys, workerClient)},
		TaskQueueID: localTaskQueue, WorkerGroup: localGroup, WorkerID: localWorkerID,
		Engine: &native.Engine{Grace: commandGrace}, Grace: taskGrace, TasksDir: filepath.Join(*a.settings.DataDir, "tasks"),
		Capacity: *a.settings.WorkerCapacity, LiveLogURL: a.rootURL + liveLogPath, Log: a.log,
		Metadata: map[string]any{"version": Version().Version},
	})
	if err != nil {
		return nil, fmt.Errorf("the local worker cannot start: %w", err)
	}
	return w, nil
}
