package purgecache

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"unicode/utf8"

	"taskcluster/internal/tcerr"
)

// A continuation token names the last request of a page: in hexadecimal digits
// a checksum, which tells it from garbage, and the key. What becomes of garbage
// is published: characters that no token has are refused, otherwise the list
// begins anew.

func makeToken(last request) string {
	key := []byte(last.pool + "\n" + last.name)
	return hex.EncodeToString(append(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(key)), key...))
}

// openToken gives the key. The checksum is no signature, so that it may be any
// text that a database takes.
func openToken(token string) (pool, name string, err error) {
	for i := range len(token) {
		if c := token[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return "", "", tcerr.New(tcerr.InputError, "Invalid continuation token")
		}
	}
	b, decodeErr := hex.DecodeString(token)
	if decodeErr != nil || len(b) < 4 || binary.BigEndian.Uint32(b) != crc32.ChecksumIEEE(b[4:]) {
		return "", "", nil
	}
	key := string(b[4:])
	if !utf8.ValidString(key) || strings.IndexByte(key, 0) >= 0 {
		return "", "", nil
	}
	pool, name, _ = strings.Cut(key, "\n")
	return pool, name, nil
}
