package app

import (
	"context"
	"log/slog"
	"path/filepath"

	"taskcluster/internal/config"
	"taskcluster/internal/obs"
	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/store/sqlite"
)

// databaseName is the file of the database in the data directory.
const databaseName = "taskcluster.db"

// MissingMigrations lists the steps that the database lacks. It changes nothing,
// and works beside a running deployment.
func MissingMigrations(ctx context.Context, settings config.Settings) ([]store.MissingStep, error) {
	if settings.PostgresURL != nil {
		return postgres.Missing(ctx, string(*settings.PostgresURL), migrations())
	}
	return sqlite.Missing(ctx, filepath.Join(*settings.DataDir, databaseName), migrations())
}

// Migrate brings the database up to date, as serve does when it starts. With
// PostgreSQL nodes of the version before may go on beside it; with SQLite no
// server may run.
func Migrate(ctx context.Context, settings config.Settings, log *slog.Logger) error {
	a := idle(settings, log)
	if err := prepareDir(*settings.DataDir); err != nil {
		return err
	}
	if _, err := a.openDatabase(ctx); err != nil {
		return err
	}
	return a.close()
}

// idle is a deployment that serves nothing, for those who need its database.
func idle(settings config.Settings, log *slog.Logger) *App {
	return &App{settings: settings, log: log, metrics: obs.NewMetrics(Version().Version, Version().Commit)}
}
