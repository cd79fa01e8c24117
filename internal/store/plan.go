package store

import (
	"context"
	"errors"
	"fmt"
)

// MissingStep is a migration that a database lacks.
type MissingStep struct {
	Component string `json:"component"`
	Number    int    `json:"number"`
	Name      string `json:"name"`
}

// Missing lists the steps of all that the database lacks, in the order in which
// opening it would apply them. It changes nothing. What opening would refuse (a
// newer schema, an altered step) is an error here as well.
func (s *Store) Missing(ctx context.Context, all []Migrations) (missing []MissingStep, err error) {
	err = s.Read(ctx, func(tx *Tx) error {
		missing, err = plan(tx, s.engine.Dialect(), s.engine.Where(), all)
		return err
	})
	return missing, err
}

// Plan is Missing for a database that is not to be opened, through a connection
// of the engine of that dialect. where names the database in messages; conn is
// nil when there is none yet.
func Plan(ctx context.Context, dialect, where string, conn Conn, all []Migrations) (missing []MissingStep, err error) {
	if conn == nil {
		return plan(nil, dialect, where, all)
	}
	if err := conn.Begin(); err != nil {
		return nil, err
	}
	tx := Tx{conn: conn, ctx: ctx, readOnly: true}
	err = tx.run(func(tx *Tx) error {
		missing, err = plan(tx, dialect, where, all)
		return err
	})
	return missing, errors.Join(err, conn.Rollback())
}

var planStmt = struct{ exists *Stmt }{
	exists: Dialect(
		`SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'store_migrations'`,
		`SELECT count(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('store_migrations')`),
}

func plan(tx *Tx, dialect, where string, all []Migrations) (missing []MissingStep, err error) {
	var tables int64
	if tx != nil {
		if err := tx.Row(planStmt.exists).Scan(&tables); err != nil {
			return nil, err
		}
	}
	for _, m := range append([]Migrations{OwnMigrations()}, all...) {
		steps, err := m.Load(dialect)
		if err != nil {
			return nil, err
		}
		have := 0
		if tables > 0 {
			if have, err = applied(tx, where, m.Component, steps); err != nil {
				return nil, err
			}
		}
		for _, step := range steps[have:] {
			missing = append(missing, MissingStep{m.Component, step.Number, step.Name})
		}
	}
	return missing, nil
}

// applied tells how many of the steps the database has. It refuses a database
// that has others, or more.
func applied(tx *Tx, where, component string, steps []Migration) (have int, err error) {
	rows := tx.Query(migrateStmt.applied, component)
	defer rows.Close()
	for rows.Next() {
		var number int
		var name, checksum string
		if err := rows.Scan(&number, &name, &checksum); err != nil {
			return 0, err
		}
		have = number
		if number <= len(steps) && steps[number-1].Checksum != checksum {
			return 0, fmt.Errorf("the tables of %s in %s were made by another step %04d_%s than this program has: the program or the database was altered",
				component, where, number, name)
		}
	}
	if rows.Err() != nil {
		return 0, rows.Err()
	}
	if have > len(steps) {
		return 0, fmt.Errorf("%w: %s holds version %d of the tables of %s, and this program knows them up to version %d; start the newer program",
			ErrNewerSchema, where, have, component, len(steps))
	}
	return have, nil
}
