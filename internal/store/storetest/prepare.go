//go:build unix

// Package storetest holds what proves a store: the conformance suite that every
// engine passes, and the check that every statement is understood by both.
package storetest

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
	"taskcluster/internal/testenv"
)

// PrepareAll applies the migrations (and the store's own) to an empty SQLite
// database and to an empty database of a real PostgreSQL, and prepares each
// statement on both, which proves its grammar, its tables and columns, and the
// types of its arguments. The two must agree on the number of arguments and of
// columns, and PostgreSQL's types must be those that the store takes: BIGINT,
// TEXT and BYTEA; of a column also INTEGER (as of a literal) and BOOLEAN. One
// without a text for SQLite is prepared on PostgreSQL alone.
func PrepareAll(t *testing.T, migrations []store.Migrations, statements []*store.Stmt) {
	t.Helper()
	if len(statements) == 0 {
		t.Fatal("storetest.PrepareAll was given no statements")
	}
	lite, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"), store.Options{Migrations: migrations})
	if err != nil {
		t.Fatal(err)
	}
	defer lite.Close()
	conn, err := pgx.Connect(t.Context(), testenv.Postgres(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, m := range append([]store.Migrations{store.OwnMigrations()}, migrations...) {
		steps, err := m.Load(store.Postgres)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			if _, err := conn.Exec(t.Context(), step.Script); err != nil {
				t.Fatalf("PostgreSQL refuses the step %04d_%s of %s: %v", step.Number, step.Name, m.Component, err)
			}
		}
	}
	for _, q := range statements {
		both := q.Text(store.SQLite) != ""
		var params, columns int
		if both {
			var err error
			if params, columns, err = lite.Describe(t.Context(), q); err != nil {
				t.Errorf("SQLite does not understand it: %v", err)
				continue
			}
		}
		if q.Inserts() {
			columns++ // the id
		}
		text := q.Text(store.Postgres)
		described, err := conn.Prepare(t.Context(), "", text)
		if err != nil {
			t.Errorf("PostgreSQL does not understand it: %v (in: %s)", err, strings.Join(strings.Fields(text), " "))
			continue
		}
		if p, c := len(described.ParamOIDs), len(described.Fields); both && (p != params || c != columns) {
			t.Errorf("%d arguments and %d columns on PostgreSQL, %d and %d on SQLite, in: %s", p, c, params, columns, q)
		}
		for i, oid := range described.ParamOIDs {
			types := []uint32{pgtype.Int8OID, pgtype.TextOID, pgtype.ByteaOID}
			if q.IsEach() {
				types = append(types, pgtype.Int8ArrayOID, pgtype.TextArrayOID, pgtype.ByteaArrayOID)
			}
			if !slices.Contains(types, oid) {
				t.Errorf("argument %d is neither BIGINT nor TEXT nor BYTEA (nor, in store.Each, an array of these) on PostgreSQL but of type %d, in: %s", i+1, oid, q)
			}
		}
		for i, field := range described.Fields {
			if !slices.Contains([]uint32{pgtype.Int8OID, pgtype.TextOID, pgtype.ByteaOID, pgtype.Int4OID, pgtype.BoolOID}, field.DataTypeOID) {
				t.Errorf("column %d is of a type on PostgreSQL that cannot be scanned (%d; cast sums to BIGINT), in: %s", i+1, field.DataTypeOID, q)
			}
		}
	}
}
