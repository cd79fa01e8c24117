package cli

import (
	"fmt"
	"log/slog"
	"os"

	"taskcluster/internal/config"
)

// adminCommands are for whoever operates a deployment, on a machine of it.
type adminCommands struct {
	Check       adminCheckCommand    `cmd:"" help:"Look at what a deployment needs: a sentence for each."`
	Migrate     adminMigrateCommand  `cmd:"" help:"Bring the database's tables up to date, and end."`
	Backup      adminBackupCommand   `cmd:"" help:"Copy the database and the keys, while the deployment runs."`
	Restore     adminRestoreCommand  `cmd:"" help:"Put a backup into a data directory."`
	DeadLetters adminLettersCommands `cmd:"" name:"dead-letters" help:"Look at events that a consumer has given up, and give them back."`
}

// place is where a deployment keeps what it knows; the other settings come from
// the environment and the file, as for serve.
type place struct {
	Config      string         `placeholder:"FILE" help:"Settings file of the deployment (default: TASKCLUSTER_CONFIG, or else none)."`
	DataDir     *string        `name:"data-dir" placeholder:"DIR" help:"Its data directory (default: as for serve)."`
	PostgresURL *config.Secret `name:"postgres-url" placeholder:"URL" help:"Its PostgreSQL database (default: as for serve). file:PATH and env:NAME are read from there."`
	JSON        bool           `name:"json" help:"Print JSON."`
}

// settings are those of the deployment.
func (p *place) settings(s *session) (config.Settings, error) {
	flags := settingFlags{Config: p.Config, Settings: config.Settings{DataDir: p.DataDir, PostgresURL: p.PostgresURL}}
	settings, _, err := flags.load(s)
	if err == nil {
		err = checkOwner(*settings.DataDir)
	}
	return settings, err
}

// checkOwner refuses to work as root in another user's data directory: files
// that root makes there would be closed to the server.
func checkOwner(dir string) error {
	if owner, ok := ownerOf(dir); ok && os.Geteuid() == 0 && owner != 0 {
		return fmt.Errorf("%s belongs to another user, who could not use what root writes there: run this as the user who runs serve, like sudo -u '#%d' taskcluster …", dir, owner)
	}
	return nil
}

// adminLog lets commands tell what is wrong meanwhile.
func adminLog(s *session) *slog.Logger {
	return slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
