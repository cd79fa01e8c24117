package hawk

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// Bewit is a parsed bewit: a signature in a URL that lets its bearer read that
// URL until it expires.
type Bewit struct {
	ID      string
	Expires int64 // unix seconds
	MAC     string
	Ext     string // see ParseExt

	encodedLength int
}

const bewitParameter = "bewit="

// SplitBewit takes the bewit parameter out of a resource (path and query),
// wherever it stands. With several the last counts and the others stay, as
// part of what is signed. Found is true for an empty bewit also.
func SplitBewit(resource string) (stripped, bewit string, found bool) {
	if !strings.HasPrefix(resource, "/") {
		return resource, "", false
	}
	for end := len(resource); ; {
		at := strings.LastIndex(resource[:end], bewitParameter)
		if at < 1 {
			return resource, "", false
		}
		if c := resource[at-1]; c != '?' && c != '&' {
			end = at
			continue
		}
		before := resource[:at-1]
		value, after, more := strings.Cut(resource[at+len(bewitParameter):], "&")
		if more && after != "" {
			return resource[:at] + after, value, true
		}
		return before, value, true
	}
}

// ParseBewit reads the value of a bewit parameter. All errors are *Error.
func ParseBewit(s string) (Bewit, error) {
	if s == "" {
		return Bewit{}, unauthorized("Empty bewit")
	}
	if len(s) > MaxResourceLength {
		return Bewit{}, badRequest("Resource path exceeds max length")
	}
	malformed := badRequest("Invalid bewit structure")
	// Some clients keep the padding, as "=" or percent-encoded.
	unpadded := strings.TrimSuffix(strings.TrimSuffix(s, "%3D"), "%3D")
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(unpadded, "="))
	if err != nil {
		return Bewit{}, malformed
	}
	text := string(decoded)
	id, rest, _ := strings.Cut(text, `\`)
	exp, rest, _ := strings.Cut(rest, `\`)
	mac, ext, ok := strings.Cut(rest, `\`)
	if !ok || strings.Contains(ext, `\`) || !printable(text) {
		return Bewit{}, malformed
	}
	if id == "" || exp == "" || mac == "" {
		return Bewit{}, badRequest("Missing bewit attributes")
	}
	expires, err := strconv.ParseInt(exp, 10, 64)
	if err != nil {
		return Bewit{}, malformed
	}
	return Bewit{ID: id, Expires: expires, MAC: mac, Ext: ext, encodedLength: len(s)}, nil
}

// Verify checks that the bewit allows r now: r.Method must be GET or HEAD,
// r.Resource is the resource without the bewit, now must be before Expires
// (no skew is allowed), and the MAC must be that of key.
func (b *Bewit) Verify(key string, r Request, now time.Time) error {
	if !strings.EqualFold(r.Method, "GET") && !strings.EqualFold(r.Method, "HEAD") {
		return unauthorized("Invalid method")
	}
	if len(r.Resource)+len("?")+len(bewitParameter)+b.encodedLength > MaxResourceLength {
		return badRequest("Resource path exceeds max length")
	}
	if b.Expires < 0 || b.Expires > 1<<40 || b.Expires*1000 <= now.UnixMilli() {
		return unauthorized("Access expired")
	}
	r.Method = "GET"
	a := attributes{kind: "bewit", ts: strconv.FormatInt(b.Expires, 10), ext: b.Ext}
	return checkMAC(key, b.MAC, &r, &a)
}
