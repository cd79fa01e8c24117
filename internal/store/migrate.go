package store

import (
	"context"
	"embed"
	"io/fs"

	"taskcluster/internal/clock"
)

// Migrations are the steps that build one component's tables. FS holds
// sqlite/NNNN_name.sql and postgres/NNNN_name.sql, numbered from 0001 without
// gaps, the same numbers and names for both engines. A step that was released
// is never changed again.
type Migrations struct {
	Component string
	FS        fs.FS
}

//go:embed migrations
var ownFS embed.FS

func ownMigrations() Migrations {
	sub, err := fs.Sub(ownFS, "migrations")
	if err != nil {
		panic(err)
	}
	return Migrations{Component: "store", FS: sub}
}

func migrate(ctx context.Context, engine Engine, c clock.Clock, all []Migrations) error {
	return nil
}
