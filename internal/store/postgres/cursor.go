package postgres

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"taskcluster/internal/store"
)

// cursor walks over the rows of a query as they arrive. When another statement
// starts meanwhile, the rest of them is read into memory, because a connection
// answers one statement at a time.
type cursor struct {
	conn   *conn
	fields []pgconn.FieldDescription
	rows   *pgconn.ResultReader // nil once they are in memory or at their end
	row    [][]byte             // the present one
	rest   [][][]byte           // those in memory
	err    error                // that ended those in memory
	closed bool
}

func (c *conn) newCursor() *cursor {
	if n := len(c.spare); n > 0 {
		cursor := c.spare[n-1]
		c.spare = c.spare[:n-1]
		cursor.closed = false
		return cursor
	}
	return &cursor{conn: c}
}

// detach reads the rest of the active cursor into memory, so that the
// connection is free.
func (c *conn) detach() error {
	cursor := c.active
	if cursor == nil {
		return nil
	}
	cursor.row = clone(cursor.row)
	for cursor.rows.NextRow() {
		cursor.rest = append(cursor.rest, clone(cursor.rows.Values()))
	}
	cursor.err = cursor.end()
	return cursor.err
}

// clone copies the values of a row, in one piece of memory.
func clone(row [][]byte) [][]byte {
	if row == nil {
		return nil
	}
	size := 0
	for _, v := range row {
		size += len(v)
	}
	buf, copied := make([]byte, 0, size), make([][]byte, len(row))
	for i, v := range row {
		if v != nil {
			at := len(buf)
			buf = append(buf, v...)
			copied[i] = buf[at:len(buf):len(buf)]
		}
	}
	return copied
}

// end frees the connection and tells the error of the statement.
func (cur *cursor) end() error {
	_, err := cur.rows.Close()
	cur.rows, cur.conn.active = nil, nil
	if err != nil {
		return cur.conn.fail(err)
	}
	return nil
}

// Next implements store.Cursor.
func (cur *cursor) Next() (bool, error) {
	if cur.rows != nil {
		if cur.rows.NextRow() {
			cur.row = cur.rows.Values()
			return true, nil
		}
		cur.row = nil
		return false, cur.end()
	}
	if len(cur.rest) == 0 {
		cur.row = nil
		return false, cur.err
	}
	cur.row, cur.rest = cur.rest[0], cur.rest[1:]
	return true, nil
}

// Columns implements store.Cursor.
func (cur *cursor) Columns() int { return len(cur.fields) }

// Column implements store.Cursor.
func (cur *cursor) Column(i int) store.Value {
	raw := cur.row[i]
	if raw == nil {
		return store.Value{Kind: store.Null}
	}
	switch cur.fields[i].DataTypeOID {
	case pgtype.Int8OID:
		return store.Value{Kind: store.Int, Int: int64(binary.BigEndian.Uint64(raw))}
	case pgtype.Int4OID:
		return store.Value{Kind: store.Int, Int: int64(int32(binary.BigEndian.Uint32(raw)))}
	case pgtype.Int2OID:
		return store.Value{Kind: store.Int, Int: int64(int16(binary.BigEndian.Uint16(raw)))}
	case pgtype.BoolOID:
		return store.Value{Kind: store.Int, Int: int64(raw[0])}
	case pgtype.TextOID, pgtype.VarcharOID:
		return store.Value{Kind: store.Text, Blob: raw}
	case pgtype.ByteaOID:
		return store.Value{Kind: store.Bytes, Blob: raw}
	}
	return store.Value{Kind: store.Other}
}

// Close implements store.Cursor. What the server still sends is read and
// thrown away.
func (cur *cursor) Close() {
	if cur.closed {
		return
	}
	if cur.rows != nil && cur.conn.active == cur {
		// An error of the statement shows again at the next one, or at the commit.
		_ = cur.end()
	}
	*cur = cursor{conn: cur.conn, closed: true}
	cur.conn.spare = append(cur.conn.spare, cur)
}
