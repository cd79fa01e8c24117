package cli

import (
	"taskcluster/internal/app"
)

type adminCheckCommand struct {
	settingFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (*adminCheckCommand) Help() string {
	return `Takes the settings of serve, and works whether the deployment runs or not.
The exit status is 0 unless a check fails; warnings are for people to read.

` + examples(
		"taskcluster admin check --config /etc/taskcluster.yml",
		"taskcluster admin check --config /etc/taskcluster.yml --json")
}

// Run prints what the checks find.
func (c *adminCheckCommand) Run(s *session) error {
	settings, _, err := c.load(s)
	if err != nil {
		return err
	}
	if err := checkOwner(*settings.DataDir); err != nil {
		return err
	}
	found := app.Check(s.ctx, settings, adminLog(s))
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	failed := false
	var rows [][]string
	for _, f := range found {
		failed = failed || f.Status == app.Fail
		rows = append(rows, []string{f.Check, string(f.Status), f.Message})
	}
	if c.JSON {
		err = s.printJSON(map[string]any{"ok": !failed, "checks": found})
	} else {
		err = table(s.stdout, rows)
	}
	if err == nil && failed {
		err = exitStatus(statusFailed)
	}
	return err
}
