package store

import (
	"context"
	"time"
)

// The names of the engines, as Stmt.Text and migrations know them.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Engine is a database as the store uses it.
type Engine interface {
	// Dialect is SQLite or Postgres.
	Dialect() string
	// Where names the database for messages, without secrets.
	Where() string
	// Writer is the connection of the writer. Only one goroutine uses it.
	Writer() Conn
	// Reader hands out a connection for one Read, waiting for one to be free.
	Reader(ctx context.Context) (Conn, error)
	// Release takes a Reader back.
	Release(Conn)
	// Listen starts to tell what the processes that have the database open,
	// this one too, gave to Commit as a notice. It returns false, and does
	// nothing, when no other process can have the database open.
	Listen(ctx context.Context, l Listener) (shared bool, err error)
	// Rest is called by the writer after each transaction, when the callers
	// have been answered: time for housekeeping that must not meet a write.
	Rest()
	// Close ends everything.
	Close() error
}

// Listener is what Engine.Listen calls, one call at a time.
type Listener struct {
	// Heard is called with each notice, in the order of the commits.
	Heard func(notice string)
	// Lost is called when some may have been missed, and about every second
	// while there is no telling.
	Lost func()
	// Sure is called while there is telling, when Asked, and every ten seconds or
	// so: of all that was committed before the given time, Heard or Lost has been
	// called.
	Sure func(at time.Time)
	// Asked holds a token when the time that Sure was called with last has become
	// old for somebody.
	Asked <-chan struct{}
}

// Conn is one connection. It is not safe for concurrent use. Errors are
// ErrDiskFull, ErrIO, ErrDamaged, ErrAltered, ErrConflict or ErrUnavailable
// (wrapped) where they apply.
type Conn interface {
	// Begin starts a transaction: a writing one on the writer, a snapshot on
	// a reader. Of those who write to the database, in whatever process, one
	// has a transaction at a time.
	Begin() error
	// Single makes a connection ready for one statement without a transaction,
	// which is a snapshot by itself. The writer's is not asked for it by a store
	// that is not shared.
	Single() error
	// Commit returns after the transaction is durable. After an error the
	// transaction is undone, unless the error is ErrOutcomeUnknown. A notice
	// that is not empty is given to those who Listen; it has less than 8,000
	// bytes and no NUL.
	Commit(notice string) error
	// Rollback undoes the transaction; harmless when there is none.
	Rollback() error
	// Exec runs a statement to its end and returns the number of changed rows.
	Exec(q *Stmt, args []Value) (int64, error)
	// Insert runs a statement made by store.Insert and returns the row's id;
	// ok is false when it inserted nothing.
	Insert(q *Stmt, args []Value) (id int64, ok bool, err error)
	// Query starts a statement that answers with rows.
	Query(q *Stmt, args []Value) (Cursor, error)
	// Describe prepares a statement and tells its number of arguments and of
	// columns.
	Describe(q *Stmt) (params, columns int, err error)
	// Script runs statements without arguments, separated by semicolons.
	Script(text string) error
}

// Pipeliner is a Conn to a database so far away that round trips count. For
// a Conn that is none, statements are run one by one.
type Pipeliner interface {
	Conn
	// Send runs a statement at the latest before the next one that is not sent,
	// or with the commit; its error is then the error of that.
	Send(q *Stmt, args []Value) error
	// ExecMany runs a statement once for each row of arguments, and returns the
	// number of changed rows. args has the rows one after the other. When
	// q.IsEach, it runs once, each placeholder being the array of one column.
	ExecMany(q *Stmt, rows int, args []Value) (int64, error)
	// SendMany is ExecMany as Send is Exec.
	SendMany(q *Stmt, rows int, args []Value) error
	// QueryMany is ExecMany for a statement that answers with rows: a cursor
	// over those of the first row of arguments, then those of the second, ….
	QueryMany(q *Stmt, rows int, args []Value) (Cursor, error)
}

// Cursor walks over the rows of a query. A Cursor may be used again by its
// connection after Close.
type Cursor interface {
	// Next moves to the next row, or tells that there is none.
	Next() (bool, error)
	// Columns is the number of columns.
	Columns() int
	// Column is a value of the present row. Text and blobs are in Blob, and
	// valid until the next call of Next or Close.
	Column(i int) Value
	// Close ends the query; further calls do nothing.
	Close()
}

// Kind is the type of a Value.
type Kind uint8

// The kinds of values. Those of a column are Null, Int, Text, Bytes or Other;
// ID occurs in arguments only.
const (
	Null Kind = iota
	Int
	Text
	Bytes
	ID
	Other
)

func (k Kind) String() string {
	return [...]string{"NULL", "an integer", "text", "bytes", "an id", "of a type that is not supported"}[k]
}

// Value is an argument of a statement or a column of a row.
type Value struct {
	Kind Kind
	Int  int64
	Text string   // Text, of an argument
	Blob []byte   // Bytes; of a column also Text
	ID   [16]byte // ID, of an argument
}
