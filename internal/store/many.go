package store

import (
	"errors"
	"fmt"
	"slices"
)

// Send is Exec for whom the number of changed rows does not matter. On
// PostgreSQL it costs no round trip of its own: the statement travels with the
// next one that is answered, or with the commit, and that is where its error may
// show. The operation then fails as it does with Exec.
func (tx *Tx) Send(q *Stmt, args ...any) error {
	if tx.pipe == nil {
		_, err := tx.Exec(q, args...)
		return err
	}
	if err := tx.prepare(q, args); err != nil {
		return err
	}
	if err := tx.pipe.Send(q, tx.values); err != nil {
		return tx.fail(q, err)
	}
	return nil
}

// Many is one statement with many rows of arguments. On SQLite it runs once for
// each row. On PostgreSQL it costs one round trip: a statement made by Each runs
// once, any other for each row without waiting in between.
//
// Every run counts as a statement in Stats.
type Many struct {
	tx     *Tx
	q      *Stmt
	width  int // arguments in a row
	rows   int
	values []Value
	err    error
}

// Many begins to collect rows of arguments. Text and bytes of an argument must
// not be changed until Exec or Query.
func (tx *Tx) Many(q *Stmt) *Many { return &Many{tx: tx, q: q} }

// Add adds a row. An error shows in Exec or Query.
func (m *Many) Add(args ...any) {
	if m.err != nil {
		return
	}
	if m.rows > 0 && len(args) != m.width {
		m.err = fmt.Errorf("a row of %d arguments follows one of %d", len(args), m.width)
		return
	}
	m.width = len(args)
	m.rows++
	m.values, m.err = appendValues(m.values, args)
}

// Len is the number of rows that were added since the last Exec or Query.
func (m *Many) Len() int { return m.rows }

// Exec runs the statement for all rows and returns the number of rows that it
// changed. Afterwards the Many is empty and may be used again. Without rows it
// does nothing.
func (m *Many) Exec() (rowsAffected int64, err error) {
	defer m.empty()
	if ready, err := m.ready(); !ready {
		return 0, err
	}
	tx := m.tx
	if tx.pipe != nil {
		n, err := tx.pipe.ExecMany(m.q, m.rows, m.values)
		if err != nil {
			return 0, tx.fail(m.q, err)
		}
		return n, nil
	}
	for i := range m.rows {
		n, err := tx.conn.Exec(m.q, m.row(i))
		if err != nil {
			return 0, tx.fail(m.q, err)
		}
		rowsAffected += n
	}
	return rowsAffected, nil
}

// Send is Exec for whom the number of changed rows does not matter; see Tx.Send.
func (m *Many) Send() error {
	tx := m.tx
	if tx.pipe == nil {
		_, err := m.Exec()
		return err
	}
	defer m.empty()
	if ready, err := m.ready(); !ready {
		return err
	}
	if err := tx.pipe.SendMany(m.q, m.rows, m.values); err != nil {
		return tx.fail(m.q, err)
	}
	return nil
}

// Query is Exec for a statement that answers with rows: those of the first row
// of arguments, then those of the second, and so on. In which order they come
// from a statement made by Each, that statement says. Do not add rows before
// the last one was read.
func (m *Many) Query() *Rows {
	r := m.tx.rows()
	r.q = m.q
	ready, err := m.ready()
	if !ready {
		r.err = err
		m.empty()
		return r
	}
	tx := m.tx
	if tx.pipe != nil {
		r.cursor, err = tx.pipe.QueryMany(m.q, m.rows, m.values)
		if err != nil {
			r.cursor, r.err = nil, tx.fail(m.q, err)
		}
	} else {
		cursor := &manyCursor{conn: tx.conn, q: m.q, width: m.width, values: m.values, left: m.rows}
		m.values = nil // they belong to the cursor
		r.cursor = cursor
		if m.q.writes { // all of it takes place, whoever stops reading
			kept, err := keep(cursor)
			if r.cursor = kept; err != nil {
				r.cursor, r.err = nil, tx.fail(m.q, err)
			}
		}
	}
	m.empty()
	return r
}

// ready tells whether there is something to run, and counts it.
func (m *Many) ready() (bool, error) {
	if m.err != nil {
		return false, m.tx.fail(m.q, m.err)
	}
	if m.rows == 0 {
		return false, nil
	}
	if m.q.inserts {
		return false, m.tx.fail(m.q, errors.New("this statement was made by store.Insert, for Tx.Insert"))
	}
	if err := m.tx.may(m.q); err != nil {
		return false, err
	}
	if m.q.each && m.tx.pipe != nil {
		m.tx.statements++
	} else {
		m.tx.statements += int64(m.rows)
	}
	return true, nil
}

func (m *Many) row(i int) []Value { return m.values[i*m.width : (i+1)*m.width] }

func (m *Many) empty() {
	clear(m.values)
	m.values, m.rows, m.width, m.err = m.values[:0], 0, 0, nil
}

// manyCursor walks over the rows of one query after the other.
type manyCursor struct {
	conn   Conn
	q      *Stmt
	width  int
	left   int // queries to come
	values []Value
	Cursor // of the present query, nil before the first
}

func (c *manyCursor) Next() (bool, error) {
	for {
		if c.Cursor != nil {
			if more, err := c.Cursor.Next(); more || err != nil {
				return more, err
			}
			c.Cursor.Close()
			c.Cursor = nil
		}
		if c.left == 0 {
			return false, nil
		}
		var err error
		if c.Cursor, err = c.conn.Query(c.q, c.values[:c.width]); err != nil {
			c.Cursor = nil
			return false, err
		}
		c.left, c.values = c.left-1, c.values[c.width:]
	}
}

func (c *manyCursor) Columns() int {
	if c.Cursor == nil {
		return 0
	}
	return c.Cursor.Columns()
}

func (c *manyCursor) Close() {
	if c.Cursor != nil {
		c.Cursor.Close()
		c.Cursor = nil
	}
	c.left = 0
}

// keptCursor walks over rows in memory.
type keptCursor struct {
	columns int
	values  []Value // of all rows
	at      int     // where the next row begins
}

// keep reads a cursor to its end.
func keep(c *manyCursor) (*keptCursor, error) {
	defer c.Close()
	k := &keptCursor{}
	for {
		more, err := c.Next()
		if !more || err != nil {
			return k, err
		}
		k.columns = c.Columns()
		for i := range k.columns {
			v := c.Column(i)
			v.Blob = slices.Clone(v.Blob)
			k.values = append(k.values, v)
		}
	}
}

func (k *keptCursor) Next() (bool, error) {
	if k.at == len(k.values) {
		return false, nil
	}
	k.at += k.columns
	return true, nil
}

func (k *keptCursor) Columns() int       { return k.columns }
func (k *keptCursor) Column(i int) Value { return k.values[k.at-k.columns+i] }
func (k *keptCursor) Close()             {}
