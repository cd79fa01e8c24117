package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"

	"taskcluster/internal/clock"
)

// Migrations are the steps that build one component's tables. FS holds
// sqlite/NNNN_name.sql and postgres/NNNN_name.sql, or a folder migrations with
// these; numbered from 0001 without gaps, the same numbers and names for both
// engines. A step that was released is never changed again.
type Migrations struct {
	Component string
	FS        fs.FS
}

// Migration is one step.
type Migration struct {
	Number   int
	Name     string
	Script   string // statements of one engine, separated by semicolons
	Checksum string // SHA-256 of the script, in hexadecimal
}

//go:embed migrations
var ownFS embed.FS

// OwnMigrations are those of the tables that the store itself needs. New
// applies them first.
func OwnMigrations() Migrations { return Migrations{Component: "store", FS: ownFS} }

var migrationName = regexp.MustCompile(`^([0-9]{4})_([a-z0-9_]+)\.sql$`)

// Load reads the steps for one engine, in order. It is an error when the two
// engines do not have the same steps.
func (m Migrations) Load(dialect string) ([]Migration, error) {
	steps, err := m.load(dialect)
	if err != nil {
		return nil, err
	}
	other := Postgres
	if dialect == Postgres {
		other = SQLite
	}
	others, err := m.load(other)
	if err != nil {
		return nil, err
	}
	same := func(a, b Migration) bool { return a.Number == b.Number && a.Name == b.Name }
	if !slices.EqualFunc(steps, others, same) {
		return nil, fmt.Errorf("the migrations of %s differ in number or name between %s and %s", m.Component, SQLite, Postgres)
	}
	return steps, nil
}

func (m Migrations) load(dialect string) ([]Migration, error) {
	root := m.FS
	if sub, err := fs.Sub(root, "migrations"); err == nil {
		if _, err := fs.Stat(sub, dialect); err == nil {
			root = sub
		}
	}
	entries, err := fs.ReadDir(root, dialect)
	if err != nil {
		return nil, fmt.Errorf("the migrations of %s cannot be read: %w", m.Component, err)
	}
	var steps []Migration
	for _, entry := range entries {
		parts := migrationName.FindStringSubmatch(entry.Name())
		if parts == nil {
			return nil, fmt.Errorf("the migration %s/%s of %s is not named NNNN_name.sql", dialect, entry.Name(), m.Component)
		}
		script, err := fs.ReadFile(root, dialect+"/"+entry.Name())
		if err != nil {
			return nil, err
		}
		number, _ := strconv.Atoi(parts[1])
		sum := sha256.Sum256(script)
		steps = append(steps, Migration{Number: number, Name: parts[2], Script: string(script), Checksum: hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(steps, func(a, b Migration) int { return cmp.Compare(a.Number, b.Number) })
	for i, step := range steps {
		if step.Number != i+1 {
			return nil, fmt.Errorf("the migrations of %s for %s have a gap or a double at number %04d", m.Component, dialect, i+1)
		}
	}
	return steps, nil
}

var migrateStmt = struct{ table, lock, applied, record *Stmt }{
	table: Dialect(
		`CREATE TABLE IF NOT EXISTS store_migrations (component TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, checksum TEXT NOT NULL, applied INTEGER NOT NULL, PRIMARY KEY (component, number)) WITHOUT ROWID`,
		`CREATE TABLE IF NOT EXISTS store_migrations (component TEXT NOT NULL, number BIGINT NOT NULL, name TEXT NOT NULL, checksum TEXT NOT NULL, applied BIGINT NOT NULL, PRIMARY KEY (component, number))`),
	// On SQLite the writing transaction is the lock. The number is arbitrary.
	lock:    Dialect(`SELECT 1`, `SELECT pg_advisory_xact_lock(7236201530158911)`),
	applied: SQL(`SELECT number, name, checksum FROM store_migrations WHERE component = ? ORDER BY number`),
	record:  SQL(`INSERT INTO store_migrations (component, number, name, checksum, applied) VALUES (?, ?, ?, ?, ?)`),
}

// migrate brings the database up to date: one transaction per step, so that a
// step is there with all it does, or not at all.
func migrate(ctx context.Context, engine Engine, c clock.Clock, all []Migrations) error {
	seen := map[string]bool{}
	for _, m := range all {
		if m.Component == "" || seen[m.Component] {
			return fmt.Errorf("two sets of migrations, or none, are of a component %q", m.Component)
		}
		seen[m.Component] = true
		steps, err := m.Load(engine.Dialect())
		if err != nil {
			return err
		}
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			err := transaction(engine.Writer(), c, func(tx *Tx) error {
				more, err = migrateStep(tx, engine, m.Component, steps)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// migrateStep applies the next step that is missing and tells whether there
// may be more.
func migrateStep(tx *Tx, engine Engine, component string, steps []Migration) (more bool, err error) {
	if _, err := tx.Exec(migrateStmt.lock); err != nil {
		return false, err
	}
	if _, err := tx.Exec(migrateStmt.table); err != nil {
		return false, err
	}
	have, err := applied(tx, engine.Where(), component, steps)
	if err != nil {
		return false, err
	}
	if have == len(steps) {
		return false, nil
	}
	step := steps[have]
	if err := tx.conn.Script(step.Script); err != nil {
		return false, fmt.Errorf("the step %04d_%s of the tables of %s failed: %w", step.Number, step.Name, component, err)
	}
	_, err = tx.Exec(migrateStmt.record, component, step.Number, step.Name, step.Checksum, tx.Now())
	return true, err
}

// transaction runs fn in a transaction of its own, before there is a writer.
func transaction(conn Conn, c clock.Clock, fn func(*Tx) error) error {
	if err := conn.Begin(); err != nil {
		return err
	}
	tx := Tx{conn: conn, clock: c}
	err := tx.run(fn)
	if err == nil {
		err = conn.Commit("")
	}
	if err != nil {
		return errors.Join(err, conn.Rollback())
	}
	return nil
}
