// Package task is a run of a task as the parts of the worker see it: what was
// claimed, its payload, its log, its place on the disk, and the part of the
// queue that concerns it. It also says in which ways a run can end.
package task

import (
	"context"
	"encoding/json"
	"errors"

	"taskcluster/internal/clock"
	"taskcluster/worker/payload"
	"taskcluster/worker/tasklog"
)

// Definition is what the worker needs of a task's definition.
type Definition struct {
	ProvisionerID string          `json:"provisionerId"`
	WorkerType    string          `json:"workerType"`
	TaskQueueID   string          `json:"taskQueueId"`
	TaskGroupID   string          `json:"taskGroupId"`
	Created       clock.Time      `json:"created"`
	Deadline      clock.Time      `json:"deadline"`
	Expires       clock.Time      `json:"expires"`
	Payload       json.RawMessage `json:"payload"`
}

// Run is one run of a task, claimed by this worker.
type Run struct {
	TaskID     string
	RunID      int
	Definition Definition
	Payload    *payload.Payload // nil until it was found valid
	Log        *tasklog.Log
	LogPath    string // file of the log
	Dir        string // the commands' working directory
	Queue      Queue
	Clock      clock.Clock
}

// Queue creates artifacts of one run, with the credentials that the run has at
// that moment.
type Queue interface {
	// CreateArtifact answers with the URL to PUT to, for storage type s3.
	CreateArtifact(ctx context.Context, name string, a Artifact) (putURL string, err error)
}

// Artifact is the payload of createArtifact.
type Artifact struct {
	StorageType   string     `json:"storageType"` // s3, reference, link or error
	Expires       clock.Time `json:"expires"`
	ContentType   string     `json:"contentType,omitempty"`
	ContentLength *int64     `json:"contentLength,omitempty"`
	URL           string     `json:"url,omitempty"`      // of a reference
	Artifact      string     `json:"artifact,omitempty"` // a link's target
	Reason        string     `json:"reason,omitempty"`   // of an error
	Message       string     `json:"message,omitempty"`  // of an error
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
