package cli

import (
	"fmt"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
)

type taskStatusCommand struct {
	oneTask
	remote
}

func (*taskStatusCommand) Help() string {
	return examples(
		"taskcluster task status fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster task status fN1SbArXTPSVFNUvaOlinQ --json")
}

// Run prints the state of a task.
func (c *taskStatusCommand) Run(s *session) error {
	q, _, err := c.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	reply, err := statusOf(s.ctx, q, string(c.TaskID))
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(reply)
	}
	return s.printStatus(&reply.Status)
}

// printStatus prints a task's state for people.
func (s *session) printStatus(status *queue.TaskStatus) error {
	rows := [][]string{
		{"Task", status.TaskID},
		{"State", stateText(status)},
		{"Group", status.TaskGroupID},
		{"Queue", status.TaskQueueID},
		{"Deadline", status.Deadline.String()},
		{"Retries left", fmt.Sprint(status.RetriesLeft)},
	}
	for i := range status.Runs {
		rows = append(rows, []string{fmt.Sprintf("Run %d", status.Runs[i].RunID), describeRun(&status.Runs[i], client.At(s.now()))})
	}
	return table(s.stdout, rows)
}

// describeRun says what became of a run, when and where.
func describeRun(run *queue.TaskStatusRun, now client.Time) string {
	text := run.State
	if run.ReasonResolved != "" && run.ReasonResolved != run.State {
		text += " (" + run.ReasonResolved + ")"
	}
	switch {
	case !run.Resolved.IsZero() && !run.Started.IsZero():
		text += fmt.Sprintf(" after %s, at %s", short(run.Resolved.Sub(run.Started.Time)), run.Resolved.UTC().Format(time.RFC3339))
	case !run.Resolved.IsZero():
		text += " at " + run.Resolved.UTC().Format(time.RFC3339)
	case !run.Started.IsZero():
		text += " for " + short(now.Sub(run.Started.Time))
	default:
		text += " for " + short(now.Sub(run.Scheduled.Time))
	}
	if run.WorkerID != "" {
		text += " on " + run.WorkerGroup + "/" + run.WorkerID
	}
	return text
}
