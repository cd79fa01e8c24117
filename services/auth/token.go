package auth

import (
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"

	"taskcluster/internal/tcerr"
)

// A continuation token is base32 of a checksum and the key of the last row of
// the page before. The checksum covers the listing's name too, so that a token
// of one listing means nothing to another.

const checksumLength = 4

var tokenEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// pageToken is the token for the page of listing that begins after key.
func pageToken(listing, key string) string {
	b := make([]byte, checksumLength, checksumLength+len(key))
	binary.BigEndian.PutUint32(b, pageChecksum(listing, key))
	return tokenEncoding.EncodeToString(append(b, key...))
}

func pageChecksum(listing, key string) uint32 {
	return crc32.ChecksumIEEE([]byte(listing + "\x00" + key))
}

// pageKey reads a token. A token with characters that no token has is
// refused; one that means nothing gives ok false. No token gives "", true.
func pageKey(listing, token string) (key string, ok bool, err error) {
	for i := range len(token) {
		if c := token[i]; !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z') {
			return "", false, errBadToken()
		}
	}
	if token == "" {
		return "", true, nil
	}
	b, decodeErr := tokenEncoding.DecodeString(token)
	if decodeErr != nil || len(b) < checksumLength {
		return "", false, nil
	}
	key = string(b[checksumLength:])
	if binary.BigEndian.Uint32(b) != pageChecksum(listing, key) {
		return "", false, nil
	}
	return key, true, nil
}

func errBadToken() error { return tcerr.New(tcerr.InputError, "Invalid continuation token") }
