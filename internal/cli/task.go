package cli

import (
	"fmt"

	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
)

// taskCommands are the commands about one task.
type taskCommands struct {
	Status    taskStatusCommand    `cmd:"" help:"Show the state of a task and its runs."`
	Why       taskWhyCommand       `cmd:"" help:"Say why a task does not run."`
	Log       taskLogCommand       `cmd:"" help:"Print a task's log."`
	Artifacts taskArtifactsCommand `cmd:"" help:"List a task's artifacts, or fetch one."`
	Cancel    taskCancelCommand    `cmd:"" help:"Cancel a task."`
	Rerun     taskRerunCommand     `cmd:"" help:"Run a resolved task again."`
	Def       taskDefCommand       `cmd:"" help:"Print a task's definition."`
}

// oneTask is the argument that all of them have.
type oneTask struct {
	TaskID taskID `arg:"" name:"taskId" help:"Identifier of the task."`
}

// taskID is a slugid given on the command line; task groups have such, too.
type taskID string

// Validate is called by kong.
func (id taskID) Validate() error {
	if _, err := slugid.Parse(string(id)); err != nil {
		return fmt.Errorf("%q is not an identifier: those are 22 characters made by slugid, like fN1SbArXTPSVFNUvaOlinQ", string(id))
	}
	return nil
}

// latest returns a task's latest run, or nil.
func latest(status *queue.TaskStatus) *queue.TaskStatusRun {
	if len(status.Runs) == 0 {
		return nil
	}
	return &status.Runs[len(status.Runs)-1]
}

// stateText is the state with the reason for it, when that says more.
func stateText(status *queue.TaskStatus) string {
	run := latest(status)
	if run == nil || run.ReasonResolved == "" || run.ReasonResolved == run.State || run.State != status.State {
		return status.State
	}
	return status.State + " (" + run.ReasonResolved + ")"
}
