package app

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
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
	liveLogPath    = "/livelog/"
)

// How long running tasks have to finish when the program stops, and how long a
// command that is being ended has between SIGTERM and SIGKILL.
const (
	taskGrace    = 10 * time.Second
	commandGrace = 2 * time.Second
)

// localWorkerID is the local worker's id, the same after a restart. Processes that
// share a database have workers of different ids.
func (a *App) localWorkerID() string {
	if !a.store.Shared() {
		return "worker"
	}
	host, _ := os.Hostname() // "" will do
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, host)
	_, port, _ := net.SplitHostPort(a.listener.Addr().String())
	return id[:min(len(id), 24)] + "-" + port
}

// localWorker makes the worker of `serve --worker`. It calls the services
// without a socket, and its live logs are served by this process.
func (a *App) localWorker(keys *keyring.Keyring) (*worker.Worker, error) {
	w, err := worker.New(worker.Config{
		RootURL: a.rootURL, Transport: client.InProcess(a.handler),
		Credentials: hawk.Credentials{ClientID: workerClient, AccessToken: serviceToken(keys, workerClient)},
		TaskQueueID: localTaskQueue, WorkerGroup: localGroup, WorkerID: a.localWorkerID(),
		Engine: &native.Engine{Grace: commandGrace}, Grace: taskGrace, TasksDir: filepath.Join(*a.settings.DataDir, "tasks"),
		Capacity: *a.settings.WorkerCapacity, LiveLogURL: a.rootURL + liveLogPath, Log: a.log,
		Metadata: map[string]any{"version": Version().Version},
	})
	if err != nil {
		return nil, fmt.Errorf("the local worker cannot start: %w", err)
	}
	return w, nil
}
