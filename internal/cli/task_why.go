package cli

import (
	"fmt"

	"taskcluster/client/queue"
)

type taskWhyCommand struct {
	oneTask
	remote
}

func (*taskWhyCommand) Help() string {
	return examples(
		"taskcluster task why fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster task why fN1SbArXTPSVFNUvaOlinQ --json")
}

// Run says why a task does not run.
func (c *taskWhyCommand) Run(s *session) error {
	q, _, err := c.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	reply, err := q.WhyPending(s.ctx, string(c.TaskID))
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(reply)
	}
	fmt.Fprintln(s.stdout, reply.Summary)
	return s.printBlockers(reply.Blockers)
}

// printBlockers lists the dependencies that a task waits for.
func (s *session) printBlockers(blockers []queue.WhyPendingResponseBlocker) error {
	rows := make([][]string, 0, len(blockers))
	for _, b := range blockers {
		rows = append(rows, []string{b.TaskID, b.State})
	}
	return table(s.stdout, rows)
}
