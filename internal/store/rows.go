package store

import (
	"context"
	"errors"
	"fmt"
)

// Rows are the rows of a query. They must not be used after Close.
type Rows struct {
	tx     *Tx
	q      *Stmt
	cursor Cursor
	err    error
	closed bool
}

// Next moves to the next row. After the last, or an error, it closes the rows
// and returns false.
func (r *Rows) Next() bool {
	if r.cursor == nil {
		return false
	}
	if ctx := r.tx.ctx; ctx != nil && ctx.Err() != nil {
		r.err = r.tx.fail(r.q, context.Cause(ctx))
		r.release()
		return false
	}
	more, err := r.cursor.Next()
	if err != nil {
		r.err = r.tx.fail(r.q, err)
	}
	if !more || err != nil {
		r.release()
		return false
	}
	return true
}

// Scan copies the columns of the present row into the variables that dest
// points to.
func (r *Rows) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	if r.cursor == nil {
		return errors.New("Scan without a row: call Next first")
	}
	if n := r.cursor.Columns(); n != len(dest) {
		r.err = r.tx.fail(r.q, fmt.Errorf("the row has %d columns, Scan was given %d variables", n, len(dest)))
		return r.err
	}
	for i, d := range dest {
		if err := scan(d, r.cursor.Column(i)); err != nil {
			r.err = r.tx.fail(r.q, fmt.Errorf("column %d: %w", i+1, err))
			return r.err
		}
	}
	return nil
}

// Err is the error that ended the rows, if one did.
func (r *Rows) Err() error { return r.err }

// Close ends the query. Calling it again, or after Next returned false, is
// harmless.
func (r *Rows) Close() {
	r.release()
	r.closed = true
}

func (r *Rows) release() {
	if r.cursor != nil {
		r.cursor.Close()
		r.cursor = nil
	}
}

// Row is the first row of a query.
type Row Rows

// Scan copies the columns into the variables that dest points to, and ends the
// query. It returns ErrNoRows when there is no row.
func (r *Row) Scan(dest ...any) error {
	rows := (*Rows)(r)
	defer rows.Close()
	if !rows.Next() {
		if rows.err != nil {
			return rows.err
		}
		return ErrNoRows
	}
	if err := rows.Scan(dest...); err != nil {
		return err
	}
	// A writing statement (RETURNING) has to run to its end.
	if rows.q.writes {
		for rows.Next() {
		}
	}
	return rows.err
}

// rows hands out a cursor from the transaction's spare ones.
func (tx *Tx) rows() *Rows {
	if len(tx.idle) == 0 {
		// Closed ones become spare only here, so that Err works after Close.
		open := tx.open[:0]
		for _, r := range tx.open {
			if r.closed {
				tx.idle = append(tx.idle, r)
			} else {
				open = append(open, r)
			}
		}
		clear(tx.open[len(open):])
		tx.open = open
	}
	var r *Rows
	if n := len(tx.idle); n > 0 {
		r = tx.idle[n-1]
		tx.idle = tx.idle[:n-1]
	} else {
		r = new(Rows)
	}
	*r = Rows{tx: tx}
	tx.open = append(tx.open, r)
	return r
}

// closeRows closes what the operation left open.
func (tx *Tx) closeRows() {
	for _, r := range tx.open {
		r.Close()
	}
}
