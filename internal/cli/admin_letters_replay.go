package cli

import "fmt"

type adminLettersReplayCommand struct {
	which
	place
}

func (*adminLettersReplayCommand) Help() string {
	return `The consumer tries each once, at once if it runs and otherwise when it starts.
What succeeds is gone; what fails again stays, with the new error.

` + examples(
		"taskcluster admin dead-letters replay 17 18",
		"taskcluster admin dead-letters replay --all")
}

// Run gives letters back.
func (c *adminLettersReplayCommand) Run(s *session) error {
	l, err := c.letters(s)
	if err != nil {
		return err
	}
	defer l.Close()
	done, err := c.each(s, l, func(id int64) error { return l.Replay(s.ctx, id) })
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(map[string][]int64{"replayed": done})
	}
	_, err = fmt.Fprintf(s.stdout, "%d dead letters were given back to their consumers; \"taskcluster admin dead-letters list\" shows those that fail again.\n", len(done))
	return err
}
