// Package hawk reads, checks and makes the request signatures of the
// Taskcluster API: Hawk headers and bewits (github.com/mozilla/hawk, API.md,
// protocol version 1, always sha256), and the temporary credentials and scope
// restrictions that Taskcluster carries in Hawk's "ext" attribute.
//
// The package knows no clients and no scopes: the auth service looks up the
// access token and checks that scopes satisfy each other. Errors meant for the
// caller of the API are of type *Error, whose text is the published one.
// No error and no formatted value contains an access token.
package hawk

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// MaxHeaderLength is the longest Authorization header, in bytes.
	MaxHeaderLength = 4096
	// MaxResourceLength is the longest resource that may carry a bewit, in bytes.
	MaxResourceLength = 4096
	// MaxSkew is how far a header's timestamp may be from the present.
	MaxSkew = 15 * time.Minute
)

// Request is what a signature covers.
type Request struct {
	Method   string // any case
	Resource string // path and query exactly as on the wire; for bewits, with the bewit removed
	Host     string // host name without port (an IPv6 address without brackets), any case
	Port     int
}

// Error is a refusal to be shown to the caller of the API.
type Error struct {
	Reason  string // "Unauthorized", "Bad Request", or empty
	Message string
}

// Error returns the published text: reason and message, or the one there is.
func (e *Error) Error() string {
	switch {
	case e.Message == "":
		return e.Reason
	case e.Reason == "":
		return e.Message
	}
	return e.Reason + ": " + e.Message
}

func unauthorized(message string) error { return &Error{"Unauthorized", message} }
func badRequest(message string) error   { return &Error{"Bad Request", message} }

// PayloadHash returns the hash of a request body, as the header's hash
// attribute carries it. Parameters of the content type do not count.
func PayloadHash(contentType string, body []byte) string {
	mediaType, _, _ := strings.Cut(contentType, ";")
	s := signerPool.Get().(*signer)
	defer s.release()
	s.text = append(s.text, "hawk.1.payload\n"...)
	s.text = append(s.text, strings.ToLower(strings.TrimSpace(mediaType))...)
	s.text = append(s.text, '\n')
	h := s.sha
	h.Reset()
	h.Write(s.text)
	h.Write(body)
	s.text = append(s.text[:0], '\n')
	h.Write(s.text)
	s.sum = h.Sum(s.sum[:0])
	return base64.StdEncoding.EncodeToString(s.sum)
}

// signer holds the buffers of one computation.
type signer struct {
	sha  hash.Hash
	text []byte
	sum  []byte
	mac  []byte
}

var signerPool = sync.Pool{New: func() any {
	return &signer{
		sha:  sha256.New(),
		text: make([]byte, 0, 1024),
		sum:  make([]byte, 0, sha256.Size),
		mac:  make([]byte, 0, 44),
	}
}}

func (s *signer) release() {
	clear(s.sum)
	clear(s.mac)
	s.text, s.sum, s.mac = s.text[:0], s.sum[:0], s.mac[:0]
	if cap(s.text) <= 16<<10 {
		signerPool.Put(s)
	}
}

// sign returns the base64 of HMAC-SHA256 over s.text; it is valid until the
// signer is used again.
func (s *signer) sign(key string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write(s.text)
	s.sum = h.Sum(s.sum[:0])
	s.mac = base64.StdEncoding.AppendEncode(s.mac[:0], s.sum)
	return s.mac
}

// attributes are the parts of the signed text that are not the request itself.
type attributes struct {
	kind                            string // "header" or "bewit"
	ts, nonce, hash, ext, app, dlgt string
}

// signRequest returns the MAC of a request, in base64.
func (s *signer) signRequest(key string, r *Request, a *attributes) []byte {
	b := append(s.text[:0], "hawk.1."...)
	for _, line := range [...]string{a.kind, a.ts, a.nonce, strings.ToUpper(r.Method), r.Resource, strings.ToLower(r.Host)} {
		b = append(b, line...)
		b = append(b, '\n')
	}
	b = strconv.AppendInt(b, int64(r.Port), 10)
	b = append(b, '\n')
	b = append(b, a.hash...)
	b = append(b, '\n')
	for i := range len(a.ext) {
		switch c := a.ext[i]; c {
		case '\\':
			b = append(b, `\\`...)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = append(b, c)
		}
	}
	b = append(b, '\n')
	if a.app != "" {
		b = append(b, a.app...)
		b = append(b, '\n')
		b = append(b, a.dlgt...)
		b = append(b, '\n')
	}
	s.text = b
	return s.sign(key)
}

// checkMAC compares in constant time.
func checkMAC(key, mac string, r *Request, a *attributes) error {
	s := signerPool.Get().(*signer)
	defer s.release()
	want := s.signRequest(key, r, a)
	if subtle.ConstantTimeCompare(want, []byte(mac)) != 1 {
		return unauthorized("Bad mac")
	}
	return nil
}

// printable reports whether s is printable ASCII only, which is also the
// definition of a valid scope.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
