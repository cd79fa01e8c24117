package store

import (
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
)

// appendValues converts arguments. It only switches on their types and copies
// what they hold, which lets the compiler keep the boxes that callers make on
// the stack.
func appendValues(values []Value, args []any) ([]Value, error) {
	for i, arg := range args {
		v := Value{Kind: Null}
		switch a := arg.(type) {
		case nil:
		case int64:
			v.Kind, v.Int = Int, a
		case int:
			v.Kind, v.Int = Int, int64(a)
		case bool:
			v.Kind, v.Int = Int, integer(a)
		case string:
			v.Kind, v.Text = Text, a
		case []byte:
			if a != nil {
				v.Kind, v.Blob = Bytes, a
			}
		case clock.Time:
			v.Kind, v.Int = Int, int64(a)
		case slugid.ID:
			v.Kind, v.ID = ID, a
		case *int64:
			if a != nil {
				v.Kind, v.Int = Int, *a
			}
		case *int:
			if a != nil {
				v.Kind, v.Int = Int, int64(*a)
			}
		case *bool:
			if a != nil {
				v.Kind, v.Int = Int, integer(*a)
			}
		case *string:
			if a != nil {
				v.Kind, v.Text = Text, *a
			}
		case *[]byte:
			if a != nil && *a != nil {
				v.Kind, v.Blob = Bytes, *a
			}
		case *clock.Time:
			if a != nil {
				v.Kind, v.Int = Int, int64(*a)
			}
		case *slugid.ID:
			if a != nil {
				v.Kind, v.ID = ID, *a
			}
		default:
			return values, fmt.Errorf("argument %d has the type %s, which the store does not take", i+1, reflect.TypeOf(arg))
		}
		// SQLite would take what PostgreSQL refuses.
		if v.Kind == Text && (strings.IndexByte(v.Text, 0) >= 0 || !utf8.ValidString(v.Text)) {
			return values, fmt.Errorf("argument %d is text with a NUL byte or not in UTF-8", i+1)
		}
		values = append(values, v)
	}
	return values, nil
}

func integer(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// scan copies a column into the variable that dest points to.
func scan(dest any, v Value) error {
	want := Int
	switch d := dest.(type) {
	case *int64:
		*d = v.Int
	case *int:
		*d = int(v.Int)
	case *bool:
		*d = v.Int != 0
	case *clock.Time:
		*d = clock.Time(v.Int)
	case *string:
		want = Text
		*d = string(v.Blob)
	case *[]byte:
		want = Bytes
		if v.Kind == Null {
			*d = nil
			return nil
		}
		*d = append(make([]byte, 0, len(v.Blob)), v.Blob...)
	case *slugid.ID:
		want = Bytes
		if v.Kind == Bytes && len(v.Blob) != len(d) {
			return fmt.Errorf("%d bytes do not make a slugid", len(v.Blob))
		}
		copy(d[:], v.Blob)
	default:
		return scanNullable(dest, v)
	}
	return check(want, v.Kind, dest)
}

func scanNullable(dest any, v Value) error {
	null := v.Kind == Null
	want := Int
	switch d := dest.(type) {
	case **int64:
		*d = nullable(null, v.Int)
	case **int:
		*d = nullable(null, int(v.Int))
	case **bool:
		*d = nullable(null, v.Int != 0)
	case **clock.Time:
		*d = nullable(null, clock.Time(v.Int))
	case **string:
		want = Text
		*d = nullable(null, string(v.Blob))
	case **slugid.ID:
		want = Bytes
		var id slugid.ID
		if v.Kind == Bytes && len(v.Blob) != len(id) {
			return fmt.Errorf("%d bytes do not make a slugid", len(v.Blob))
		}
		copy(id[:], v.Blob)
		*d = nullable(null, id)
	default:
		return fmt.Errorf("Scan into %s is not supported", reflect.TypeOf(dest))
	}
	if null {
		return nil
	}
	return check(want, v.Kind, dest)
}

func nullable[T any](null bool, v T) *T {
	if null {
		return nil
	}
	return &v
}

func check(want, have Kind, dest any) error {
	if want != have {
		return fmt.Errorf("the value is %v and cannot be read into %s", have, reflect.TypeOf(dest))
	}
	return nil
}
