package cli

import (
	"fmt"
)

type groupStatusCommand struct {
	oneGroup
	remote
}

func (*groupStatusCommand) Help() string {
	return examples(
		"taskcluster group status fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster group status fN1SbArXTPSVFNUvaOlinQ --json | jq .states.failed")
}

// Run counts tasks by state.
func (c *groupStatusCommand) Run(s *session) error {
	q, _, err := c.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	total, counts := 0, make(map[string]int, len(states))
	for _, state := range states {
		counts[state] = 0
	}
	for t, err := range c.members(s.ctx, q) {
		if err != nil {
			return err
		}
		total++
		counts[t.Status.State]++
	}
	if c.JSON {
		return s.printJSON(map[string]any{"taskGroupId": c.TaskGroupID, "tasks": total, "states": counts})
	}
	var rows [][]string
	for _, state := range states {
		if counts[state] > 0 {
			rows = append(rows, []string{state, fmt.Sprint(counts[state])})
		}
	}
	return table(s.stdout, append(rows, []string{"total", fmt.Sprint(total)}))
}
