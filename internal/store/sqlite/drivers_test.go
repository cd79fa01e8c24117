package sqlite

import (
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"testing"

	driverpkg "modernc.org/sqlite"

	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// BenchmarkDrivers compares three ways to run the same three statements within
// one transaction: database/sql, the driver's own interface, and SQLite's. It
// is why conn exists.
func BenchmarkDrivers(b *testing.B) {
	const (
		schema = `CREATE TABLE item (id INTEGER PRIMARY KEY, slug BLOB NOT NULL, body BLOB NOT NULL, created INTEGER NOT NULL);
			CREATE TABLE state (id INTEGER PRIMARY KEY, name TEXT NOT NULL, n INTEGER NOT NULL);
			INSERT INTO state VALUES (1, 'one', 0);`
		insert = `INSERT INTO item (slug, body, created) VALUES (?, ?, ?)`
		update = `UPDATE state SET n = n + 1 WHERE id = ?`
		get    = `SELECT n, name FROM state WHERE id = ?`
	)
	slug, body, now := slugid.New(), make([]byte, 300), int64(1_700_000_000_000_000)
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("database/sql", func(b *testing.B) {
		db, err := sql.Open("sqlite", filepath.Join(b.TempDir(), "db"))
		must(err)
		defer db.Close()
		_, err = db.Exec(`PRAGMA journal_mode = WAL;` + schema)
		must(err)
		tx, err := db.Begin()
		must(err)
		defer tx.Rollback()
		var stmts [3]*sql.Stmt
		for i, text := range []string{insert, update, get} {
			stmts[i], err = tx.Prepare(text)
			must(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			_, err := stmts[0].Exec(slug[:], body, now)
			must(err)
			_, err = stmts[1].Exec(int64(1))
			must(err)
			var n int64
			var name string
			must(stmts[2].QueryRow(int64(1)).Scan(&n, &name))
		}
	})
	b.Run("driver", func(b *testing.B) {
		c, err := (&driverpkg.Driver{}).Open(filepath.Join(b.TempDir(), "db"))
		must(err)
		defer c.Close()
		_, err = c.(driver.ExecerContext).ExecContext(b.Context(), `PRAGMA journal_mode = WAL;`+schema+`BEGIN`, nil)
		must(err)
		var stmts [3]driver.Stmt
		for i, text := range []string{insert, update, get} {
			stmts[i], err = c.Prepare(text)
			must(err)
			defer stmts[i].Close()
		}
		exec := func(i int, args ...driver.NamedValue) {
			for j := range args {
				args[j].Ordinal = j + 1
			}
			_, err := stmts[i].(driver.StmtExecContext).ExecContext(nil, args)
			must(err)
		}
		row := make([]driver.Value, 2)
		b.ReportAllocs()
		for b.Loop() {
			exec(0, driver.NamedValue{Value: slug[:]}, driver.NamedValue{Value: body}, driver.NamedValue{Value: now})
			exec(1, driver.NamedValue{Value: int64(1)})
			rows, err := stmts[2].(driver.StmtQueryContext).QueryContext(nil, []driver.NamedValue{{Ordinal: 1, Value: int64(1)}})
			must(err)
			must(rows.Next(row))
			must(rows.Close())
		}
	})
	b.Run("conn", func(b *testing.B) {
		c, err := connect(filepath.Join(b.TempDir(), "db"), pragmas+schema, "BEGIN IMMEDIATE")
		must(err)
		defer c.close()
		must(c.Begin())
		put, change, read := store.SQL(insert), store.SQL(update), store.SQL(get)
		args := make([]store.Value, 0, 3)
		b.ReportAllocs()
		for b.Loop() {
			args = append(args[:0], store.Value{Kind: store.ID, ID: slug}, store.Value{Kind: store.Bytes, Blob: body}, store.Value{Kind: store.Int, Int: now})
			_, err := c.Exec(put, args)
			must(err)
			args = append(args[:0], store.Value{Kind: store.Int, Int: 1})
			_, err = c.Exec(change, args)
			must(err)
			cursor, err := c.Query(read, args)
			must(err)
			_, err = cursor.Next()
			must(err)
			_, name := cursor.Column(0).Int, string(cursor.Column(1).Blob)
			if name != "one" {
				b.Fatal(name)
			}
			cursor.Close()
		}
		must(c.Rollback())
	})
}
