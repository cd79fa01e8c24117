package store

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/trace"

	"taskcluster/internal/clock"
)

// Tx is a transaction, valid only inside the function that it is handed to,
// and not for concurrent use.
//
// Arguments and scan destinations are int64, int, bool (stored as 0 or 1),
// string, []byte, clock.Time, slugid.ID, and pointers to them where the column
// may be NULL. Anything else is refused by name; so is a column of another
// type than its destination. A nil []byte is NULL.
type Tx struct {
	conn     Conn
	pipe     Pipeliner       // conn, if it is one
	ctx      context.Context // of Read; nil in the writer
	clock    clock.Clock
	now      clock.Time
	readOnly bool
	single   bool // for one statement: of ReadOne and writer.submitOne
	live     bool // a function runs that it was handed to

	dirty  bool  // something was written, or memory may have been touched, since the operation began
	failed error // the first statement that failed since the operation began

	values     []Value // scratch for arguments
	open, idle []*Rows // cursors in use, and spare ones
	statements int64
	span       trace.Span // of the transaction; nil when none of its operations is traced

	onCommit     []func()
	beforeCommit []func(*Tx) error
	signals      []topicSignals
	signalled    map[[2]string]bool // topic and detail
	locals       map[any]any
}

// Exec runs a statement and returns the number of rows that it changed.
func (tx *Tx) Exec(q *Stmt, args ...any) (rowsAffected int64, err error) {
	if err := tx.prepare(q, args); err != nil {
		return 0, err
	}
	n, err := tx.conn.Exec(q, tx.values)
	if err != nil {
		return 0, tx.fail(q, err)
	}
	return n, nil
}

// Insert runs a statement made by the function Insert and returns the id of the
// new row; ok is false when ON CONFLICT DO NOTHING left it out.
func (tx *Tx) Insert(q *Stmt, args ...any) (id int64, ok bool, err error) {
	if err := tx.prepare(q, args); err != nil {
		return 0, false, err
	}
	if !q.inserts {
		return 0, false, tx.fail(q, errors.New("this statement was not made by store.Insert"))
	}
	id, ok, err = tx.conn.Insert(q, tx.values)
	if err != nil {
		return 0, false, tx.fail(q, err)
	}
	return id, ok, nil
}

// Query runs a statement that answers with rows. Its errors show in Rows.Err
// and Rows.Scan. Rows that were not closed are closed when the function ends.
func (tx *Tx) Query(q *Stmt, args ...any) *Rows {
	r := tx.rows()
	r.q = q
	if r.err = tx.prepare(q, args); r.err != nil {
		return r
	}
	cursor, err := tx.conn.Query(q, tx.values)
	if err != nil {
		r.err = tx.fail(q, err)
		return r
	}
	r.cursor = cursor
	return r
}

// Row runs a statement that answers with one row; more are ignored.
func (tx *Tx) Row(q *Stmt, args ...any) *Row {
	return (*Row)(tx.Query(q, args...))
}

// Now is one instant for the whole transaction, the same for all operations
// that share it.
func (tx *Tx) Now() clock.Time {
	if tx.now == 0 {
		tx.now = tx.clock.Now()
	}
	return tx.now
}

// OnCommit has fn called once after the transaction is durable and before any
// caller is answered, in the order of the calls and in the writer's goroutine,
// so it must be quick and must not use the store. It is discarded when the
// transaction is undone.
func (tx *Tx) OnCommit(fn func()) {
	if tx.hook("OnCommit") {
		tx.onCommit = append(tx.onCommit, fn)
	}
}

// BeforeCommit has fn called once just before the commit, after all operations
// of the transaction. Its error undoes the transaction; it is then tried again
// in smaller parts, so that only the operation that caused it fails.
func (tx *Tx) BeforeCommit(fn func(*Tx) error) {
	if tx.hook("BeforeCommit") {
		tx.beforeCommit = append(tx.beforeCommit, fn)
	}
}

// Local is a value that lives as long as the transaction, shared by the
// operations in it and discarded with it: a place to collect what is written
// once per commit. It is made at first use. Keys follow the rule of
// context.WithValue: a type of the package's own.
func (tx *Tx) Local(key any, make func() any) any {
	if !tx.hook("Local") {
		return make()
	}
	v, ok := tx.locals[key]
	if !ok {
		v = make()
		if tx.locals == nil {
			tx.locals = map[any]any{}
		}
		tx.locals[key] = v
	}
	return v
}

// hook notes that the operation did something that only a rollback of the
// whole transaction undoes.
func (tx *Tx) hook(name string) bool {
	if tx.readOnly || tx.single {
		tx.failed = errors.Join(tx.failed, fmt.Errorf("Tx.%s is not possible in Store.Read, or for one statement", name))
		return false
	}
	tx.dirty = true
	return true
}

// prepare converts the arguments and counts the statement.
func (tx *Tx) prepare(q *Stmt, args []any) error {
	if err := tx.may(q); err != nil {
		return err
	}
	if q.each {
		return tx.fail(q, errors.New("this statement was made by store.Each, for Tx.Many"))
	}
	tx.statements++
	var err error
	if tx.values, err = appendValues(tx.values[:0], args); err != nil {
		return tx.fail(q, err)
	}
	return nil
}

// may tells why a statement may not run, if it may not.
func (tx *Tx) may(q *Stmt) error {
	if !tx.live {
		return errors.New("a transaction was used outside its function")
	}
	if tx.ctx != nil && tx.ctx.Err() != nil {
		return tx.fail(q, context.Cause(tx.ctx))
	}
	if q.writes {
		if tx.readOnly {
			return tx.fail(q, errors.New("a statement that writes is not possible in Store.Read"))
		}
		tx.dirty = true
	}
	if tx.single && tx.statements > 0 {
		return tx.fail(q, errors.New("a second statement is not possible where there is no transaction"))
	}
	return nil
}

// fail notes the first failure of an operation: after it the operation cannot
// succeed, even if its function ignores the error. (PostgreSQL refuses further
// statements; both engines shall behave alike.)
func (tx *Tx) fail(q *Stmt, err error) error {
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrAltered) { // whatever the statement was
		err = fmt.Errorf("%w (in: %s)", err, q)
	}
	if tx.failed == nil {
		tx.failed = err
	}
	return err
}

// run is one operation in a shared transaction.
func (tx *Tx) run(fn func(*Tx) error) error {
	tx.dirty, tx.failed, tx.live = false, nil, true
	err := contain(func() error { return fn(tx) })
	tx.closeRows()
	tx.live = false
	if tx.failed != nil && (err == nil || errFatal(tx.failed)) {
		err = tx.failed
	}
	if err != nil && (tx.failed != nil || asPanic(err) != nil) {
		tx.dirty = true
	}
	return err
}

// reset makes a Tx ready for the next transaction, keeping its scratch space.
func (tx *Tx) reset() {
	clear(tx.onCommit)
	clear(tx.beforeCommit)
	clear(tx.locals)
	clear(tx.values)
	clear(tx.signals)
	clear(tx.signalled)
	tx.signals = tx.signals[:0]
	tx.onCommit, tx.beforeCommit, tx.values = tx.onCommit[:0], tx.beforeCommit[:0], tx.values[:0]
	tx.now, tx.dirty, tx.failed, tx.span = 0, false, nil, nil
}
