package cli

import (
	"fmt"

	"taskcluster/internal/app"
)

type adminLettersListCommand struct {
	place
}

func (*adminLettersListCommand) Help() string {
	return `A consumer that fails ten times with an event gives it up and goes on; the event
waits here for an operator. Works while the deployment runs.

` + examples(
		"taskcluster admin dead-letters list",
		"taskcluster admin dead-letters list --config /etc/taskcluster.yml --json")
}

// Run prints the dead letters.
func (c *adminLettersListCommand) Run(s *session) error {
	l, err := c.letters(s)
	if err != nil {
		return err
	}
	defer l.Close()
	all := []app.DeadLetter{}
	for after := int64(0); ; {
		page, err := l.List(s.ctx, after, lettersPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		after = page[len(page)-1].ID
	}
	if c.JSON {
		return s.printJSON(all)
	}
	if len(all) == 0 {
		fmt.Fprintln(s.stderr, "There are no dead letters.")
		return nil
	}
	rows := [][]string{{"ID", "CONSUMER", "DIED", "ATTEMPTS", "EXCHANGE", "ERROR"}}
	for _, d := range all {
		note := d.Error
		if d.Replay {
			note = "(waits for its replay) " + note
		}
		rows = append(rows, []string{fmt.Sprint(d.ID), d.Consumer, d.Died, fmt.Sprint(d.Attempts), d.Exchange, note})
	}
	return table(s.stdout, rows)
}
