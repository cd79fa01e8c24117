package store

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// Errors that callers may test for with errors.Is.
var (
	// ErrNoRows is returned by Row.Scan when the query found nothing.
	ErrNoRows = errors.New("no rows")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrNewerSchema is returned at opening when a newer version of this
	// program wrote the data.
	ErrNewerSchema = errors.New("the data was written by a newer version of this program")
	// ErrDiskFull is returned to every caller of a transaction that found no
	// space. Nothing of it was kept; it may be tried again.
	ErrDiskFull = errors.New("the disk that holds the data is full: nothing was stored; free some space and try again")
	// ErrIO is returned to every caller of a transaction during which the disk
	// failed. Nothing of it was kept.
	ErrIO = errors.New("the disk that holds the data failed: nothing was stored")
	// ErrDamaged is returned when the file is no database, or a damaged one.
	// Nothing of the transaction was kept.
	ErrDamaged = errors.New("the database is damaged or not a database: restore it from a backup")
	// ErrAltered is returned when a table or column is missing that a
	// migration made.
	ErrAltered = errors.New("the tables of the database are not those of this program: they were altered; restore it from a backup")
	// ErrConflict is returned when a statement broke a constraint of the
	// schema (unique key, foreign key, check, not null).
	ErrConflict = errors.New("a constraint of the schema was broken")
	// ErrUnavailable is returned to every caller of a transaction during which
	// the database could not be reached. Nothing of it was kept; it may be
	// tried again.
	ErrUnavailable = errors.New("the database cannot be reached: nothing was stored; try again")
	// ErrOutcomeUnknown is returned to every caller of a transaction when the
	// database went away during the commit and did not come back in time to
	// tell what became of it. It was kept as a whole, or not at all.
	ErrOutcomeUnknown = errors.New("the database went away during the commit: it is not known whether it was stored")
	// ErrLocked is returned at opening when another process has the data
	// directory open.
	ErrLocked = errors.New("the data is in use by another process")
)

// errFatal tells an error of the whole transaction from one that a single
// operation caused.
func errFatal(err error) bool {
	for _, fatal := range []error{ErrDiskFull, ErrIO, ErrDamaged, ErrUnavailable, ErrOutcomeUnknown} {
		if errors.Is(err, fatal) {
			return true
		}
	}
	return false
}

// PanicError is what a caller gets whose function panicked. The transaction
// was undone.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic in a transaction: %v", e.Value) }

func newPanicError(value any) error { return &PanicError{Value: value, Stack: debug.Stack()} }

func asPanic(err error) *PanicError {
	var p *PanicError
	if errors.As(err, &p) {
		return p
	}
	return nil
}
