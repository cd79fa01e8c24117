// Package slugid makes and reads the 22-character identifiers of tasks, task
// groups and uploads: a version 4 UUID (RFC 9562) in unpadded URL-safe base64.
//
// An identifier that Parse accepts is exactly one that Pattern matches, so the
// text form and the 16-byte form stand for each other without loss.
package slugid

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"sync"
)

// Pattern is the regular expression of a slugid, as the published schemas give it.
const Pattern = `^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$`

// Length is the number of characters of a slugid.
const Length = 22

// ErrInvalid is returned for text that Pattern does not match.
var ErrInvalid = errors.New("not a slugid: must be 22 characters of URL-safe base64 holding a version 4 UUID")

// ID is a slugid in its binary form, a version 4 UUID. The zero ID is not a
// valid slugid; it can say "none".
type ID [16]byte

// encoding is strict: unused bits at the end must be zero, so that there is
// one text for one ID.
var encoding = base64.RawURLEncoding.Strict()

// batch holds random bytes that were drawn in one call and not yet used.
type batch struct {
	bytes [64 * 16]byte
	used  int
}

// batches hands each caller a batch of its own, so that New takes no lock and
// reads the system's generator once in 64 calls.
var batches = sync.Pool{New: func() any {
	b := new(batch)
	b.used = len(b.bytes)
	return b
}}

// New returns a random slugid. It never fails: crypto/rand ends the program
// when the system has no randomness.
func New() ID {
	var id ID
	b := batches.Get().(*batch)
	if b.used == len(b.bytes) {
		rand.Read(b.bytes[:])
		b.used = 0
	}
	drawn := b.bytes[b.used : b.used+len(id)]
	copy(id[:], drawn)
	clear(drawn) // a used identifier may be a secret; don't keep it
	b.used += len(id)
	batches.Put(b)

	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80 // RFC variant
	return id
}

// Nice returns a random slugid that starts with a letter ([A-Za-f]), so that it
// never looks like a command line option. It has one bit less of randomness.
func Nice() ID {
	id := New()
	id[0] &= 0x7f
	return id
}

// Parse reads a slugid. It returns ErrInvalid unless Pattern matches s.
func Parse(s string) (ID, error) {
	var id ID
	if len(s) != Length {
		return ID{}, ErrInvalid
	}
	// The decoder skips line breaks; with one inside, fewer than 16 bytes come out.
	if n, err := encoding.Decode(id[:], []byte(s)); err != nil || n != len(id) {
		return ID{}, ErrInvalid
	}
	if id[6]>>4 != 4 || id[8]>>6 != 2 {
		return ID{}, ErrInvalid
	}
	return id, nil
}

// MustParse is Parse for constants in tests and tables; it panics on bad input.
func MustParse(s string) ID {
	id, err := Parse(s)
	if err != nil {
		panic("slugid: " + s + ": " + err.Error())
	}
	return id
}

// String returns the 22-character form.
func (id ID) String() string {
	var text [Length]byte
	encoding.Encode(text[:], id[:])
	return string(text[:])
}

// AppendTo appends the 22-character form to b.
func (id ID) AppendTo(b []byte) []byte {
	return encoding.AppendEncode(b, id[:])
}

// IsZero reports whether id is the zero ID. JSON's omitzero uses it.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) {
	return id.AppendTo(make([]byte, 0, Length)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler, as strict as Parse.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
