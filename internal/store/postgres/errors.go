package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"taskcluster/internal/store"
)

// classify makes an error of the store, by SQLSTATE
// (https://www.postgresql.org/docs/current/errcodes-appendix.html). lost tells
// that the connection is of no use any more. The server's detail and hint may
// quote rows, and are left out.
func classify(err error) (_ error, lost bool) {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return fmt.Errorf("%w (%w)", store.ErrUnavailable, err), true
	}
	text := fmt.Sprintf("PostgreSQL: %s, code %s", pe.Message, pe.Code)
	lost = pe.Severity == "FATAL" || pe.Severity == "PANIC" || pe.SeverityUnlocalized == "FATAL" || pe.SeverityUnlocalized == "PANIC"
	is := func(kind error) (error, bool) { return fmt.Errorf("%w (%s)", kind, text), lost }
	class := pe.Code
	if len(class) > 2 {
		class = class[:2]
	}
	switch pe.Code {
	case "53100": // disk_full
		return is(store.ErrDiskFull)
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return is(store.ErrDamaged)
	case "42P01", "42703", "3F000": // undefined_table, undefined_column, invalid_schema_name
		return is(store.ErrAltered)
	case "25006": // read_only_sql_transaction: it has become a standby
		lost = true
		return is(store.ErrUnavailable)
	case "57014", "55P03": // query_canceled, lock_not_available: it took too long
		return is(store.ErrUnavailable)
	case "57P01", "57P02", "57P03", "57P05", "25P03": // the server shuts down, starts, or ended an idle session or transaction
		lost = true
		return is(store.ErrUnavailable)
	}
	switch class {
	case "23": // integrity_constraint_violation
		return is(store.ErrConflict)
	case "58": // system_error
		return is(store.ErrIO)
	case "08", "53": // connection_exception, insufficient_resources
		return is(store.ErrUnavailable)
	}
	return errors.New(text), lost
}

// unreachable is why there is no connection. What the server says of a wrong
// password or a missing database does not hold the password.
func (e *engine) unreachable(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return fmt.Errorf("%w (%s: %s, code %s)", store.ErrUnavailable, e.Where(), pe.Message, pe.Code)
	}
	return fmt.Errorf("%w (%s: %w)", store.ErrUnavailable, e.Where(), cause(err))
}

// cause is the innermost error: pgconn repeats the settings around it.
func cause(err error) error {
	for {
		var list interface{ Unwrap() []error }
		if errors.As(err, &list) && len(list.Unwrap()) > 0 {
			err = list.Unwrap()[len(list.Unwrap())-1]
			continue
		}
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
