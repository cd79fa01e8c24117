package schema

import (
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strings"

	"taskcluster/internal/clock"
)

// CompilePattern compiles an ECMAScript regular expression of a schema or of
// a URL parameter. Two spellings differ from Go's: a hyphen after a range in a
// class ("[a-z-_]") is literal, and "\/" is "/". Lookahead is refused.
func CompilePattern(pattern string) (*regexp.Regexp, error) {
	return regexp.Compile(translate(pattern))
}

func translate(pattern string) string {
	var b strings.Builder
	class, ranged := false, false // inside [...]; the last item there was a range
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case c == '\\' && i+1 < len(pattern):
			i++
			if pattern[i] != '/' {
				b.WriteByte('\\')
			}
			b.WriteByte(pattern[i])
			ranged = false
		case !class:
			class = c == '['
			ranged = false
			b.WriteByte(c)
		case c == ']':
			class = false
			b.WriteByte(c)
		case c == '-' && ranged:
			b.WriteString(`\-`)
			ranged = false
		case c == '-' && i+2 < len(pattern) && pattern[i-1] != '[' && pattern[i+1] != ']':
			b.WriteByte('-')
			i++
			if pattern[i] == '\\' {
				b.WriteByte('\\')
				i++
			}
			b.WriteByte(pattern[i])
			ranged = true
		default:
			b.WriteByte(c)
			ranged = false
		}
	}
	return b.String()
}

// stringFormats are the formats in use, checked as ajv-formats 2.1.1 does.
var stringFormats = [...]struct {
	name string
	ok   func(string) bool
}{
	{"date-time", isDateTime},
	{"uri", isURI},
	{"hostname", isHostname},
	{"ipv4", isIPv4},
	{"ipv6", isIPv6},
	{"regex", isRegex},
}

// isDateTime accepts what the services can read as a time. Two forms that
// ajv-formats lets through are refused, since JavaScript's Date cannot read
// them: leap seconds and +HH.
func isDateTime(s string) bool {
	_, err := clock.Parse(s)
	return err == nil
}

func digits(s string) (n int, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

// isURI accepts an absolute URI (RFC 3986): a scheme, then only characters
// that a URI may hold, every % followed by two hexadecimal digits.
func isURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || !isLetter(scheme[0]) {
		return false
	}
	for i := range len(scheme) {
		if c := scheme[i]; !isLetter(c) && !isDigit(c) && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	rest, fragment, _ := strings.Cut(rest, "#")
	if strings.HasPrefix(rest, "//") {
		end := strings.IndexAny(rest[2:], "/?")
		authority := rest[2:]
		rest = ""
		if end >= 0 {
			authority, rest = authority[:end], authority[end:]
		}
		if !isAuthority(authority) {
			return false
		}
	}
	return uriChars(rest, ":@/?") && uriChars(fragment, ":@/?")
}

func isAuthority(s string) bool {
	if at := strings.IndexByte(s, '@'); at >= 0 {
		if !uriChars(s[:at], ":") {
			return false
		}
		s = s[at+1:]
	}
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || !isIPv6(s[1:end]) {
			return false
		}
		s = s[end+1:]
		if s != "" && s[0] != ':' {
			return false
		}
	}
	host, port, _ := strings.Cut(s, ":")
	_, ok := digits(port)
	return ok && uriChars(host, "")
}

// uriChars reports whether s holds only unreserved characters, sub-delimiters,
// escapes, and those in also.
func uriChars(s, also string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isLetter(c) || isDigit(c) || strings.IndexByte("-._~!$&'()*+,;=", c) >= 0 || strings.IndexByte(also, c) >= 0:
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			i += 2
		default:
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isHex(c byte) bool    { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }

// isHostname accepts dot-separated labels of up to 63 letters, digits and
// inner hyphens, 253 characters in all.
func isHostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isLetter(c) && !isDigit(c) && c != '-' {
				return false
			}
		}
	}
	return true
}

func isIPv4(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6() && a.Zone() == ""
}

// isRegex only serves metadata.source, where it is the alternative to a URI:
// an expression that ECMAScript would take with the u flag, as far as Go knows.
// It is parsed only: compiling one that hostile hands wrote costs a lot.
func isRegex(s string) bool {
	_, err := syntax.Parse(translate(s), syntax.Perl)
	return err == nil
}
