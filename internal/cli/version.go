package cli

import (
	"fmt"

	"taskcluster/internal/app"
)

type versionCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (*versionCommand) Help() string {
	return examples("taskcluster version", "taskcluster version --json")
}

// Run prints the version.
func (c *versionCommand) Run(s *session) error {
	v := app.Version()
	if c.JSON {
		return s.printJSON(v)
	}
	commit := v.Commit
	if commit == "" {
		commit = "unknown commit"
	}
	_, err := fmt.Fprintf(s.stdout, "taskcluster %s (%s, %s)\n", v.Version, commit, v.Build)
	return err
}
