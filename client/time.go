package client

import (
	"errors"
	"time"
)

// Time is a time as the API writes it: UTC with three fractional digits.
// Finer parts are cut off when it is written.
type Time struct{ time.Time }

// At returns t as a Time.
func At(t time.Time) Time { return Time{t} }

const timeLayout = "2006-01-02T15:04:05.000Z"

// String returns the API's form.
func (t Time) String() string { return t.UTC().Format(timeLayout) }

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) {
	return t.AppendText(make([]byte, 0, len(timeLayout)))
}

// AppendText implements encoding.TextAppender.
func (t Time) AppendText(b []byte) ([]byte, error) {
	utc := t.UTC()
	if y := utc.Year(); y < 0 || y > 9999 {
		return nil, errors.New("client: year of a time is not within 0 to 9999")
	}
	return utc.AppendFormat(b, timeLayout), nil
}

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, len(timeLayout)+2), '"')
	b, err := t.AppendText(b)
	if err != nil {
		return nil, err
	}
	return append(b, '"'), nil
}

// UnmarshalJSON reads any RFC 3339 time.
func (t *Time) UnmarshalJSON(text []byte) error { return t.Time.UnmarshalJSON(text) }

// UnmarshalText reads any RFC 3339 time.
func (t *Time) UnmarshalText(text []byte) error { return t.Time.UnmarshalText(text) }
