// Package task is a run of a task as the parts of the worker see it: what was
// claimed, its payload, its log, its place on the disk, and the queue. It also
// says in which ways a run can end.
package task

import (
	"context"
	"errors"
	"strconv"

	"taskcluster/client/queue"
	"taskcluster/internal/clock"
	"taskcluster/worker/payload"
	"taskcluster/worker/tasklog"
)

// Run is one run of a task, claimed by this worker.
type Run struct {
	TaskID     string
	RunID      int
	Definition queue.Task
	Payload    *payload.Payload
	Log        *tasklog.Log
	LogPath    string        // file of the log
	Dir        string        // the commands' working directory
	Queue      *queue.Client // calls with the credentials that the run has at that moment
	Clock      clock.Clock
}

// CreateArtifact creates an artifact of this run.
func (r *Run) CreateArtifact(ctx context.Context, name string, a *queue.PostArtifactRequest) (*queue.PostArtifactResponse, error) {
	return r.Queue.CreateArtifact(ctx, r.TaskID, strconv.Itoa(r.RunID), name, a)
}

// Resolution is how a run ends, in the words of the API.
type Resolution string

// The resolutions. All but Completed and Failed are reasons of an exception.
const (
	Completed           Resolution = "completed"
	Failed              Resolution = "failed"
	MalformedPayload    Resolution = "malformed-payload"
	ResourceUnavailable Resolution = "resource-unavailable"
	InternalError       Resolution = "internal-error"
	IntermittentTask    Resolution = "intermittent-task"
	WorkerShutdown      Resolution = "worker-shutdown"
	// Aborted ends a run that is no longer this worker's: cancelled, past its
	// deadline, or claimed anew. It is not reported.
	Aborted Resolution = "aborted"
)

// Failure is an error that decides how the run ends.
type Failure struct {
	Resolution Resolution
	Err        error
}

// Fail makes a Failure.
func Fail(r Resolution, err error) *Failure { return &Failure{r, err} }

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// ResolutionOf is how a run ends that met err: nil completes it, and what is
// no Failure is the worker's own fault.
func ResolutionOf(err error) Resolution {
	if err == nil {
		return Completed
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Resolution
	}
	return InternalError
}
