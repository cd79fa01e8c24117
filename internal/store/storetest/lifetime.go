//go:build unix

package storetest

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"taskcluster/internal/store"
)

// restart: what was answered is there after closing and opening again.
func (s suite) restart(t *testing.T) {
	name := s.New(t)
	db := s.reopen(t, name, store.Options{})
	if err := db.Write(t.Context(), put("a", 1)); err != nil {
		t.Fatal(err)
	}
	release := hold(t, db)
	waiting := make(chan error)
	go func() { waiting <- db.Write(context.Background(), put("b", 2)) }()
	for db.Waiting() != 1 {
		yield()
	}
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	release()
	if err := <-waiting; err != nil {
		t.Errorf("a write that waited when the store was closed: %v", err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), put("c", 3)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a write after closing: %v", err)
	}
	if err := db.Read(t.Context(), func(*store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a read after closing: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	db = s.reopen(t, name, store.Options{})
	if got, want := pairs(t, db), map[string]int64{"a": 1, "b": 2}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// steps makes migrations of a component "m" out of scripts for both engines.
func steps(scripts ...string) []store.Migrations {
	files := fstest.MapFS{}
	for i, script := range scripts {
		name := "000" + string(rune('1'+i)) + "_step.sql"
		files["sqlite/"+name] = &fstest.MapFile{Data: []byte(script)}
		files["postgres/"+name] = &fstest.MapFile{Data: []byte(script)}
	}
	return []store.Migrations{Migrations(), {Component: "m", FS: files}}
}

// migrations: forward only, each whole, the newer schema refused.
func (s suite) migrations(t *testing.T) {
	const one, two = `CREATE TABLE m (a BIGINT NOT NULL); INSERT INTO m (a) VALUES (1);`, `INSERT INTO m (a) VALUES (2);`
	sum := store.SQL(`SELECT CAST(sum(a) AS BIGINT) FROM m`)
	total := func(db *store.Store) (n int64) {
		t.Helper()
		if err := db.Read(t.Context(), func(tx *store.Tx) error { return tx.Row(sum).Scan(&n) }); err != nil {
			t.Error(err)
		}
		return n
	}
	name := s.New(t)
	open := func(m []store.Migrations) (*store.Store, error) {
		return s.Open(t.Context(), name, store.Options{Migrations: m})
	}
	for _, c := range []struct {
		scripts []string
		total   int64
	}{{[]string{one}, 1}, {[]string{one}, 1}, {[]string{one, two}, 3}, {[]string{one, two}, 3}} {
		db, err := open(steps(c.scripts...))
		if err != nil {
			t.Fatal(err)
		}
		if got := total(db); got != c.total {
			t.Errorf("after %d steps the sum is %d, want %d", len(c.scripts), got, c.total)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := open(steps(one))
	if !errors.Is(err, store.ErrNewerSchema) || !strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("an older program: %v", err)
	}
	if _, err := open(steps(one, two+" ")); err == nil || errors.Is(err, store.ErrNewerSchema) || !strings.Contains(err.Error(), "0002_step") {
		t.Errorf("a step that was altered: %v", err)
	}
	if _, err := open(steps(one, two, `INSERT INTO m (a) VALUES (4); INSERT INTO nowhere VALUES (1);`)); err == nil || !strings.Contains(err.Error(), "0003_step") {
		t.Errorf("a step that fails: %v", err)
	}
	db, err := open(steps(one, two, `INSERT INTO m (a) VALUES (8);`))
	if err != nil {
		t.Fatal(err)
	}
	if got := total(db); got != 11 {
		t.Errorf("half of a failed step stayed: the sum is %d, want 11", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for what, files := range map[string]fstest.MapFS{
		"a gap":            {"sqlite/0002_a.sql": {}, "postgres/0002_a.sql": {}},
		"one engine only":  {"sqlite/0001_a.sql": {}, "postgres/0001_b.sql": {}},
		"a foreign file":   {"sqlite/0001_a.sql": {}, "postgres/0001_a.sql": {}, "sqlite/notes.txt": {}},
		"no folder at all": {},
	} {
		if db, err := open([]store.Migrations{{Component: "bad", FS: files}}); err == nil {
			t.Errorf("%s was accepted", what)
			db.Close()
		}
	}
	if db, err := open([]store.Migrations{Migrations(), Migrations()}); err == nil {
		t.Error("a component twice was accepted")
		db.Close()
	}
}
