package hawk

import (
	"strconv"
	"strings"
	"time"
)

// Header is a parsed "Authorization: Hawk ..." header. All fields are as
// sent; the required ones (ID, TS, Nonce, MAC) are not empty.
type Header struct {
	ID    string // clientId, or the name of named temporary credentials
	TS    string // unix seconds
	Nonce string
	MAC   string // base64
	Hash  string // payload hash, base64; empty if the payload is not signed
	Ext   string // see ParseExt
	App   string
	Dlg   string
}

// field returns where the attribute of that name is kept, nil for an unknown one.
func (h *Header) field(name string) *string {
	switch name {
	case "id":
		return &h.ID
	case "ts":
		return &h.TS
	case "nonce":
		return &h.Nonce
	case "mac":
		return &h.MAC
	case "hash":
		return &h.Hash
	case "ext":
		return &h.Ext
	case "app":
		return &h.App
	case "dlg":
		return &h.Dlg
	}
	return nil
}

// ParseHeader reads the value of an Authorization header. All errors are *Error.
func ParseHeader(value string) (Header, error) {
	if len(value) > MaxHeaderLength {
		return Header{}, badRequest("Header length too long")
	}
	n := 0
	for n < len(value) && isWord(value[n]) {
		n++
	}
	scheme, rest := value[:n], value[n:]
	if n == 0 || rest != "" && !isSpace(rest[0]) {
		return Header{}, badRequest("Invalid header syntax")
	}
	if !strings.EqualFold(scheme, "hawk") {
		return Header{}, unauthorized("")
	}
	rest = skipSpace(rest)
	if rest == "" {
		return Header{}, badRequest("Invalid header syntax")
	}

	var h Header
	for rest != "" {
		name, val, tail, ok := cutAttribute(rest)
		if !ok {
			return Header{}, badRequest("Bad header format")
		}
		field := h.field(name)
		switch {
		case field == nil:
			return Header{}, badRequest("Unknown attribute: " + name)
		case val == "" || !isAttributeText(val):
			return Header{}, badRequest("Bad attribute value: " + name)
		case *field != "":
			return Header{}, badRequest("Duplicate attribute: " + name)
		}
		*field, rest = val, tail
	}
	if h.ID == "" || h.TS == "" || h.Nonce == "" || h.MAC == "" {
		return Header{}, badRequest("Missing attributes")
	}
	return h, nil
}

// cutAttribute takes `name="value"` and the comma and space behind it off s.
func cutAttribute(s string) (name, value, rest string, ok bool) {
	n := 0
	for n < len(s) && isWord(s[n]) {
		n++
	}
	if n == 0 || !strings.HasPrefix(s[n:], `="`) {
		return "", "", "", false
	}
	name, s = s[:n], s[n+2:]
	end := strings.IndexAny(s, `"\`)
	if end < 0 || s[end] == '\\' {
		return "", "", "", false
	}
	value, rest = s[:end], skipSpace(s[end+1:])
	if rest == "" {
		return name, value, "", true
	}
	if rest[0] != ',' {
		return "", "", "", false
	}
	return name, value, skipSpace(rest[1:]), true
}

// Verify checks the header's MAC with the key (the access token, or
// Certificate.Key) in constant time, then that its timestamp is within MaxSkew
// of now. The payload hash is covered by the MAC, but whether it is that of
// the body is for the receiver of the body to check.
func (h *Header) Verify(key string, r Request, now time.Time) error {
	a := attributes{"header", h.TS, h.Nonce, h.Hash, h.Ext, h.App, h.Dlg}
	if err := checkMAC(key, h.MAC, &r, &a); err != nil {
		return err
	}
	ts, err := strconv.ParseInt(h.TS, 10, 64)
	skew := int64(MaxSkew / time.Millisecond)
	if err != nil || ts < 0 || ts > 1<<40 || abs(ts*1000-now.UnixMilli()) > skew {
		return unauthorized("Stale timestamp")
	}
	return nil
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func skipSpace(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	return s
}

// isAttributeText reports whether an attribute may have this value: printable
// ASCII without the quote and the backslash, which have no escaped form.
func isAttributeText(s string) bool {
	return printable(s) && !strings.ContainsAny(s, `"\`)
}
