package sqlite_test

import (
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
	"taskcluster/internal/store/storetest"
)

var benchStmt = struct{ insert, update, get *store.Stmt }{
	insert: store.SQL(`INSERT INTO item (slug, body, created) VALUES (?, ?, ?) RETURNING id`),
	update: store.SQL(`UPDATE state SET n = n + 1 WHERE id = ?`),
	get:    store.SQL(`SELECT n, name FROM state WHERE id = ?`),
}

func benchMigrations() store.Migrations {
	script := &fstest.MapFile{Data: []byte(`
		CREATE TABLE item (id INTEGER NOT NULL PRIMARY KEY, slug BLOB NOT NULL, body BLOB NOT NULL, created INTEGER NOT NULL);
		CREATE TABLE state (id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, n INTEGER NOT NULL);
		INSERT INTO state (id, name, n) VALUES (1, 'one', 0);`)}
	return store.Migrations{Component: "bench", FS: fstest.MapFS{"sqlite/0001_bench.sql": script, "postgres/0001_bench.sql": script}}
}

func options(opts store.Options) store.Options {
	opts.Migrations = []store.Migrations{benchMigrations()}
	return opts
}

// openAt opens a new database, the file db in the folder that it returns.
func openAt(t testing.TB, opts store.Options) (*store.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "db"), options(opts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, dir
}

func BenchmarkGroupCommit(b *testing.B) {
	for _, bench := range []struct {
		name    string
		writers int
	}{{"writers=1", 1}, {"writers=32", 32}, {"writers=512", 512}} {
		b.Run(bench.name, func(b *testing.B) {
			s, _ := openAt(b, store.Options{})
			type item struct {
				slug slugid.ID
				body []byte
				n    int64
				name string
			}
			batch := store.NewBatch(s, "bench", func(tx *store.Tx, items []*item) error {
				for _, it := range items {
					if err := tx.Row(benchStmt.insert, it.slug, it.body, tx.Now()).Scan(&it.n); err != nil {
						return err
					}
					if _, err := tx.Exec(benchStmt.update, 1); err != nil {
						return err
					}
					if err := tx.Row(benchStmt.get, 1).Scan(&it.n, &it.name); err != nil {
						return err
					}
				}
				return nil
			})
			before := s.Stats()
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range bench.writers {
				n := b.N / bench.writers
				if w < b.N%bench.writers {
					n++
				}
				wg.Go(func() {
					it := item{slug: slugid.New(), body: make([]byte, 300)}
					for range n {
						if err := batch.Do(b.Context(), &it); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			d := s.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
			b.ReportMetric(float64(b.N)/float64(d.Commits-before.Commits), "ops/commit")
		})
	}
}

// BenchmarkWrite is BenchmarkGroupCommit for functions instead of batches.
func BenchmarkWrite(b *testing.B) {
	s, _ := openAt(b, store.Options{})
	b.ReportAllocs()
	b.SetParallelism(256) // 512 writers on two processors
	b.RunParallel(func(pb *testing.PB) {
		slug, body := slugid.New(), make([]byte, 300)
		var id, n int64
		var name string
		write := func(tx *store.Tx) error {
			if err := tx.Row(benchStmt.insert, slug, body, tx.Now()).Scan(&id); err != nil {
				return err
			}
			if _, err := tx.Exec(benchStmt.update, 1); err != nil {
				return err
			}
			return tx.Row(benchStmt.get, 1).Scan(&n, &name)
		}
		for pb.Next() {
			if err := s.Write(b.Context(), write); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkRead(b *testing.B) {
	s, _ := openAt(b, store.Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var n int64
		var name string
		for pb.Next() {
			if err := s.Read(b.Context(), func(tx *store.Tx) error { return tx.Row(benchStmt.get, 1).Scan(&n, &name) }); err != nil {
				b.Error(err)
			}
		}
	})
}

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Opener{
		New:  func(t testing.TB) string { return filepath.Join(t.TempDir(), "db") },
		Open: sqlite.Open,
	})
}
