package cli

import (
	"fmt"

	"taskcluster/internal/app"
)

type adminRestoreCommand struct {
	From  string `arg:"" name:"directory" help:"Backup that taskcluster admin backup made."`
	Force bool   `help:"Replace a database that is there already; it is moved aside, not deleted."`
	place
}

func (*adminRestoreCommand) Help() string {
	return `The deployment must be stopped. The backup is read through before anything is
touched. PostgreSQL is restored with pg_restore.

` + examples(
		"taskcluster admin restore --data-dir /var/lib/taskcluster /backup/2026-11-26",
		"taskcluster admin restore --data-dir /var/lib/taskcluster --force /backup/2026-11-26")
}

// Run restores the backup.
func (c *adminRestoreCommand) Run(s *session) error {
	settings, err := c.settings(s)
	if err != nil {
		return err
	}
	r, err := app.Restore(s.ctx, settings, c.From, c.Force)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(r)
	}
	if r.Aside != "" {
		fmt.Fprintf(s.stdout, "What was there before is in %s; delete it when all is well.\n", printable(r.Aside))
	}
	_, err = fmt.Fprintf(s.stdout, "Restored into %s: the database, keys, root.env, and %d artifacts. Start it with \"taskcluster serve\".\n", printable(r.DataDir), r.Artifacts)
	return err
}
