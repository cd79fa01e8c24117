package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"taskcluster/internal/store"
)

// conn is one connection: SQLite's own interface (https://sqlite.org/c3ref/),
// called without database/sql and the driver in between. BenchmarkDrivers, for
// three statements: 9.3 µs and 43 allocations through database/sql, 5.2 µs and
// 21 through the driver's own interface, 3.4 µs and 1 this way.
type conn struct {
	tls        *libc.TLS
	db         uintptr // sqlite3*
	out        uintptr // memory for one pointer that SQLite returns
	statements map[*store.Stmt]*statement

	begin, commit, rollback *store.Stmt
}

// connect opens a connection and runs the script on it.
func connect(path, script, begin string) (*conn, error) {
	c := &conn{
		tls:        libc.NewTLS(),
		statements: map[*store.Stmt]*statement{},
		begin:      store.SQL(begin),
		commit:     store.SQL("COMMIT"),
		rollback:   store.SQL("ROLLBACK"),
	}
	if err := c.open(path); err != nil {
		c.close()
		return nil, err
	}
	if err := c.Script(script); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *conn) open(path string) error {
	var err error
	if c.out, err = c.alloc(8); err != nil {
		return err
	}
	name, err := c.cString(path)
	if err != nil {
		return err
	}
	defer c.release(name)
	if err := registerWALVFS(); err != nil {
		return err
	}
	vfs, err := c.cString(walVFSName)
	if err != nil {
		return err
	}
	defer c.release(vfs)
	flags := int32(sqlite3.SQLITE_OPEN_READWRITE | sqlite3.SQLITE_OPEN_CREATE | sqlite3.SQLITE_OPEN_NOMUTEX)
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, c.out, flags, vfs)
	c.db = *(*uintptr)(pointer(c.out))
	if rc != sqlite3.SQLITE_OK {
		return c.error(rc)
	}
	sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	return nil
}

func (c *conn) close() error {
	var err error
	for q, s := range c.statements {
		c.finalize(s)
		delete(c.statements, q)
	}
	if c.db != 0 {
		if rc := sqlite3.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite3.SQLITE_OK {
			err = c.error(rc)
		}
		c.db = 0
	}
	if c.out != 0 {
		c.release(c.out)
		c.out = 0
	}
	c.tls.Close()
	return err
}

func (c *conn) Begin() error { return c.simple(c.begin) }

func (c *conn) Commit(string) error { return c.simple(c.commit) }

// Rollback knows that SQLite undoes a transaction by itself after some errors.
func (c *conn) Rollback() error {
	if sqlite3.Xsqlite3_get_autocommit(c.tls, c.db) != 0 {
		return nil
	}
	return c.simple(c.rollback)
}

func (c *conn) simple(q *store.Stmt) error {
	_, err := c.Exec(q, nil)
	return err
}

// Exec implements store.Conn.
func (c *conn) Exec(q *store.Stmt, args []store.Value) (int64, error) {
	s, err := c.start(q, args)
	if err != nil {
		return 0, err
	}
	rc := sqlite3.Xsqlite3_step(c.tls, s.handle)
	for rc == sqlite3.SQLITE_ROW {
		rc = sqlite3.Xsqlite3_step(c.tls, s.handle)
	}
	if rc != sqlite3.SQLITE_DONE {
		err := c.error(rc)
		c.end(s)
		return 0, err
	}
	n := int64(0)
	if !s.readOnly {
		n = sqlite3.Xsqlite3_changes64(c.tls, c.db)
	}
	c.end(s)
	return n, nil
}

// Insert implements store.Conn. The last rowid is an older one when nothing was
// inserted, so the number of changes has to tell.
func (c *conn) Insert(q *store.Stmt, args []store.Value) (id int64, ok bool, err error) {
	n, err := c.Exec(q, args)
	if err != nil || n == 0 {
		return 0, false, err
	}
	return sqlite3.Xsqlite3_last_insert_rowid(c.tls, c.db), true, nil
}

// Query implements store.Conn.
func (c *conn) Query(q *store.Stmt, args []store.Value) (store.Cursor, error) {
	s, err := c.start(q, args)
	if err != nil {
		return nil, err
	}
	s.ended = false
	return s, nil
}

// Script implements store.Conn.
func (c *conn) Script(text string) error {
	script, err := c.cString(text)
	if err != nil {
		return err
	}
	defer c.release(script)
	if rc := sqlite3.Xsqlite3_exec(c.tls, c.db, script, 0, 0, 0); rc != sqlite3.SQLITE_OK {
		return c.error(rc)
	}
	return nil
}

// error makes an error of a result code.
func (c *conn) error(rc int32) error {
	text := libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	if c.db != 0 {
		text = libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))
	}
	switch rc & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w (SQLite: %s)", store.ErrDiskFull, text)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%w (SQLite: %s, code %d)", store.ErrIO, text, rc)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w (SQLite: %s, code %d)", store.ErrDamaged, text, rc)
	case sqlite3.SQLITE_ERROR:
		// SQLite has no code of its own for these.
		if strings.HasPrefix(text, "no such table: ") || strings.HasPrefix(text, "no such column: ") {
			return fmt.Errorf("%w (SQLite: %s)", store.ErrAltered, text)
		}
	case sqlite3.SQLITE_CONSTRAINT:
		return fmt.Errorf("%w (SQLite: %s)", store.ErrConflict, text)
	}
	return fmt.Errorf("SQLite: %s (code %d)", text, rc)
}

// alloc takes memory that SQLite can use: outside Go's heap, at least a byte.
func (c *conn) alloc(size int) (uintptr, error) {
	p := sqlite3.Xsqlite3_malloc64(c.tls, uint64(max(size, 1)))
	if p == 0 {
		return 0, fmt.Errorf("SQLite: no memory for %d bytes", size)
	}
	return p, nil
}

func (c *conn) release(p uintptr) { sqlite3.Xsqlite3_free(c.tls, p) }

// cString copies a string, which a NUL byte may not end early.
func (c *conn) cString(s string) (uintptr, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return 0, errors.New("SQLite: a NUL byte in a statement or file name")
	}
	p, err := c.alloc(len(s) + 1)
	if err != nil {
		return 0, err
	}
	copy(memory(p, len(s)+1), s)
	memory(p, len(s)+1)[len(s)] = 0
	return p, nil
}

// pointer makes a pointer of an address that SQLite gave. The memory is not
// Go's, so the collector neither moves nor frees it.
func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// memory is n bytes of SQLite's memory.
func memory(p uintptr, n int) []byte { return unsafe.Slice((*byte)(pointer(p)), n) }

// Single has nothing to make ready: a statement outside of a transaction is a
// snapshot by itself.
func (c *conn) Single() error { return nil }
