package sqlite

import (
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"taskcluster/internal/store"
)

// statement is a prepared statement with the memory that its arguments are
// bound to. It is also the cursor of its query.
type statement struct {
	c        *conn
	handle   uintptr // sqlite3_stmt*
	params   int
	columns  int
	readOnly bool
	busy     bool // between start and end
	ended    bool // the query has no further rows
	spare    bool // not in the cache: finalized at its end

	mem  uintptr // holds the text and blobs that are bound
	size int
}

// keep is the greatest size of memory for arguments that a statement keeps.
const keep = 64 << 10

// start prepares q if this connection has not done so yet, and binds args.
func (c *conn) start(q *store.Stmt, args []store.Value) (*statement, error) {
	s := c.statements[q]
	if s == nil || s.busy {
		fresh, err := c.prepare(q.Text(store.SQLite))
		if err != nil {
			return nil, err
		}
		// A query inside the rows of the same query has one of its own.
		fresh.spare = s != nil
		if s == nil {
			c.statements[q] = fresh
		}
		s = fresh
	}
	s.busy = true
	if err := s.bind(args); err != nil {
		c.end(s)
		return nil, err
	}
	return s, nil
}

func (c *conn) prepare(text string) (*statement, error) {
	sql, err := c.cString(text)
	if err != nil {
		return nil, err
	}
	defer c.release(sql)
	if rc := sqlite3.Xsqlite3_prepare_v3(c.tls, c.db, sql, int32(len(text)+1), sqlite3.SQLITE_PREPARE_PERSISTENT, c.out, 0); rc != sqlite3.SQLITE_OK {
		return nil, c.error(rc)
	}
	handle := *(*uintptr)(pointer(c.out))
	if handle == 0 {
		return nil, fmt.Errorf("SQLite: the statement %q is empty", text)
	}
	return &statement{
		c:        c,
		handle:   handle,
		params:   int(sqlite3.Xsqlite3_bind_parameter_count(c.tls, handle)),
		columns:  int(sqlite3.Xsqlite3_column_count(c.tls, handle)),
		readOnly: sqlite3.Xsqlite3_stmt_readonly(c.tls, handle) != 0,
	}, nil
}

// Describe implements store.Conn.
func (c *conn) Describe(q *store.Stmt) (params, columns int, err error) {
	s, err := c.prepare(q.Text(store.SQLite))
	if err != nil {
		return 0, 0, err
	}
	defer c.finalize(s)
	return s.params, s.columns, nil
}

// end makes the statement ready for its next use.
func (c *conn) end(s *statement) {
	// Its result repeats the error that step returned.
	sqlite3.Xsqlite3_reset(c.tls, s.handle)
	s.busy = false
	if s.spare {
		c.finalize(s)
	}
}

func (c *conn) finalize(s *statement) {
	sqlite3.Xsqlite3_finalize(c.tls, s.handle)
	s.handle = 0
	if s.mem != 0 {
		c.release(s.mem)
		s.mem, s.size = 0, 0
	}
}

// bind copies the arguments into the statement's memory and binds them there,
// so that SQLite need not copy them.
func (s *statement) bind(args []store.Value) error {
	if len(args) != s.params {
		return fmt.Errorf("the statement has %d placeholders and was given %d arguments", s.params, len(args))
	}
	need := 1
	for i := range args {
		need += size(&args[i])
	}
	if err := s.reserve(need); err != nil {
		return err
	}
	tls, at := s.c.tls, s.mem
	for i := range args {
		v, rc := &args[i], int32(0)
		n, index := size(v), int32(i+1)
		switch v.Kind {
		case store.Int:
			rc = sqlite3.Xsqlite3_bind_int64(tls, s.handle, index, v.Int)
		case store.Text:
			copy(memory(at, n), v.Text)
			rc = sqlite3.Xsqlite3_bind_text(tls, s.handle, index, at, int32(n), 0)
		case store.Bytes:
			copy(memory(at, n), v.Blob)
			rc = sqlite3.Xsqlite3_bind_blob(tls, s.handle, index, at, int32(n), 0)
		case store.ID:
			copy(memory(at, n), v.ID[:])
			rc = sqlite3.Xsqlite3_bind_blob(tls, s.handle, index, at, int32(n), 0)
		default:
			rc = sqlite3.Xsqlite3_bind_null(tls, s.handle, index)
		}
		if rc != sqlite3.SQLITE_OK {
			return s.c.error(rc)
		}
		at += uintptr(n)
	}
	return nil
}

func size(v *store.Value) int {
	switch v.Kind {
	case store.Text:
		return len(v.Text)
	case store.Bytes:
		return len(v.Blob)
	case store.ID:
		return len(v.ID)
	}
	return 0
}

// reserve makes room for n bytes. What was bound there before is not read
// again: the statement was reset, and all its parameters are bound anew.
func (s *statement) reserve(n int) error {
	if n > 1<<30 {
		return fmt.Errorf("the arguments of the statement have %d bytes, %d are possible", n, 1<<30)
	}
	if n <= s.size && (s.size <= keep || n > keep) {
		return nil
	}
	if s.mem != 0 {
		s.c.release(s.mem)
		s.mem, s.size = 0, 0
	}
	n = max(n, 64)
	if n <= keep {
		n = min(n*2, keep)
	}
	mem, err := s.c.alloc(n)
	if err != nil {
		return err
	}
	s.mem, s.size = mem, n
	return nil
}

// Next implements store.Cursor.
func (s *statement) Next() (bool, error) {
	if s.ended {
		return false, nil
	}
	switch rc := sqlite3.Xsqlite3_step(s.c.tls, s.handle); rc {
	case sqlite3.SQLITE_ROW:
		return true, nil
	case sqlite3.SQLITE_DONE:
		s.ended = true
		return false, nil
	default:
		s.ended = true
		return false, s.c.error(rc)
	}
}

// Columns implements store.Cursor.
func (s *statement) Columns() int { return s.columns }

// Column implements store.Cursor.
func (s *statement) Column(i int) store.Value {
	tls, index := s.c.tls, int32(i)
	switch sqlite3.Xsqlite3_column_type(tls, s.handle, index) {
	case sqlite3.SQLITE_NULL:
		return store.Value{Kind: store.Null}
	case sqlite3.SQLITE_INTEGER:
		return store.Value{Kind: store.Int, Int: sqlite3.Xsqlite3_column_int64(tls, s.handle, index)}
	case sqlite3.SQLITE_TEXT:
		return store.Value{Kind: store.Text, Blob: s.bytes(index)}
	case sqlite3.SQLITE_BLOB:
		return store.Value{Kind: store.Bytes, Blob: s.bytes(index)}
	}
	return store.Value{Kind: store.Other}
}

func (s *statement) bytes(index int32) []byte {
	// column_blob leaves text as it is, in UTF-8.
	p := sqlite3.Xsqlite3_column_blob(s.c.tls, s.handle, index)
	n := sqlite3.Xsqlite3_column_bytes(s.c.tls, s.handle, index)
	if p == 0 || n == 0 {
		return nil
	}
	return memory(p, int(n))
}

// Close implements store.Cursor.
func (s *statement) Close() {
	if s.busy {
		s.ended = true
		s.c.end(s)
	}
}
