package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"taskcluster/client"
	"taskcluster/internal/clock"
	"taskcluster/worker/engine"
	"taskcluster/worker/feature/environment"
)

// Config is what a worker needs to know. RootURL, Credentials, TaskQueueID,
// WorkerGroup, WorkerID, TasksDir and Engine are required.
type Config struct {
	RootURL     string
	Credentials client.Credentials // with queue:claim-work:<taskQueueId> and queue:worker-id:<workerGroup>/<workerId>; better also queue:status:*
	TaskQueueID string             // "<provisionerId>/<workerType>"
	WorkerGroup string
	WorkerID    string
	Engine      engine.Engine
	TasksDir    string // directory of the worker's own, for runs under way

	Capacity       int           // runs at a time; default 1
	MaxTaskRunTime time.Duration // longest maxRunTime that a payload may ask for; default 24 h
	IdleTimeout    time.Duration // Run returns ErrIdle after so long without work; 0: never
	NumberOfTasks  int           // Run returns after so many runs; 0: unlimited
	Grace          time.Duration // that running tasks have when the worker is stopped
	StatusInterval time.Duration // after which the worker asks whether a run is still its own; default 10 s
	LogLimit       int64         // bytes of output that a run's log keeps; 0: as large as the disk allows

	// Transport reaches the deployment; default: the network. URLs elsewhere,
	// where artifacts may have to be uploaded, are always reached over the network.
	Transport http.RoundTripper
	// LiveLogURL is where readers reach LiveLogHandler, if somebody serves it.
	// Otherwise the worker serves it on LiveLogListen, by default "127.0.0.1:0".
	LiveLogURL    string
	LiveLogListen string

	InstanceType   string         // for the tasks' TASKCLUSTER_INSTANCE_TYPE
	WorkerLocation string         // JSON object for TASKCLUSTER_WORKER_LOCATION
	Metadata       map[string]any // printed at the head of each log; nothing secret
	Inherit        []string       // environment that tasks inherit; default: the worker's without what may be secret
	Log            *slog.Logger   // of the worker itself; default: none
	Clock          clock.Clock    // default: the machine's
	Retry          RetryPauses    // how to wait between tries
}

// RetryPauses are the pauses of the worker before it tries again. They double
// with each try. Zero values are the defaults.
type RetryPauses struct {
	Claim  time.Duration // first after a claim that failed; default 1 s, at most 1 min
	Upload time.Duration // first after an upload that failed; default 1 s
	Call   time.Duration // longest between the tries of one API call; default 30 s
}

var identifier = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,38}$`)

// withDefaults checks c and fills it in.
func (c Config) withDefaults() (Config, error) {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.RootURL == "" {
		bad("there is no root URL")
	}
	provisionerID, workerType, _ := strings.Cut(c.TaskQueueID, "/")
	if !identifier.MatchString(provisionerID) || !identifier.MatchString(workerType) {
		bad("%q is not a task queue, <provisionerId>/<workerType>", c.TaskQueueID)
	}
	if !identifier.MatchString(c.WorkerGroup) || !identifier.MatchString(c.WorkerID) {
		bad("worker group %q and worker id %q must be 1 to 38 letters, digits, - and _", c.WorkerGroup, c.WorkerID)
	}
	if c.Engine == nil {
		bad("there is no engine")
	} else if err := c.Engine.Check(); err != nil {
		bad("%w", err)
	}
	if c.TasksDir == "" {
		bad("there is no directory for tasks")
	}
	if c.Capacity < 0 || c.NumberOfTasks < 0 || c.MaxTaskRunTime < 0 {
		bad("a number is negative")
	}
	if len(problems) > 0 {
		return c, fmt.Errorf("worker: %w", errors.Join(problems...))
	}
	dir, err := filepath.Abs(c.TasksDir)
	if err != nil {
		return c, err
	}
	c.TasksDir = dir
	c.RootURL = strings.TrimRight(c.RootURL, "/")
	if c.Capacity == 0 {
		c.Capacity = 1
	}
	if c.MaxTaskRunTime == 0 {
		c.MaxTaskRunTime = 24 * time.Hour
	}
	if c.StatusInterval <= 0 {
		c.StatusInterval = 10 * time.Second
	}
	if c.LiveLogListen == "" {
		c.LiveLogListen = "127.0.0.1:0"
	}
	if c.Inherit == nil {
		c.Inherit = environment.Inherit(os.Environ())
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = clock.Real{}
	}
	if c.Retry.Claim <= 0 {
		c.Retry.Claim = time.Second
	}
	return c, nil
}
