package cli

import (
	"fmt"

	"taskcluster/internal/app"
)

type adminBackupCommand struct {
	To        string `arg:"" name:"directory" help:"Directory to make; it must not be there yet."`
	Artifacts bool   `help:"Also copy the artifacts in the data directory."`
	place
}

func (*adminBackupCommand) Help() string {
	return `The copy is one snapshot, read through before the command ends, and appears
under its name when it is whole. It holds the deployment's secrets: keep it as
safe as the original. PostgreSQL is backed up with pg_dump.

` + examples(
		"taskcluster admin backup --config /etc/taskcluster.yml /backup/$(date +%F)",
		"taskcluster admin backup --data-dir /var/lib/taskcluster --artifacts /backup/all")
}

// Run makes the backup.
func (c *adminBackupCommand) Run(s *session) error {
	settings, err := c.settings(s)
	if err != nil {
		return err
	}
	b, err := app.Backup(s.ctx, settings, c.To, c.Artifacts)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(b)
	}
	_, err = fmt.Fprintf(s.stdout, "Backed up to %s: the database (%d bytes), keys, root.env, and %d artifacts (%d bytes).\n",
		printable(b.Directory), b.DatabaseBytes, b.Artifacts, b.ArtifactBytes)
	return err
}
