package cli

import (
	"fmt"

	"taskcluster/internal/app"
)

type referencesCommand struct {
	Dir string `arg:"" help:"Directory that gets references/ and schemas/."`
}

func (*referencesCommand) Help() string {
	return `Writes the API references, exchange references and JSON schemas that a deployment
of this version publishes. Clients for other languages are generated from them.

` + examples("taskcluster references api-docs")
}

// Run writes the files.
func (c *referencesCommand) Run(s *session) error {
	if err := app.WriteReferences(s.ctx, c.Dir); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.stderr, "Wrote %s/references and %s/schemas.\n", c.Dir, c.Dir)
	return err
}
