package schema

import (
	"strings"
	"testing"
)

func TestFormats(t *testing.T) {
	for _, c := range []struct {
		format string
		ok     func(string) bool
		yes    []string
		no     []string
	}{
		{"date-time", isDateTime, []string{
			"2026-01-01T00:00:00Z", "2026-01-01t00:00:00z", "2026-01-01 00:00:00", "2026-01-01T23:59:59.123456789012345Z",
			"2024-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00-0130", "0000-01-01T00:00:00Z",
			"2026-01-01T00:00:00.1",
		}, []string{
			"", "2026-01-01", "2026-01-01T00:00Z", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-04-31T00:00:00Z",
			"2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
			"2026-01-01T23:59:60Z", "2026-01-01T00:00:00+01", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+1:00",
			"2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+01:60", "2026-01-01T00:00:00Zx", "2026-01-01T00:00:00 Z",
			"+002026-01-01T00:00:00Z", "2026-01-01_00:00:00Z", "2026/01/01T00:00:00Z", "２026-01-01T00:00:00Z",
		}},
		{"uri", isURI, []string{
			"https://example.com", "http://u:p@[::1]:8080/a/b?c=d#e", "urn:x", "data:,x", "git+ssh://h/p", "http://h/%20", "file:///x", "x:",
			"https://example.com:/", "HTTP://EXAMPLE.COM/a'b(c)",
		}, []string{
			"", "example.com", "//example.com", "/a", "http://h/ x", "http://h/%2", "http://h/%zz", "http://h/é", "1x:y", "http://[::g]/",
			"http://h:x/", "http://h/<a>", "http://h/#a#b", "http://[::1/", "a b:c", "http://h/\\", "http://[::1]x/",
		}},
		{"hostname", isHostname, []string{"a", "localhost", "a.b.c", "a-b.example", "1.2.3.4", "A9", strings.Repeat("a", 63), "a."},
			[]string{"", ".", "a..b", "-a", "a-", "a_b", "::1", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "aa", "é.com", "a b"}},
		{"ipv4", isIPv4, []string{"1.2.3.4", "0.0.0.0", "255.255.255.255"}, []string{"", "1.2.3", "256.1.1.1", "1.2.3.4.5", "::1", "01.2.3.4"}},
		{"ipv6", isIPv6, []string{"::1", "::", "2001:db8::1", "::ffff:1.2.3.4"}, []string{"", "1.2.3.4", "fe80::1%eth0", ":::", "g::"}},
		{"regex", isRegex, []string{"a", "^[a-z-_]+$"}, []string{"(", "[", "a**"}},
	} {
		for _, s := range c.yes {
			if !c.ok(s) {
				t.Errorf("%s refuses %q", c.format, s)
			}
		}
		for _, s := range c.no {
			if c.ok(s) {
				t.Errorf("%s takes %q", c.format, s)
			}
		}
	}
}

// No bytes make the translation fail where it stands.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{`^[a-z-_]+\/$`, `[`, `[\`, `[a-`, `[a-\`, `\`, `[a-z-`, `[^-a]`, `(((a{100}){100}){100})`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { isRegex(s) })
}
