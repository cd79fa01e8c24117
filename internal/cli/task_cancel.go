package cli

import (
	"context"
	"fmt"

	"taskcluster/client/queue"
)

type taskCancelCommand struct {
	oneTask
	remote
}

func (*taskCancelCommand) Help() string {
	return examples("taskcluster task cancel fN1SbArXTPSVFNUvaOlinQ")
}

// Run cancels a task.
func (c *taskCancelCommand) Run(s *session) error {
	return change(s, &c.remote, c.TaskID, (*queue.Client).CancelTask, func(status *queue.TaskStatus) string {
		if !canceled(status) {
			return ": it was resolved before"
		}
		return ""
	})
}

type taskRerunCommand struct {
	oneTask
	remote
}

func (*taskRerunCommand) Help() string {
	return "The task keeps its identifier and gets a new run.\n\n" + examples(
		"taskcluster task rerun fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster task log --follow fN1SbArXTPSVFNUvaOlinQ")
}

// Run gives a resolved task another run.
func (c *taskRerunCommand) Run(s *session) error {
	return change(s, &c.remote, c.TaskID, (*queue.Client).RerunTask, func(*queue.TaskStatus) string { return "" })
}

// canceled reports whether a task ended by being cancelled.
func canceled(status *queue.TaskStatus) bool {
	run := latest(status)
	return run != nil && run.ReasonResolved == "canceled"
}

// change calls a method that answers with the new status of a task, and prints
// it with a remark.
func change(s *session, r *remote, id taskID,
	method func(*queue.Client, context.Context, string) (*queue.TaskStatusResponse, error),
	remark func(*queue.TaskStatus) string,
) error {
	q, _, err := r.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	reply, err := method(q, s.ctx, string(id))
	if err == nil {
		err = checkStatus(string(id), &reply.Status)
	}
	if err != nil {
		return err
	}
	if r.JSON {
		return s.printJSON(reply)
	}
	_, err = fmt.Fprintf(s.stdout, "%s is %s%s\n", id, stateText(&reply.Status), remark(&reply.Status))
	return err
}
