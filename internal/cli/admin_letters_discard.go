package cli

import "fmt"

type adminLettersDiscardCommand struct {
	which
	place
}

func (*adminLettersDiscardCommand) Help() string {
	return `What an event says is lost with it: its consumer never handles it.

` + examples(
		"taskcluster admin dead-letters discard 17 18",
		"taskcluster admin dead-letters discard --all")
}

// Run deletes letters.
func (c *adminLettersDiscardCommand) Run(s *session) error {
	l, err := c.letters(s)
	if err != nil {
		return err
	}
	defer l.Close()
	done, err := c.each(s, l, func(id int64) error { return l.Discard(s.ctx, id) })
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(map[string][]int64{"discarded": done})
	}
	_, err = fmt.Fprintf(s.stdout, "%d dead letters were deleted.\n", len(done))
	return err
}
