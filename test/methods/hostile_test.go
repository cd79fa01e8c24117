package methods

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/test/harness"
)

// hostileTexts go where a text belongs: arguments, queries, members of bodies.
var hostileTexts = []string{
	"", " ", ".", "..", "/", "//", "../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "%zz", "\x00", "a\x00b", "\xff", "\xc3\x28",
	"a\r\nX-Injected: 1", "\u2028", "é✓", "\U0001f4a9", "*", "**", "<..>", "a b", "'; DROP TABLE tasks; --", `"`, `\`, "null", "NaN", "-1", "0",
	"99999999999999999999999", "1e9", "__proto__", "constructor", strings.Repeat("a", 300), strings.Repeat("ab/", 1500), strings.Repeat("<a>", 1500),
	"javascript:alert(1)", "file:///etc/passwd", "http://169.254.169.254/latest/", "http://[::1]:1/", "https://",
	"0000-01-01T00:00:00.000Z", "1969-12-31T00:00:00Z", "9999-12-31T23:59:59.999Z", "2026-02-30T00:00:00Z", "2026-11-23T00:00:00+23:59", "+275760-09-13T00:00:00.000Z",
	"AAAAAAAAAAAAAAAAAAAAAA", "fN1SbArXTPSVFNUvaOlinQ", "00000000", "6d61747269782f00ff", strings.Repeat("00", 3000),
}

// hostileValues go where any JSON value can stand.
var hostileValues = func() (all []string) {
	for _, text := range hostileTexts {
		if quoted, err := json.Marshal(text); err == nil {
			all = append(all, string(quoted))
		}
	}
	return append(all,
		"null", "true", "false", "0", "-0", "-1", "1.5", "1.0", "2e0", "1e308", "1e400", "9007199254740993", "123456789012345678901234567890",
		"[]", "{}", "[null]", `[""]`, `["a","a"]`, `{"":""}`, `{"__proto__":{"x":1}}`, `{"a":1,"a":2}`, `"\u0000"`, `"\ud800"`, `"\udc00\ud800"`, "\"\xff\"",
		strings.Repeat("[", 200)+strings.Repeat("]", 200), `["`+strings.Repeat(`a","`, 5000)+`a"]`, `"`+strings.Repeat("x", 70_000)+`"`,
	)
}()

// hostileBodies are no bodies at all, or such as nobody sends who means well.
var hostileBodies = []string{
	"", " ", "null", "1", `"a"`, "{", "[", "{]", `{"a"}`, `{"a":}`, "\xff", "{}{}", "\ufeff{}", "[]", "{}", `{"a":1}`, "[{}]", `{"\u0000":1}`, "{\"a\":\"\xff\"}",
	strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
	strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000), "[" + strings.Repeat("1,", 200_000) + "1]",
	`{"a":1` + strings.Repeat("0", 300_000) + "}", `{"` + strings.Repeat("k", 300_000) + `":1}`,
}

// TestHostileInput sends what no well-behaved client sends to every method, with
// credentials that may do everything: in each argument, each query parameter,
// and each place of a body. Whatever the answer is, it is not that the server
// failed.
//
// What was stored of it must not stand in the way of reading, or of starting
// again.
func TestHostileInput(t *testing.T) {
	binary, dir, broker := harness.Binary(t), t.TempDir(), withBroker(t)
	server := harness.Start(t, binary, dir, broker...)
	w := newWorld(t, server)
	t.Run("methods", func(t *testing.T) {
		for _, m := range w.methods() {
			t.Run(m.String(), func(t *testing.T) {
				t.Parallel()
				intruder{t, w.in(t), m}.attack()
			})
		}
	})
	server.Stop()
	failures(t, server)
	w.server = harness.Start(t, binary, dir, broker...)
	defer w.server.Stop()
	for _, m := range w.methods() {
		if len(m.Args) > 0 || m.Method != "get" || slices.Contains(looksItself, m.String()) {
			continue
		}
		f := w.fixture(m)
		if a := w.call(m, f, w.root); a.status != http.StatusOK && !slices.Contains(f.or, a.status) {
			t.Errorf("%s, after all that and a new start: %v", m, a)
		}
	}
	failures(t, w.server)
}

func failures(t *testing.T, server *harness.Server) {
	t.Helper()
	if log := server.Log(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "panic") {
		t.Errorf("the server logged failures: %s", log)
	}
}

type intruder struct {
	t *testing.T
	w *world
	m method
}

func (i intruder) attack() {
	f := i.w.fixture(i.m)
	for _, name := range i.m.Args {
		for _, text := range hostileTexts {
			changed := f
			changed.url = maps.Clone(f.url)
			changed.url[name] = text
			i.try(changed, "the argument %s is %.60q", name, text)
		}
	}
	for _, name := range i.m.Query {
		for _, text := range hostileTexts {
			changed := f
			changed.query = url.Values{name: {text}}.Encode()
			i.try(changed, "the query has %s=%.60q", name, text)
		}
	}
	for _, query := range []string{"%zz", "a=%ff", "bewit=", "bewit=AAAA", "bewit=" + strings.Repeat("A", 8000), "=&=&&;", strings.Repeat("a=1&", 2000)} {
		changed := f
		changed.query = query
		i.try(changed, "the query is %.60q", query)
	}
	if i.m.Input == "" {
		return
	}
	for _, body := range hostileBodies {
		changed := f
		changed.body = raw(body)
		i.try(changed, "the body is %.60q", body)
	}
	text, err := json.Marshal(f.body)
	if err != nil {
		i.t.Fatal(err)
	}
	var body any
	if err := json.Unmarshal(text, &body); err != nil {
		i.t.Fatal(err)
	}
	const here = "\x01here\x01"
	marker, err := json.Marshal(here)
	if err != nil {
		i.t.Fatal(err)
	}
	eachPlace(body, "", here, func(place string, with any) {
		marked, err := json.Marshal(with)
		if err != nil {
			i.t.Fatal(err)
		}
		fresh := i.w.fixture(i.m) // the last one's task is resolved, perhaps
		for _, value := range hostileValues {
			changed := fresh
			changed.body = raw(strings.Replace(string(marked), string(marker), value, 1))
			i.try(changed, "in the body, %s is %.60q", place, value)
		}
	})
}

// eachPlace calls use with a document in which one value after the other is
// replaced by another; and with that value as an addition to each object.
func eachPlace(v any, place string, other any, use func(place string, with any)) {
	var walk func(v any, place string, rebuild func(any) any)
	walk = func(v any, place string, rebuild func(any) any) {
		use(place, rebuild(other))
		switch v := v.(type) {
		case map[string]any:
			set := func(name string, value any) any {
				changed := maps.Clone(v)
				changed[name] = value
				return rebuild(changed)
			}
			use(place+".more", set("more", other))
			for _, name := range slices.Sorted(maps.Keys(v)) {
				walk(v[name], place+"."+name, func(inner any) any { return set(name, inner) })
			}
		case []any:
			for n := range v {
				walk(v[n], fmt.Sprintf("%s[%d]", place, n), func(inner any) any {
					changed := slices.Clone(v)
					changed[n] = inner
					return rebuild(changed)
				})
			}
		}
	}
	walk(v, place, func(v any) any { return v })
}

// try makes a call, of which the server must not fail.
func (i intruder) try(f fixture, format string, args ...any) {
	w := *i.w
	if i.m.Name == "claimWork" {
		w.patience = 20 * time.Millisecond // with a good request it waits for tasks
	}
	a := w.call(i.m, f, w.root)
	if a.status >= http.StatusInternalServerError || strings.Contains(a.body, "root:x:0") {
		i.t.Errorf("%s, when %s: %v", i.m, fmt.Sprintf(format, args...), a)
	}
}
