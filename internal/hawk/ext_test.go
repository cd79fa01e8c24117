package hawk

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	testToken = "tokenABCDEFGH"
	testSeed  = "JYR4wzMCTG6XeDS2cDUCMwH0RFUXGfQjK7LgqD-e6lSQ"
	goodCert  = `{"version":1,"scopes":["a","b*"],"start":1438964811744,"expiry":1439051211744,"seed":"` + testSeed + `","signature":"PCxPaC1VJwCJurfjXGKMiHl2zbEmanO6ns+cpmFTq8A="}`
)

// withCert returns goodCert with some members replaced; "" removes one.
func withCert(t testing.TB, changes map[string]string) json.RawMessage {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(goodCert), &object); err != nil {
		t.Fatal(err)
	}
	for name, value := range changes {
		if object[name] = json.RawMessage(value); value == "" {
			delete(object, name)
		}
	}
	b, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseExt(t *testing.T) {
	encode := base64.StdEncoding.EncodeToString
	for _, c := range []struct {
		ext, want        string
		hasCert, hasAuth bool
	}{
		{"", "", false, false},
		{encode([]byte(`{}`)), "", false, false},
		{encode([]byte(`{"other":{"certificate":1}}`)), "", false, false},
		{encode([]byte(`{"Certificate":1}`)), "", false, false},
		{encode([]byte(`{"certificate":{},"authorizedScopes":[]}`)), "", true, true},
		{encode([]byte(`{"certificate":null,"authorizedScopes":null}`)), "", false, false},
		{strings.TrimRight(encode([]byte(`{"certificate":7}`)), "="), "", true, false},
		{"abc", "Failed to parse ext", false, false},
		{"!", "Failed to parse ext", false, false},
		{encode([]byte(`[]`)), "Failed to parse ext", false, false},
		{encode([]byte(`null`)), "Failed to parse ext", false, false},
		{encode([]byte(`{} x`)), "Failed to parse ext", false, false},
	} {
		e, err := ParseExt(c.ext)
		if got := refusal(t, err); got != c.want || e.HasCertificate != c.hasCert || e.HasAuthorizedScopes != c.hasAuth {
			t.Errorf("%q: %q, %+v", c.ext, got, e)
		}
	}
}

func TestParseAuthorizedScopes(t *testing.T) {
	const array, valid = "ext.authorizedScopes must be an array", "ext.authorizedScopes must be an array of valid scopes"
	for raw, want := range map[string]string{
		`[]`: "", `["a","b c*"]`: "", `{}`: array, `"a"`: array, `1`: array, ``: array,
		`[1]`: valid, `[null]`: valid, `["",null]`: valid, `["",""]`: "", `["a\nb"]`: valid, `["é"]`: valid,
	} {
		scopes, err := ParseAuthorizedScopes(json.RawMessage(raw))
		if got := refusal(t, err); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
		if want == "" && scopes == nil {
			t.Errorf("%s: nil", raw)
		}
	}
}

func TestParseCertificate(t *testing.T) {
	for _, c := range []struct{ name, member, value, want string }{
		{"as it is", "version", "1", ""},
		{"version 1.0", "version", "1.0", ""},
		{"version 2", "version", "2", "ext.certificate.version must be 1"},
		{"no version", "version", "", "ext.certificate.version must be 1"},
		{"version text", "version", `"1"`, "ext.certificate.version must be 1"},
		{"seed number", "seed", "1", "ext.certificate.seed must be a string"},
		{"seed short", "seed", `"abc"`, "ext.certificate.seed must be 44 characters"},
		{"seed with a line break", "seed", `"` + testSeed[:43] + `\n"`, "ext.certificate.seed must be 44 characters"},
		{"start text", "start", `"2015-08-07T16:26:51.744Z"`, "ext.certificate.start must be a number"},
		{"start fraction", "start", `1.5`, "ext.certificate.start must be a number"},
		{"start huge", "start", `1e300`, "ext.certificate.start must be a number"},
		{"start exponent", "start", `1438964811744e0`, ""},
		{"no expiry", "expiry", ``, "ext.certificate.expiry must be a number"},
		{"expiry boolean", "expiry", `true`, "ext.certificate.expiry must be a number"},
		{"no scopes", "scopes", ``, "ext.certificate.scopes must be an array"},
		{"scopes text", "scopes", `"a"`, "ext.certificate.scopes must be an array"},
		{"scopes numbers", "scopes", `[1]`, "ext.certificate.scopes must be an array of valid scopes"},
		{"scopes with line break", "scopes", `["a\nb"]`, "ext.certificate.scopes must be an array of valid scopes"},
		{"issuer number", "issuer", `5`, "ext.certificate.issuer must be a string"},
		{"issuer null", "issuer", `null`, ""},
		{"unknown member", "future", `[1]`, ""},
		{"signature number", "signature", `5`, ""}, // then it is not valid
	} {
		_, err := ParseCertificate(withCert(t, map[string]string{c.member: c.value}))
		if got := refusal(t, err); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for _, raw := range []string{`"{}"`, `[]`, `null`, `7`, ``} {
		_, err := ParseCertificate(json.RawMessage(raw))
		if got := refusal(t, err); got != "ext.certificate must be a JSON object" {
			t.Errorf("%s: %q", raw, got)
		}
	}
}

func parse(t testing.TB, changes map[string]string) Certificate {
	t.Helper()
	c, err := ParseCertificate(withCert(t, changes))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckIssuer(t *testing.T) {
	named := map[string]string{"issuer": `"root"`}
	for _, c := range []struct {
		changes    map[string]string
		name, want string
	}{
		{nil, "root", ""},
		{named, "a/b", ""},
		{named, "root", "ext.certificate.issuer must differ from the supplied clientId"},
		{map[string]string{"clientId": `"x"`}, "root", "ext.certificate.clientId must only be used with ext.certificate.issuer"},
		{map[string]string{"clientId": `"x"`, "issuer": `"root"`}, "x", ""},
	} {
		cert := parse(t, c.changes)
		if got := refusal(t, cert.CheckIssuer(c.name)); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.changes, c.name, got, c.want)
		}
	}
}

func TestCheckTimes(t *testing.T) {
	now := time.UnixMilli(1438964811744)
	ms := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).UnixMilli(), 10) }
	for _, c := range []struct {
		start, expiry time.Duration
		want          string
	}{
		{0, time.Hour, ""},
		{5 * time.Minute, time.Hour, ""},
		{5*time.Minute + time.Millisecond, time.Hour, "ext.certificate.start > now"},
		{time.Hour, 2 * time.Hour, "ext.certificate.start > now"},
		{-time.Hour, -5 * time.Minute, ""},
		{-time.Hour, -5*time.Minute - time.Millisecond, "ext.certificate.expiry < now"},
		{0, 31 * 24 * time.Hour, ""},
		{0, 31*24*time.Hour + time.Millisecond, "ext.certificate cannot last longer than 31 days!"},
		{0, 365 * 24 * time.Hour, "ext.certificate cannot last longer than 31 days!"},
	} {
		cert := parse(t, map[string]string{"start": ms(c.start), "expiry": ms(c.expiry)})
		if got := refusal(t, cert.CheckTimes(now)); got != c.want {
			t.Errorf("%v..%v: %q, want %q", c.start, c.expiry, got, c.want)
		}
	}
}

func TestCheckSignature(t *testing.T) {
	const invalid = "ext.certificate.signature is not valid"
	const invalidNamed = invalid + ", or wrong clientId provided"
	named := map[string]string{"issuer": `"root"`, "signature": `"qF780eAWuwau4BjBwi9jthxgm9pIpz16kC3CADiGn8w="`}
	change := func(base map[string]string, member, value string) map[string]string {
		m := map[string]string{member: value}
		for k, v := range base {
			if _, set := m[k]; !set {
				m[k] = v
			}
		}
		return m
	}
	for _, c := range []struct {
		about       string
		changes     map[string]string
		name, token string
		want        string
	}{
		{"unnamed", nil, "root", testToken, ""},
		{"unnamed, start written otherwise", change(nil, "start", "1438964811744.0"), "root", testToken, ""},
		{"unnamed, other token", nil, "root", "x", invalid},
		{"unnamed, more scopes", change(nil, "scopes", `["a","b*","c"]`), "root", testToken, invalid},
		{"unnamed, other order", change(nil, "scopes", `["b*","a"]`), "root", testToken, invalid},
		{"unnamed, later", change(nil, "expiry", `1439051211745`), "root", testToken, invalid},
		{"unnamed, short signature", change(nil, "signature", `"PCxP"`), "root", testToken, invalid},
		{"unnamed, no signature", change(nil, "signature", ``), "root", testToken, invalid},
		{"unnamed, signature a number", change(nil, "signature", `1`), "root", testToken, invalid},
		{"named", named, "a/b", testToken, ""},
		{"named, other name", named, "a/c", testToken, invalidNamed},
		{"named, other issuer", change(named, "issuer", `"toor"`), "a/b", testToken, invalidNamed},
		{"named, signature of unnamed", change(named, "signature", `"PCxPaC1VJwCJurfjXGKMiHl2zbEmanO6ns+cpmFTq8A="`), "a/b", testToken, invalidNamed},
		{"no scopes, without line break", map[string]string{"scopes": `[]`, "issuer": `"root"`, "signature": `"mIfE3GR0NYK9e7mIPJ5VrKRLs094z12DUFJVpjMijjY="`}, "a/b", testToken, ""},
		{"no scopes, with line break", map[string]string{"scopes": `[]`, "signature": `"jnThVUF7Sev3IMJkOPXtdmmr7CaDy++P3X807WsM1rk="`}, "root", testToken, ""},
		{"no scopes, wrong", map[string]string{"scopes": `[]`, "signature": `"knThVUF7Sev3IMJkOPXtdmmr7CaDy++P3X807WsM1rk="`}, "root", testToken, invalid},
	} {
		cert := parse(t, c.changes)
		if got := refusal(t, cert.CheckSignature(c.name, c.token)); got != c.want {
			t.Errorf("%s: %q, want %q", c.about, got, c.want)
		}
	}
	cert := parse(t, nil)
	if got := cert.Key(testToken); got != "R4OVHWpIvy6KsqS4AWE51QwbvgLvsstS6e6UW8IfHUY" {
		t.Errorf("key %s", got)
	}
}

func FuzzParseExt(f *testing.F) {
	f.Add(base64.StdEncoding.EncodeToString([]byte(`{"certificate":` + goodCert + `,"authorizedScopes":["a"]}`)))
	f.Add("e30=")
	f.Fuzz(func(t *testing.T, ext string) {
		e, err := ParseExt(ext)
		refusal(t, err)
		if e.HasCertificate {
			_, err = ParseCertificate(e.Certificate)
			refusal(t, err)
		}
		if e.HasAuthorizedScopes {
			_, err = ParseAuthorizedScopes(e.AuthorizedScopes)
			refusal(t, err)
		}
	})
}

// FuzzCertificate checks that what verifies is what was issued.
func FuzzCertificate(f *testing.F) {
	f.Add([]byte(goodCert), "root", "scope:a", int64(1438964811744), int64(3600_000))
	f.Add([]byte(`{}`), "", "", int64(0), int64(0))
	f.Fuzz(func(t *testing.T, raw []byte, name, scope string, start, lasts int64) {
		if c, err := ParseCertificate(raw); err == nil {
			refusal(t, c.CheckTimes(time.UnixMilli(start)))
			if c.CheckSignature(name, testToken) == nil && len(c.Signature) != 44 {
				t.Fatalf("verified: %s", raw)
			}
		}
		issuer := Credentials{ClientID: "issuer", AccessToken: testToken}
		o := TemporaryOptions{Name: name, Scopes: []string{scope}, Start: time.UnixMilli(start), Expiry: time.UnixMilli(start).Add(time.Duration(lasts % 1e12))}
		temp, err := issuer.Temporary(o)
		if err != nil || o.Expiry.UnixMilli() > maxInteger || start < -maxInteger {
			return
		}
		c, err := ParseCertificate(json.RawMessage(temp.Certificate))
		if err != nil {
			t.Fatalf("%s: %v", temp.Certificate, err)
		}
		if len(c.Scopes) != 1 || c.Scopes[0] != scope || c.Start != start {
			t.Fatalf("%+v of %s", c, temp.Certificate)
		}
		if err := c.CheckSignature(temp.ClientID, testToken); err != nil || c.Key(testToken) != temp.AccessToken {
			t.Fatalf("%s: %v", temp.Certificate, err)
		}
		if c.CheckSignature(temp.ClientID+"x", testToken) == nil && name != "" {
			t.Fatalf("other name verified: %s", temp.Certificate)
		}
	})
}
