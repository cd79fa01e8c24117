// Package clock is time as this system knows it: an instant counted in
// microseconds, its published text form, and the clock that tells it.
//
// The database stores instants as integers; the API speaks
// "2006-01-02T15:04:05.000Z" with exactly three fractional digits, always UTC.
package clock

import (
	"errors"
	"fmt"
	"time"
)

// Time is an instant: microseconds since 1970-01-01T00:00:00Z. The zero value
// means "no time".
type Time int64

// Of converts a time.Time, dropping what is finer than a microsecond.
func Of(t time.Time) Time { return Time(t.UnixMicro()) }

// OfMillis makes a Time of milliseconds since the epoch, as certificates hold them.
func OfMillis(ms int64) Time { return Time(ms * 1000) }

// Std converts to the standard library's type, in UTC.
func (t Time) Std() time.Time { return time.UnixMicro(int64(t)).UTC() }

// Millis is the number of whole milliseconds since the epoch.
func (t Time) Millis() int64 { return int64(t) / 1000 }

// Truncate drops what is finer than a millisecond, which is all that the API shows.
func (t Time) Truncate() Time { return t - t%1000 }

// Add returns the instant d later.
func (t Time) Add(d time.Duration) Time { return t + Time(d/time.Microsecond) }

// Sub returns the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t-u) * time.Microsecond }

// IsZero tells whether t is "no time".
func (t Time) IsZero() bool { return t == 0 }

// String is the published form.
func (t Time) String() string { return string(t.Append(nil)) }

// Append appends the published form, without quotes: exactly three fractional
// digits, as JavaScript's toJSON writes them, which also gives a year outside
// 0 to 9999 a sign and six digits. It stands in every answer a dozen times, so
// it does the arithmetic itself.
func (t Time) Append(b []byte) []byte {
	ms := floor(int64(t), 1000)
	days := floor(ms, 24*60*60*1000)
	rest := int(ms - days*24*60*60*1000)
	year, month, day := civil(days)
	switch {
	case year < 0:
		b = appendDigits(append(b, '-'), -year, 6)
	case year > 9999:
		b = appendDigits(append(b, '+'), year, 6)
	default:
		b = appendDigits(b, year, 4)
	}
	b = appendDigits(append(b, '-'), month, 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), rest/3600000, 2)
	b = appendDigits(append(b, ':'), rest/60000%60, 2)
	b = appendDigits(append(b, ':'), rest/1000%60, 2)
	b = appendDigits(append(b, '.'), rest%1000, 3)
	return append(b, 'Z')
}

// civil gives the date of a day counted from 1970-01-01, by the algorithm of
// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in
// March, so that the leap day is the last.
func civil(days int64) (year, month, day int) {
	z := days + 719468 // from 0000-03-01
	era := floor(z, 146097)
	ofEra := z - era*146097
	yearOfEra := (ofEra - ofEra/1460 + ofEra/36524 - ofEra/146096) / 365
	ofYear := ofEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	fromMarch := (5*ofYear + 2) / 153
	day = int(ofYear-(153*fromMarch+2)/5) + 1
	year = int(yearOfEra + era*400)
	month = int(fromMarch) + 3
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}

// floor divides, rounding down.
func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func appendDigits(b []byte, n, width int) []byte {
	var d [6]byte
	for i := width - 1; i >= 0; i-- {
		d[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, d[:width]...)
}

// MarshalJSON writes the published form as a JSON string.
func (t Time) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, len(`"2006-01-02T15:04:05.000Z"`))
	b = append(b, '"')
	b = t.Append(b)
	return append(b, '"'), nil
}

// UnmarshalJSON accepts what Parse accepts, as a JSON string.
func (t *Time) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return errors.New("a time must be a JSON string")
	}
	v, err := Parse(string(b[1 : len(b)-1]))
	if err != nil {
		return err
	}
	*t = v
	return nil
}

// Parse reads a date-time as the API accepts it: date, then T, t or white
// space, then HH:MM:SS with an optional fraction of any length, and an
// optional zone (Z, z, +HH:MM or +HHMM); without a zone it is UTC. The result
// is truncated to milliseconds, as JavaScript's Date would.
func Parse(s string) (Time, error) {
	bad := func() (Time, error) { return 0, fmt.Errorf("%q is not a date-time", s) }
	if len(s) < 19 {
		return bad()
	}
	year, ok1 := digits(s[0:4])
	month, ok2 := digits(s[5:7])
	day, ok3 := digits(s[8:10])
	hour, ok4 := digits(s[11:13])
	minute, ok5 := digits(s[14:16])
	second, ok6 := digits(s[17:19])
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || s[4] != '-' || s[7] != '-' || s[13] != ':' || s[16] != ':' {
		return bad()
	}
	switch s[10] {
	case 'T', 't', ' ', '\t', '\n', '\v', '\f', '\r':
	default:
		return bad()
	}
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return bad()
	}
	rest := s[19:]
	millis := 0
	if rest != "" && rest[0] == '.' {
		n := 1
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			if n <= 3 {
				millis = millis*10 + int(rest[n]-'0')
			}
			n++
		}
		if n == 1 {
			return bad()
		}
		for i := n; i < 4; i++ {
			millis *= 10
		}
		rest = rest[n:]
	}
	offset := 0
	switch {
	case rest == "" || rest == "Z" || rest == "z":
	case rest[0] == '+' || rest[0] == '-':
		z := rest[1:]
		if len(z) == 5 && z[2] == ':' {
			z = z[:2] + z[3:]
		}
		if len(z) != 4 {
			return bad()
		}
		h, okH := digits(z[:2])
		m, okM := digits(z[2:])
		if !okH || !okM || h > 23 || m > 59 {
			return bad()
		}
		offset = h*60 + m
		if rest[0] == '-' {
			offset = -offset
		}
	default:
		return bad()
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, millis*1e6, time.UTC)
	return Of(t.Add(-time.Duration(offset) * time.Minute)), nil
}

func digits(s string) (int, bool) {
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}
