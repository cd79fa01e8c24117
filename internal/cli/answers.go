package cli

import (
	"context"
	"errors"
	"slices"

	"taskcluster/client/queue"
)

// errUnexpected says that a server answered, but not as a queue does: JSON of
// another shape would else be shown as a task with nothing in it.
var errUnexpected = errors.New("unexpected answer: it is not that of a Taskcluster queue; check the root URL and what stands before the server")

// checkStatus refuses a status that is not that of the task.
func checkStatus(id string, status *queue.TaskStatus) error {
	if status.TaskID != id || !slices.Contains(states, status.State) {
		return errUnexpected
	}
	return nil
}

// statusOf asks for the status of a task.
func statusOf(ctx context.Context, q *queue.Client, id string) (*queue.TaskStatusResponse, error) {
	reply, err := q.Status(ctx, id)
	if err == nil {
		err = checkStatus(id, &reply.Status)
	}
	if err != nil {
		return nil, err
	}
	return reply, nil
}
