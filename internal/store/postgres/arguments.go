package postgres

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/jackc/pgx/v5/pgtype"

	"taskcluster/internal/store"
)

// arguments is the memory in which those of one statement are encoded. Text
// and blobs are not copied: pgconn does that before it returns.
type arguments struct {
	values [][]byte
	ints   []byte
}

var empty = []byte{}

// encode makes PostgreSQL's binary format of args, for the types that the
// server wants.
func (a *arguments) encode(args []store.Value, types []uint32) ([][]byte, error) {
	if len(args) != len(types) {
		return nil, fmt.Errorf("the statement has %d placeholders and was given %d arguments", len(types), len(args))
	}
	if cap(a.ints) < 8*len(args) {
		a.ints = make([]byte, 0, 8*len(args))
	}
	a.values, a.ints = a.values[:0], a.ints[:0]
	for i := range args {
		v, at := &args[i], len(a.ints)
		var raw []byte
		ok := true
		switch v.Kind {
		case store.Int:
			a.ints, ok = appendInt(a.ints, v.Int, types[i])
			raw = a.ints[at:]
		case store.Text:
			ok = types[i] == pgtype.TextOID || types[i] == pgtype.VarcharOID
			if raw = empty; v.Text != "" {
				raw = unsafe.Slice(unsafe.StringData(v.Text), len(v.Text))
			}
		case store.Bytes:
			raw, ok = v.Blob, types[i] == pgtype.ByteaOID
		case store.ID:
			raw, ok = v.ID[:], types[i] == pgtype.ByteaOID
		}
		if !ok {
			return nil, fmt.Errorf("argument %d is %v, which PostgreSQL does not take for its type %s", i+1, v.Kind, typeName(types[i]))
		}
		a.values = append(a.values, raw)
	}
	return a.values, nil
}

// appendInt encodes n as one of the types that hold whole numbers.
func appendInt(to []byte, n int64, oid uint32) ([]byte, bool) {
	switch oid {
	case pgtype.Int8OID:
		return binary.BigEndian.AppendUint64(to, uint64(n)), true
	case pgtype.Int4OID:
		return binary.BigEndian.AppendUint32(to, uint32(n)), n == int64(int32(n))
	case pgtype.Int2OID:
		return binary.BigEndian.AppendUint16(to, uint16(n)), n >= math.MinInt16 && n <= math.MaxInt16
	case pgtype.BoolOID:
		return append(to, byte(n)), n == 0 || n == 1
	}
	return to, false
}

func typeName(oid uint32) string {
	if t, ok := pgtype.NewMap().TypeForOID(oid); ok {
		return t.Name
	}
	return fmt.Sprint(oid)
}

// release forgets what the caller's memory was borrowed for.
func (a *arguments) release() { clear(a.values) }

// arrays are the types of arrays and of their elements.
var arrays = map[uint32]uint32{
	pgtype.Int8ArrayOID: pgtype.Int8OID, pgtype.Int4ArrayOID: pgtype.Int4OID, pgtype.Int2ArrayOID: pgtype.Int2OID,
	pgtype.BoolArrayOID: pgtype.BoolOID, pgtype.TextArrayOID: pgtype.TextOID, pgtype.VarcharArrayOID: pgtype.VarcharOID,
	pgtype.ByteaArrayOID: pgtype.ByteaOID,
}

// size is that of the elements of an array: each width-th value, with its length.
func size(column []store.Value, width int) (n int) {
	for i := 0; i < len(column); i += width {
		switch v := &column[i]; v.Kind {
		case store.Text:
			n += 4 + len(v.Text)
		case store.Bytes:
			n += 4 + len(v.Blob)
		default:
			n += 4 + 16 // a number, or an id
		}
	}
	return n
}

// encodeArrays makes an array of each column of args, which has the given
// number of rows, one after the other; or takes the column's first value, where
// no array is wanted.
func (a *arguments) encodeArrays(args []store.Value, rows int, types []uint32) ([][]byte, error) {
	if len(args) != rows*len(types) {
		return nil, fmt.Errorf("the statement has %d placeholders and was given %d arguments", len(types), len(args)/rows)
	}
	values := make([][]byte, len(types))
	elements := make([]uint32, len(types))
	var scalars []int
	for i, oid := range types {
		var array bool
		if elements[i], array = arrays[oid]; !array {
			elements[i] = oid
			scalars = append(scalars, i)
			continue
		}
		// One dimension, with NULLs, of this type; its length and its first index.
		head := make([]byte, 0, 20+size(args[i:], len(types)))
		for _, n := range []uint32{1, 1, elements[i], uint32(rows), 1} {
			head = binary.BigEndian.AppendUint32(head, n)
		}
		values[i] = head
	}
	for row := range rows {
		encoded, err := a.encode(args[row*len(types):(row+1)*len(types)], elements)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", row+1, err)
		}
		for i, raw := range encoded {
			if slices.Contains(scalars, i) {
				if row == 0 {
					values[i] = slices.Clone(raw)
				}
				continue
			}
			length := uint32(len(raw))
			if raw == nil {
				length = 1<<32 - 1
			}
			values[i] = append(binary.BigEndian.AppendUint32(values[i], length), raw...)
		}
	}
	a.release()
	return values, nil
}
