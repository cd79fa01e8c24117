package app

import (
	"context"
	"path/filepath"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/events"
	"taskcluster/internal/store"
	"taskcluster/internal/store/keyring"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/store/sqlite"
	"taskcluster/services/auth"
	"taskcluster/services/object"
	"taskcluster/services/pulse"
	"taskcluster/services/purgecache"
	"taskcluster/services/queue"
)

// migrations make the tables of everything that keeps something in the database.
func migrations() []store.Migrations {
	return []store.Migrations{events.Migrations, api.Migrations(), auth.Migrations(), queue.Migrations(), object.Migrations(), purgecache.Migrations(), pulse.Migrations()}
}

// openDatabase opens the database, PostgreSQL's or a file in the data directory.
// With the latter it opens the keys that seal what is secret in it, because the
// one without the other is a loss.
func (a *App) openDatabase(ctx context.Context) (keys *keyring.Keyring, err error) {
	dir := *a.settings.DataDir
	opts := store.Options{
		Clock: clock.Real{}, Log: a.log, Tracer: a.tracing.Tracer(), Observer: a.metrics, Migrations: migrations(),
	}
	if url := a.settings.PostgresURL; url != nil {
		a.store, err = postgres.Open(ctx, string(*url), opts)
		return nil, err
	}
	file := filepath.Join(dir, databaseName)
	if keys, err = openKeys(dir, file); err == nil {
		a.store, err = sqlite.Open(ctx, file, opts)
	}
	return keys, err
}
