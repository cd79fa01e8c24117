package cli

import (
	"fmt"

	"taskcluster/internal/app"
	"taskcluster/internal/store"
)

type adminMigrateCommand struct {
	Check bool `help:"Only tell which steps are missing; the exit status is 1 if there are any."`
	place
}

func (*adminMigrateCommand) Help() string {
	return `serve does the same when it starts. With PostgreSQL, nodes of the version before
may go on running meanwhile; with SQLite the server must be stopped. There is no
way back but a backup.

` + examples(
		"taskcluster admin migrate --check --config /etc/taskcluster.yml",
		"taskcluster admin migrate --config /etc/taskcluster.yml")
}

// Run applies what is missing.
func (c *adminMigrateCommand) Run(s *session) error {
	settings, err := c.settings(s)
	if err != nil {
		return err
	}
	missing, err := app.MissingMigrations(s.ctx, settings)
	if err != nil {
		return err
	}
	if !c.Check && len(missing) > 0 {
		if err := app.Migrate(s.ctx, settings, adminLog(s)); err != nil {
			return err
		}
	}
	if err := c.print(s, missing); err != nil {
		return err
	}
	if c.Check && len(missing) > 0 {
		return exitStatus(statusFailed)
	}
	return nil
}

func (c *adminMigrateCommand) print(s *session, steps []store.MissingStep) error {
	key, title := "applied", "Applied"
	if c.Check {
		key, title = "missing", "Missing"
	}
	if c.JSON {
		return s.printJSON(map[string]any{key: append([]store.MissingStep{}, steps...)})
	}
	if len(steps) == 0 {
		_, err := fmt.Fprintln(s.stdout, "The database is up to date.")
		return err
	}
	for _, step := range steps {
		if _, err := fmt.Fprintf(s.stdout, "%s: %s %04d_%s\n", title, step.Component, step.Number, step.Name); err != nil {
			return err
		}
	}
	return nil
}
