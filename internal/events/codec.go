package events

import (
	"encoding/binary"
	"errors"
	"slices"
)

// A row of the log holds the events of one commit, one after the other:
//
//	byte     1, the version of this encoding
//	for each event:
//	  uvarint  the exchange: 0 for one that is new in this row, whose name
//	           follows as a string; n for the n-th name of this row
//	  string   the routing key
//	  uvarint  the number of CC keys
//	  string   each CC key
//	  string   the payload
//
// A string is its length in bytes as uvarint (encoding/binary), then the bytes.
const encodingVersion = 1

var errCorrupt = errors.New("a row of the event log cannot be read")

// encoder builds one row.
type encoder struct {
	buf       []byte
	exchanges []string
	count     int
}

func (enc *encoder) reset() {
	*enc = encoder{buf: append(enc.buf[:0], encodingVersion), exchanges: enc.exchanges[:0]}
}

func (enc *encoder) add(e *Event) {
	if n := slices.Index(enc.exchanges, e.Exchange); n >= 0 {
		enc.buf = binary.AppendUvarint(enc.buf, uint64(n+1))
	} else {
		enc.exchanges = append(enc.exchanges, e.Exchange)
		enc.buf = binary.AppendUvarint(enc.buf, 0)
		enc.buf = appendString(enc.buf, e.Exchange)
	}
	enc.buf = appendString(enc.buf, e.Key)
	enc.buf = binary.AppendUvarint(enc.buf, uint64(len(e.CC)))
	for _, cc := range e.CC {
		enc.buf = appendString(enc.buf, cc)
	}
	enc.buf = appendString(enc.buf, e.Payload)
	enc.count++
}

func appendString[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decode reads a row. The payloads are parts of row, which must not change
// afterwards.
func decode(row []byte) ([]Event, error) {
	if len(row) == 0 || row[0] != encodingVersion {
		return nil, errCorrupt
	}
	d := decoder{row: row, text: string(row), at: 1}
	var events []Event
	var exchanges []string
	for d.at < len(row) && !d.bad {
		var e Event
		switch n := d.number(); {
		case n == 0:
			e.Exchange = d.string()
			exchanges = append(exchanges, e.Exchange)
		case n <= uint64(len(exchanges)):
			e.Exchange = exchanges[n-1]
		default:
			d.bad = true
		}
		e.Key = d.string()
		ccs := d.number()
		if ccs > uint64(len(row)-d.at) { // each has at least one byte
			d.bad = true
		}
		if ccs > 0 && !d.bad {
			e.CC = make([]string, ccs)
			for i := range e.CC {
				e.CC[i] = d.string()
			}
		}
		from, to := d.part()
		e.Payload = row[from:to:to]
		events = append(events, e)
	}
	if d.bad {
		return nil, errCorrupt
	}
	return events, nil
}

// decoder walks over a row. After bad is set, its answers are empty.
type decoder struct {
	row  []byte
	text string // the same bytes, for strings without a copy each
	at   int
	bad  bool
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.row[d.at:])
	if size <= 0 {
		d.bad = true
	}
	if d.bad {
		return 0
	}
	d.at += size
	return n
}

// part is where the next string stands.
func (d *decoder) part() (from, to int) {
	n := d.number()
	if d.bad || n > uint64(len(d.row)-d.at) {
		d.bad = true
		return 0, 0
	}
	from = d.at
	d.at += int(n)
	return from, d.at
}

func (d *decoder) string() string {
	from, to := d.part()
	return d.text[from:to]
}
