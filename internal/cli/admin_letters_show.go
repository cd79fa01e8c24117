package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
)

type adminLettersShowCommand struct {
	ID int64 `arg:"" name:"id" help:"Number of the dead letter, as list prints it."`
	place
}

func (*adminLettersShowCommand) Help() string {
	return examples("taskcluster admin dead-letters show 17", "taskcluster admin dead-letters show 17 --json")
}

// Run prints a dead letter.
func (c *adminLettersShowCommand) Run(s *session) error {
	l, err := c.letters(s)
	if err != nil {
		return err
	}
	defer l.Close()
	d, err := l.Show(s.ctx, c.ID)
	if err != nil {
		return explainLetter(c.ID, err)
	}
	if c.JSON {
		return s.printJSON(d)
	}
	err = table(s.stdout, [][]string{
		{"Consumer", d.Consumer}, {"Exchange", d.Exchange}, {"Routing key", d.RoutingKey}, {"Published", d.Published},
		{"Given up", d.Died}, {"Attempts", fmt.Sprint(d.Attempts)}, {"Error", d.Error},
	})
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, d.Payload, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "\n%s\n", text.String())
	return err
}
