package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/store"
)

// writeCalls is the number of write system calls that this process has made.
func writeCalls(t *testing.T) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "syscw: ") {
			if _, err := fmt.Sscan(line[len("syscw: "):], &n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// TestCommitWritesTheLogAtOnce: a commit of many pages is a few system calls,
// not two for each page, and what it wrote is there for everybody.
func TestCommitWritesTheLogAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	w, err := connect(path, pragmas+writerPragmas+"; CREATE TABLE x (id INTEGER PRIMARY KEY, b BLOB)", "BEGIN IMMEDIATE")
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	insert := store.SQL("INSERT INTO x (b) VALUES (zeroblob(4000))")
	const rows = 200
	before := writeCalls(t)
	if err := w.Begin(); err != nil {
		t.Fatal(err)
	}
	for range rows {
		if _, err := w.Exec(insert, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(""); err != nil {
		t.Fatal(err)
	}
	if calls := writeCalls(t) - before; calls > 40 {
		t.Errorf("%d pages took %d write calls", rows, calls)
	}
	r, err := connect(path, pragmas+readerPragmas, "BEGIN")
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	c, err := r.Query(store.SQL("SELECT count(*) FROM x WHERE length(b) = 4000"), nil)
	if err != nil {
		t.Fatal(err)
	}
	more, err := c.Next()
	if err != nil || !more {
		t.Fatal(more, err)
	}
	if n := c.Column(0).Int; n != rows {
		t.Errorf("another connection sees %d rows of %d", n, rows)
	}
	c.Close()
}
