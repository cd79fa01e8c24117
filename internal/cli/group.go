package cli

import (
	"context"
	"iter"

	"taskcluster/client/queue"
)

// groupCommands are the commands about a task group.
type groupCommands struct {
	List   groupListCommand   `cmd:"" help:"List the tasks of a group."`
	Status groupStatusCommand `cmd:"" help:"Count the tasks of a group by state."`
	Cancel groupCancelCommand `cmd:"" help:"Cancel all tasks of a group that are not resolved."`
}

// oneGroup is the argument that all of them have.
type oneGroup struct {
	TaskGroupID taskID `arg:"" name:"taskGroupId" help:"Identifier of the task group."`
}

// states in the order of a task's life.
var states = []string{"unscheduled", "pending", "running", "completed", "failed", "exception"}

// members returns the tasks of a group, page by page.
func (g *oneGroup) members(ctx context.Context, q *queue.Client) iter.Seq2[*queue.TaskDefinitionAndStatus, error] {
	return func(yield func(*queue.TaskDefinitionAndStatus, error) bool) {
		for page, err := range q.ListTaskGroupPages(ctx, string(g.TaskGroupID), queue.ListTaskGroupQuery{}) {
			if err != nil {
				yield(nil, err)
				return
			}
			if page.TaskGroupID != string(g.TaskGroupID) || page.Tasks == nil {
				yield(nil, errUnexpected)
				return
			}
			for i := range page.Tasks {
				if status := &page.Tasks[i].Status; checkStatus(status.TaskID, status) != nil || status.TaskID == "" {
					yield(nil, errUnexpected)
					return
				}
				if !yield(&page.Tasks[i], nil) {
					return
				}
			}
		}
	}
}
