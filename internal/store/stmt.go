package store

import (
	"fmt"
	"reflect"
	"strings"
)

// Stmt is one SQL statement. Its text is written once, with `?` for arguments,
// in the subset that both engines share. A Stmt is made once, as a variable of
// a package; each connection prepares it at first use.
type Stmt struct {
	sqlite, postgres string
	writes           bool
	inserts          bool // made by Insert
	each             bool // made by Each
}

// SQL makes a statement whose text holds for both engines.
func SQL(text string) *Stmt { return Dialect(text, text) }

// Dialect makes a statement whose text differs. Both use `?` placeholders.
func Dialect(sqlite, postgres string) *Stmt {
	return &Stmt{
		sqlite:   strings.TrimSpace(sqlite),
		postgres: renumber(strings.TrimSpace(postgres)),
		writes:   writes(sqlite) || writes(postgres),
	}
}

// OnlyPostgres makes a statement that only PostgreSQL understands, for what there
// is only where Store.Shared is true. Each without a text for SQLite does the same.
func OnlyPostgres(text string) *Stmt {
	return Dialect("", text)
}

// Insert makes a statement for Tx.Insert from an INSERT of one row into a table
// whose key is the number id. It has no RETURNING clause: for PostgreSQL one is
// appended, SQLite tells the key anyway. There RETURNING costs a temporary table
// and a copy of each page that the statement touches.
func Insert(text string) *Stmt {
	q := Dialect(text, text+" RETURNING id")
	q.inserts = true
	return q
}

// Each makes a statement for Tx.Many. On SQLite it runs once for each row of
// arguments. On PostgreSQL it runs once for all of them, and each `?` stands for
// the array of one column of them, so that it is cast to an array type:
//
//	Each(
//		`UPDATE counter SET n = n + ? WHERE name = ?`,
//		`UPDATE counter SET n = counter.n + new.n
//		FROM unnest(CAST(? AS BIGINT[]), CAST(? AS TEXT[])) AS new (n, name) WHERE counter.name = new.name`)
//
// A `?` that is not cast to an array stands for the argument in the first row; it
// is meant for what is the same in all rows. Mind that one statement changes a row once, where a loop changes it again.
func Each(sqlite, postgres string) *Stmt {
	q := Dialect(sqlite, postgres)
	q.each = true
	return q
}

// IsEach tells whether the function Each made the statement.
func (q *Stmt) IsEach() bool { return q.each }

// Inserts tells whether the function Insert made the statement. PostgreSQL then
// answers it with a column more than SQLite.
func (q *Stmt) Inserts() bool { return q.inserts }

// Text is the statement as the engine named by dialect takes it: with `?`
// placeholders for SQLite, `$1`, `$2`, … for PostgreSQL. It is empty when the
// statement is not for the engine.
func (q *Stmt) Text(dialect string) string {
	if dialect == Postgres {
		return q.postgres
	}
	return q.sqlite
}

// String is the text, for messages.
func (q *Stmt) String() string {
	text := q.sqlite
	if text == "" {
		text = q.postgres
	}
	return strings.Join(strings.Fields(text), " ")
}

var stmtType = reflect.TypeFor[*Stmt]()

// Statements lists the *Stmt fields of a struct value (and of structs in it),
// exported or not, for a test that prepares each on both engines. It panics
// when table is no struct or a field was left nil.
func Statements(table any) []*Stmt {
	v := reflect.ValueOf(table)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		panic(fmt.Sprintf("store.Statements wants a struct of *store.Stmt, not %T", table))
	}
	return statements(nil, v)
}

func statements(list []*Stmt, v reflect.Value) []*Stmt {
	for i := range v.NumField() {
		field := v.Field(i)
		switch {
		case field.Type() == stmtType:
			if field.IsNil() {
				panic(fmt.Sprintf("store.Statements: the field %s of %s has no statement", v.Type().Field(i).Name, v.Type()))
			}
			list = append(list, (*Stmt)(field.UnsafePointer()))
		case field.Kind() == reflect.Struct:
			list = statements(list, field)
		}
	}
	return list
}
