package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"taskcluster/internal/lifecycle"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
)

var itemStmt = struct{ put, count, size, removeAll *store.Stmt }{
	put:       store.SQL(`INSERT INTO item (slug, body, created) VALUES (?, ?, ?)`),
	count:     store.SQL(`SELECT count(*) FROM item`),
	size:      store.SQL(`SELECT sum(length(body)) FROM item`),
	removeAll: store.SQL(`DELETE FROM item`),
}

func putItem(size int) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		_, err := tx.Exec(itemStmt.put, slugid.New(), make([]byte, size), tx.Now())
		return err
	}
}

func countItems(t *testing.T, s *store.Store) (n int64) {
	t.Helper()
	if err := s.Read(context.Background(), func(tx *store.Tx) error { return tx.Row(itemStmt.count).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// A copy of the files while the store is in use is what a crash leaves.
func TestCrash(t *testing.T) {
	s, dir := openAt(t, store.Options{})
	const writers, each = 8, 40
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := s.Write(context.Background(), putItem(500)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// One more transaction is under way, and must leave nothing.
	began, end := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- s.Write(context.Background(), func(tx *store.Tx) error {
			err := putItem(1 << 20)(tx)
			close(began)
			<-end
			return err
		})
	}()
	<-began
	crashed := t.TempDir()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		copyFile(t, filepath.Join(dir, "db"+suffix), filepath.Join(crashed, "db"+suffix))
	}
	close(end)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	again, err := sqlite.Open(t.Context(), filepath.Join(crashed, "db"), options(store.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if n := countItems(t, again); n != writers*each {
		t.Errorf("after the crash there are %d items, %d were acknowledged", n, writers*each)
	}
	if err := again.Write(t.Context(), putItem(10)); err != nil {
		t.Errorf("the store does not work after the crash: %v", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestDiskFull(t *testing.T) {
	s, _ := openAt(t, store.Options{MaxPages: 200}) // 800 KiB
	var mu sync.Mutex
	kept, refused := 0, 0
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 30 {
				err := s.Write(context.Background(), putItem(3000))
				mu.Lock()
				switch {
				case err == nil:
					kept++
				case errors.Is(err, store.ErrDiskFull) && strings.Contains(err.Error(), "free some space"):
					refused++
				default:
					t.Errorf("not a clear refusal: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if refused == 0 || kept == 0 {
		t.Fatalf("%d writes were kept, %d refused", kept, refused)
	}
	if n := countItems(t, s); n != int64(kept) {
		t.Errorf("%d items are stored, %d were acknowledged", n, kept)
	}
	if err := s.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(itemStmt.removeAll); return err }); err != nil {
		t.Fatalf("removing on a full disk: %v", err)
	}
	if err := s.Write(t.Context(), putItem(3000)); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

func TestSecondProcess(t *testing.T) {
	s, dir := openAt(t, store.Options{})
	// The lock belongs to the open file, so it keeps this process away as well.
	_, err := sqlite.Open(t.Context(), filepath.Join(dir, "db"), options(store.Options{}))
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := sqlite.Open(t.Context(), filepath.Join(dir, "db"), options(store.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "db-wal")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("closing left the write-ahead log: %v", err)
	}
}

func TestFiles(t *testing.T) {
	lifecycle.CheckLeaks(t)
	s, dir := openAt(t, store.Options{})
	if err := s.Write(t.Context(), putItem(1)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"db", "db-wal", "db-shm", "db.lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	for _, path := range []string{"", ":memory:", dir, filepath.Join(dir, "db", "below")} {
		if s, err := sqlite.Open(t.Context(), path, store.Options{}); err == nil {
			t.Errorf("%q was opened", path)
			s.Close()
		}
	}
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := sqlite.Open(t.Context(), garbage, store.Options{}); !errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrIO) ||
		!strings.Contains(err.Error(), "not a database: restore it") {
		t.Errorf("garbage: %v", err)
		if err == nil {
			s.Close()
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A page overwritten in the middle of the file is damage, not a failing disk.
func TestDamage(t *testing.T) {
	s, dir := openAt(t, store.Options{})
	for range 50 {
		if err := s.Write(t.Context(), putItem(3000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "db")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(text); i++ { // the first page stays, and with it the list of tables
		text[i] = 0xa5
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := sqlite.Open(t.Context(), path, options(store.Options{}))
	if err == nil {
		err = again.Read(t.Context(), func(tx *store.Tx) error { var n int64; return tx.Row(itemStmt.size).Scan(&n) })
		again.Close()
	}
	if !errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrIO) {
		t.Errorf("got %v", err)
	}
}

// A table that somebody dropped is told in words, not as a statement of SQL.
func TestMissingTable(t *testing.T) {
	s, _ := openAt(t, store.Options{})
	drop := store.SQL(`DROP TABLE item`)
	if err := s.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(drop); return err }); err != nil {
		t.Fatal(err)
	}
	err := s.Read(t.Context(), func(tx *store.Tx) error { var n int64; return tx.Row(itemStmt.count).Scan(&n) })
	if !errors.Is(err, store.ErrAltered) || !strings.Contains(err.Error(), "no such table: item") || strings.Contains(err.Error(), "SELECT") {
		t.Errorf("got %v", err)
	}
}

// The write-ahead log does not grow without limit, even while the writer never
// rests and each transaction is longer than what the writer likes to copy.
func TestLogStaysShort(t *testing.T) {
	s, dir := openAt(t, store.Options{})
	var wg sync.WaitGroup
	const total = 512 << 20
	for range 2 {
		wg.Go(func() {
			for range total / 2 / (1 << 20) {
				if err := s.Write(context.Background(), putItem(1<<20)); err != nil {
					t.Error(err)
					return
				}
				if err := s.Write(context.Background(), func(tx *store.Tx) error { _, err := tx.Exec(itemStmt.removeAll); return err }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	info, err := os.Stat(filepath.Join(dir, "db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 192<<20 {
		t.Errorf("the log has %d MiB after %d MiB were written", info.Size()>>20, total>>20)
	}
}

func TestAllocations(t *testing.T) {
	s, _ := openAt(t, store.Options{})
	slug, body := slugid.New(), make([]byte, 300)
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		n := testing.AllocsPerRun(200, func() {
			var id, count int64
			var name string
			if err := tx.Row(benchStmt.insert, slug, body, tx.Now()).Scan(&id); err != nil {
				t.Error(err)
			}
			if _, err := tx.Exec(benchStmt.update, 1); err != nil {
				t.Error(err)
			}
			if err := tx.Row(benchStmt.get, 1).Scan(&count, &name); err != nil {
				t.Error(err)
			}
		})
		if n > 1 { // the string
			t.Errorf("three statements make %v allocations", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
