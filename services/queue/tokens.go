package queue

import (
	"bytes"
	"encoding/hex"
	"hash/crc32"
	"strconv"
	"strings"
	"unicode/utf8"

	"taskcluster/internal/clock"
	"taskcluster/internal/tcerr"
)

// A continuation token names the last key of a page: in hexadecimal digits a
// checksum, which tells it from garbage, and the key. What becomes of garbage
// is published. Methods that gave offsets refuse (strict) characters that no
// token of theirs had, which are all but letters and digits; otherwise (lax)
// the list begins anew.

func makeToken(key string) string {
	b := []byte(key)
	return hex.EncodeToString(append(checksum(b), b...))
}

func checksum(key []byte) []byte {
	n := crc32.ChecksumIEEE(key)
	return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// laxToken gives the key, or "" for garbage. The checksum is no signature: the
// key is text, but otherwise anything.
func laxToken(token string) string {
	b, err := hex.DecodeString(token)
	if err != nil || len(b) < 4 || string(checksum(b[4:])) != string(b[:4]) {
		return ""
	}
	key := b[4:]
	if !utf8.Valid(key) || bytes.IndexByte(key, 0) >= 0 { // a database refuses both
		return ""
	}
	return string(key)
}

// strictToken gives the key, or "" for garbage that is not refused.
func strictToken(token string) (key string, err error) {
	for i := 0; i < len(token); i++ {
		if c := token[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return "", tcerr.New(tcerr.InputError, "Invalid continuation token")
		}
	}
	return laxToken(token), nil
}

// rowToken makes a token of a number, which is not negative.
func rowToken(row int64) string { return makeToken(strconv.FormatInt(row, 10)) }

func strictRowToken(token string) (row int64, err error) {
	key, err := strictToken(token)
	if err != nil {
		return 0, err
	}
	return keyNumber(key), nil
}

// timeToken makes a token of a time and, within it, a row.
func timeToken(at clock.Time, row int64) string {
	return makeToken(strconv.FormatInt(int64(at), 10) + "." + strconv.FormatInt(row, 10))
}

func laxTimeToken(token string) (at clock.Time, row int64) {
	left, right, _ := strings.Cut(laxToken(token), ".")
	return clock.Time(keyNumber(left)), keyNumber(right)
}

// keyNumber reads a number of a key; that of another method's token may be
// anything.
func keyNumber(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// appendToken appends the member that names the next page.
func appendToken(b []byte, token string) []byte {
	return appendString(append(b, `,"continuationToken":`...), token)
}
