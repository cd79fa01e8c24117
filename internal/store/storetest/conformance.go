package storetest

import (
	"context"
	"testing"
	"testing/fstest"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// Opener makes empty databases for the suite.
type Opener struct {
	// New names a new, empty database.
	New func(t testing.TB) (name string)
	// Open opens it.
	Open func(ctx context.Context, name string, opts store.Options) (*store.Store, error)
}

// Run is the conformance suite: what every engine promises, theme by theme.
func Run(t *testing.T, o Opener) {
	s := suite{o}
	t.Run("values", s.values)
	t.Run("transactions", s.transactions)
	t.Run("neighbours", s.neighbours)
	t.Run("batches", s.batches)
	t.Run("hooks", s.hooks)
	t.Run("cancellation", s.cancellation)
	t.Run("readers", s.readers)
	t.Run("restart", s.restart)
	t.Run("migrations", s.migrations)
	t.Run("leases", s.leases)
	t.Run("counts", s.counts)
}

type suite struct{ Opener }

// The suite's tables, and statements on them.
var stmt = struct {
	put, replace, get, list, count, remove, putReturning *store.Stmt
	putAll, getAll                                       *store.Stmt
}{
	put:          store.SQL(`INSERT INTO pair (name, value) VALUES (?, ?)`),
	replace:      store.SQL(`INSERT INTO pair (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`),
	get:          store.SQL(`SELECT value FROM pair WHERE name = ?`),
	list:         store.SQL(`SELECT name, value FROM pair ORDER BY name`),
	count:        store.SQL(`SELECT count(*) FROM pair`),
	remove:       store.SQL(`DELETE FROM pair`),
	putReturning: store.SQL(`INSERT INTO pair (name, value) VALUES (?, ?) RETURNING value + 1`),
	putAll:       store.SQL(`INSERT INTO kinds (id, number, text, bytes, slug) VALUES (?, ?, ?, ?, ?)`),
	getAll:       store.SQL(`SELECT number, text, bytes, slug FROM kinds WHERE id = ?`),
}

// Statements are those of the suite itself, for PrepareAll.
func Statements() []*store.Stmt { return store.Statements(stmt) }

// Migrations make the suite's tables.
func Migrations() store.Migrations {
	return store.Migrations{Component: "storetest", FS: fstest.MapFS{
		"sqlite/0001_tables.sql": {Data: []byte(`
			CREATE TABLE pair (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL);
			CREATE TABLE kinds (id INTEGER NOT NULL PRIMARY KEY, number INTEGER, text TEXT, bytes BLOB, slug BLOB);`)},
		"postgres/0001_tables.sql": {Data: []byte(`
			CREATE TABLE pair (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL);
			CREATE TABLE kinds (id BIGINT NOT NULL PRIMARY KEY, number BIGINT, text TEXT, bytes BYTEA, slug BYTEA);`)},
	}}
}

// open opens a new database with the suite's tables.
func (s suite) open(t *testing.T, opts store.Options) *store.Store {
	t.Helper()
	return s.reopen(t, s.New(t), opts)
}

func (s suite) reopen(t *testing.T, name string, opts store.Options) *store.Store {
	t.Helper()
	if opts.Migrations == nil {
		opts.Migrations = []store.Migrations{Migrations()}
	}
	db, err := s.Open(t.Context(), name, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return db
}

// put is a write of one pair.
func put(name string, value int64) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		_, err := tx.Exec(stmt.put, name, value)
		return err
	}
}

// pairs reads the whole table.
func pairs(t *testing.T, db *store.Store) map[string]int64 {
	t.Helper()
	got := map[string]int64{}
	err := db.Read(t.Context(), func(tx *store.Tx) error {
		rows := tx.Query(stmt.list)
		for rows.Next() {
			var name string
			var value int64
			if err := rows.Scan(&name, &value); err != nil {
				return err
			}
			got[name] = value
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// hold occupies the writer until release is called, so that what is started
// meanwhile waits together. It returns when the writer is occupied.
func hold(t *testing.T, db *store.Store) (release func()) {
	t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- db.Write(context.Background(), func(*store.Tx) error {
			close(held)
			<-free
			return nil
		})
	}()
	<-held
	return func() {
		close(free)
		if err := <-done; err != nil {
			t.Errorf("the holder: %v", err)
		}
	}
}

// together runs fns concurrently so that the writer finds all of them waiting,
// in this order, and returns their outcomes.
func together(t *testing.T, db *store.Store, fns ...func() error) []error {
	t.Helper()
	release := hold(t, db)
	errs := make([]chan error, len(fns))
	for i, fn := range fns {
		errs[i] = make(chan error, 1)
		go func() { errs[i] <- fn() }()
		for db.Waiting() != i+1 {
			yield()
		}
	}
	release()
	results := make([]error, len(fns))
	for i := range errs {
		results[i] = <-errs[i]
	}
	return results
}

var sample = struct {
	at   clock.Time
	slug slugid.ID
}{clock.OfMillis(1_700_000_000_000), slugid.ID{0: 1, 6: 0x40, 8: 0x80, 15: 0xff}}
