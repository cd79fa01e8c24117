package queue

import (
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
)

// state is what a run, and by its last run a task, is in. The numbers are
// stored.
type state uint8

const (
	unscheduled state = iota
	pending
	running
	completed
	failed
	exception
)

var stateNames = [...]string{"unscheduled", "pending", "running", "completed", "failed", "exception"}

func (s state) String() string { return stateNames[s] }

// resolved tells whether no worker will touch the run any more.
func (s state) resolved() bool { return s >= completed }

// reason is why a run was made or resolved. The numbers are stored.
type reason uint8

const (
	noReason reason = iota
	// why a run was made
	reasonScheduled
	reasonRetry
	reasonTaskRetry
	reasonRerun
	reasonException
	// why a run was resolved
	reasonCompleted
	reasonFailed
	reasonDeadlineExceeded
	reasonCanceled
	reasonClaimExpired
	reasonWorkerShutdown
	reasonMalformedPayload
	reasonResourceUnavailable
	reasonInternalError
	reasonIntermittentTask
)

var reasonNames = [...]string{"", "scheduled", "retry", "task-retry", "rerun", "exception",
	"completed", "failed", "deadline-exceeded", "canceled", "claim-expired", "worker-shutdown",
	"malformed-payload", "resource-unavailable", "internal-error", "intermittent-task"}

func (r reason) String() string { return reasonNames[r] }

// reported gives the reason that a worker may name in reportException.
func reported(name string) (reason, bool) {
	for r := reasonWorkerShutdown; r <= reasonIntermittentTask; r++ {
		if reasonNames[r] == name {
			return r, true
		}
	}
	return noReason, false
}

// retryAs is the reason of the run that follows one resolved as r, or noReason
// when none follows.
func (r reason) retryAs() reason {
	switch r {
	case reasonClaimExpired, reasonWorkerShutdown:
		return reasonRetry
	case reasonIntermittentTask:
		return reasonTaskRetry
	}
	return noReason
}

// priority orders pending tasks; 7 is the highest. The numbers are stored.
type priority uint8

const (
	lowest  priority = 1
	highest priority = 7
)

var priorityNames = [...]string{"", "lowest", "very-low", "low", "medium", "high", "very-high", "highest"}

func (p priority) String() string { return priorityNames[p] }

func parsePriority(name string) (priority, bool) {
	for p := lowest; p <= highest; p++ {
		if priorityNames[p] == name {
			return p, true
		}
	}
	return 0, false
}

// run is one attempt at a task.
type run struct {
	id             int
	state          state
	reasonCreated  reason
	reasonResolved reason
	scheduled      clock.Time
	started        clock.Time
	workerGroup    string
	workerID       string
	takenUntil     clock.Time
	resolved       clock.Time
}

// maxRuns is how many runs a task may have.
const maxRuns = 50

// maxWorkerName is how long a workerGroup or a workerId may be.
const maxWorkerName = 38

// task is a task as transitions see it: everything but the definition.
type task struct {
	row           int64 // tasks.id
	id            slugid.ID
	group         slugid.ID
	groupRow      int64 // task_groups.id
	queue         string
	scheduler     string
	project       string
	priority      priority
	retries       int
	retriesLeft   int
	unsatisfied   int
	everResolved  bool
	hasDependents bool
	deadline      clock.Time
	expires       clock.Time
	tags          []byte // JSON object
	routes        []byte // JSON array
	concurrency   *concurrency

	last run   // id -1 and state unscheduled: there is none
	past []run // those before, in order
}

// state is the state of the last run.
func (t *task) state() state { return t.last.state }

// run gives run number n, or nil when there is none.
func (t *task) run(n int) *run {
	switch {
	case n == t.last.id:
		return &t.last
	case n >= 0 && n < len(t.past):
		return &t.past[n]
	}
	return nil
}

// due is when a timer next has to look at the task; 0 once it is resolved.
func (t *task) due() clock.Time {
	switch {
	case t.last.state.resolved():
		return 0
	case t.last.state == running:
		return min(t.last.takenUntil, t.deadline)
	}
	return t.deadline
}

// splitQueue gives provisionerId and workerType.
func splitQueue(taskQueueID string) (provisioner, workerType string) {
	for i := 0; i < len(taskQueueID); i++ {
		if taskQueueID[i] == '/' {
			return taskQueueID[:i], taskQueueID[i+1:]
		}
	}
	return taskQueueID, ""
}
