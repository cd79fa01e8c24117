package cli

import (
	"slices"

	"taskcluster/client/queue"
)

type groupListCommand struct {
	oneGroup
	State []string `placeholder:"STATE,…" enum:"unscheduled,pending,running,completed,failed,exception" help:"Only tasks in these states."`
	remote
}

func (*groupListCommand) Help() string {
	return examples(
		"taskcluster group list fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster group list fN1SbArXTPSVFNUvaOlinQ --state failed,exception")
}

// Run lists tasks.
func (c *groupListCommand) Run(s *session) error {
	q, _, err := c.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	var list struct {
		TaskGroupID string                           `json:"taskGroupId"`
		Tasks       []*queue.TaskDefinitionAndStatus `json:"tasks"`
	}
	list.TaskGroupID = string(c.TaskGroupID)
	list.Tasks = []*queue.TaskDefinitionAndStatus{}
	rows := [][]string{{"TASKID", "STATE", "RUNS", "NAME"}}
	for t, err := range c.members(s.ctx, q) {
		if err != nil {
			return err
		}
		if len(c.State) > 0 && !slices.Contains(c.State, t.Status.State) {
			continue
		}
		if c.JSON {
			list.Tasks = append(list.Tasks, t)
			continue
		}
		rows = append(rows, []string{t.Status.TaskID, stateText(&t.Status), runText(len(t.Status.Runs)), t.Task.Metadata.Name})
	}
	if c.JSON {
		return s.printJSON(list)
	}
	return table(s.stdout, rows)
}
