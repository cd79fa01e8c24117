// Package sqlite is the store's engine for one machine: SQLite in pure Go, one
// writing connection and several reading ones on one file.
package sqlite

import (
	"context"
	"errors"

	"taskcluster/internal/store"
)

// Open opens the database file at path, making it if it does not exist, and
// applies the migrations.
func Open(ctx context.Context, path string, opts store.Options) (*store.Store, error) {
	return nil, errors.New("sqlite: being written")
}
