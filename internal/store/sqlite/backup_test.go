package sqlite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
)

var pairMigrations = []store.Migrations{{Component: "pairs", FS: fstest.MapFS{
	"sqlite/0001_pairs.sql":   {Data: []byte(`CREATE TABLE pairs (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, filler BLOB NOT NULL); CREATE TABLE others (id INTEGER PRIMARY KEY, a INTEGER NOT NULL);`)},
	"postgres/0001_pairs.sql": {Data: []byte(`SELECT 1`)},
}}}

var pairStmt = struct{ one, other, count *store.Stmt }{
	one:   store.SQL(`INSERT INTO pairs (a, filler) VALUES (?, ?)`),
	other: store.SQL(`INSERT INTO others (a) VALUES (?)`),
	count: store.SQL(`SELECT (SELECT count(*) FROM pairs), (SELECT count(*) FROM others), (SELECT count(*) FROM pairs JOIN others ON pairs.id = others.id AND pairs.a = others.a)`),
}

func addPair(t *testing.T, s *store.Store, a int) {
	t.Helper()
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		tx.Exec(pairStmt.one, a, make([]byte, 2000))
		_, err := tx.Exec(pairStmt.other, a)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func countPairs(t *testing.T, path string) (n int64) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, store.Options{Migrations: pairMigrations})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Read(t.Context(), func(tx *store.Tx) error {
		var others, same int64
		err := tx.Row(pairStmt.count).Scan(&n, &others, &same)
		if n != others || n != same {
			t.Errorf("%d pairs, %d others, %d of them match: not one snapshot", n, others, same)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestBackup copies a database that is written to all the time: whatever was
// answered before the backup began is in it, and what is in it belongs together.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	path, copy := filepath.Join(dir, "db"), filepath.Join(dir, "copy")
	s, err := sqlite.Open(t.Context(), path, store.Options{Migrations: pairMigrations})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		addPair(t, s, i)
	}
	stop := make(chan struct{})
	var writing sync.WaitGroup
	for range 4 {
		writing.Go(func() {
			for i := 1000; ; i++ {
				select {
				case <-stop:
					return
				default:
					addPair(t, s, i)
				}
			}
		})
	}
	for round := range 3 {
		to := copy + string(rune('0'+round))
		if err := sqlite.Backup(t.Context(), path, to); err != nil {
			t.Fatal(err)
		}
		if n := countPairs(t, to); n < 1000 {
			t.Errorf("%d pairs in the backup", n)
		}
		if err := sqlite.Backup(t.Context(), path, to); !errors.Is(err, os.ErrExist) {
			t.Errorf("a backup was overwritten: %v", err)
		}
	}
	close(stop)
	writing.Wait()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sqlite.Backup(cancelled, path, copy+"x"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Backup(t.Context(), filepath.Join(dir, "nothing"), copy+"y"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path, copy := filepath.Join(dir, "db"), filepath.Join(dir, "copy")
	s, err := sqlite.Open(t.Context(), path, store.Options{Migrations: pairMigrations})
	if err != nil {
		t.Fatal(err)
	}
	addPair(t, s, 1)
	if err := sqlite.Backup(t.Context(), path, copy); err != nil {
		t.Fatal(err)
	}
	addPair(t, s, 2)
	if _, err := sqlite.Lock(path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a running server was not noticed: %v", err)
	}
	s.Close()
	lock, err := sqlite.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"-wal", []byte("of another database"), 0o600); err != nil {
		t.Fatal(err)
	}
	aside, err := sqlite.Replace(copy, path)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if n := countPairs(t, path); n != 1 {
		t.Errorf("%d pairs after the restoration", n)
	}
	if _, err := os.Stat(filepath.Join(aside, "db-wal")); err != nil {
		t.Error(err)
	}
	os.Remove(filepath.Join(aside, "db-wal"))
	if n := countPairs(t, filepath.Join(aside, "db")); n != 2 {
		t.Errorf("%d pairs in what was replaced", n)
	}
}

func TestVerify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := sqlite.Open(t.Context(), path, store.Options{Migrations: pairMigrations})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		addPair(t, s, i)
	}
	s.Close()
	if err := sqlite.Verify(t.Context(), path); err != nil {
		t.Error(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := f.Stat()
	for at := int64(4096 * 4); at < info.Size(); at += 4096 {
		if _, err := f.WriteAt([]byte(strings.Repeat("x", 200)), at); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	if err := sqlite.Verify(t.Context(), path); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("damage was not found: %v", err)
	}
	if err := os.WriteFile(path, []byte("this is no database at all, whatever its name says"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Verify(t.Context(), path); !errors.Is(err, store.ErrDamaged) {
		t.Error(err)
	}
}

func TestMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	missing := func(all []store.Migrations) []store.MissingStep {
		t.Helper()
		list, err := sqlite.Missing(t.Context(), path, all)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := missing(pairMigrations); len(got) == 0 || got[len(got)-1] != (store.MissingStep{Component: "pairs", Number: 1, Name: "pairs"}) {
		t.Errorf("nothing is there: %v", got)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("looking has made a database")
	}
	s, err := sqlite.Open(t.Context(), path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := missing(pairMigrations); len(got) != 1 {
		t.Errorf("beside a server: %v", got)
	}
	s.Close()
	s, err = sqlite.Open(t.Context(), path, store.Options{Migrations: pairMigrations})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := missing(pairMigrations); len(got) != 0 {
		t.Errorf("all is there: %v", got)
	}
	newer := []store.Migrations{{Component: "pairs", FS: fstest.MapFS{"sqlite": {Mode: os.ModeDir}, "postgres": {Mode: os.ModeDir}}}}
	if _, err := sqlite.Missing(t.Context(), path, newer); !errors.Is(err, store.ErrNewerSchema) {
		t.Errorf("a newer schema: %v", err)
	}
}
