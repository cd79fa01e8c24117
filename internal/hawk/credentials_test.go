package hawk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/testenv"
)

var root = Credentials{ClientID: "root", AccessToken: testKey}

func TestHeaderForm(t *testing.T) {
	c := Credentials{ClientID: "dh37fgj492je", AccessToken: testKey}
	r := testRequest
	r.Method = "post"
	got, err := c.header(r, "Yi9LfIIFRtBEPt74PVmbTF/xVAwPn7ub15ePICfgnuY=", "j4h3g2", testTime)
	if err != nil || !strings.HasPrefix(got, `Hawk id="dh37fgj492je", ts="1353832234", nonce="j4h3g2", hash="Yi9LfIIFRtBEPt74PVmbTF/xVAwPn7ub15ePICfgnuY=", mac="`) {
		t.Fatal(got, err)
	}
	h, err := ParseHeader(got)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Verify(testKey, r, testTime); err != nil {
		t.Fatal(err)
	}
}

func TestHeaderWithRestrictions(t *testing.T) {
	for _, scopes := range [][]string{nil, {}, {`a"b\c`, "queue:*"}} {
		c := root
		c.AuthorizedScopes = scopes
		value, err := c.Header(testRequest, "", testTime)
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHeader(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Verify(testKey, testRequest, testTime); err != nil {
			t.Fatal(err)
		}
		e, err := ParseExt(h.Ext)
		if err != nil || e.HasAuthorizedScopes != (scopes != nil) {
			t.Fatalf("%v: %+v, %v", scopes, e, err)
		}
		if scopes != nil {
			got, err := ParseAuthorizedScopes(e.AuthorizedScopes)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(scopes) {
				t.Fatalf("%v: %v, %v", scopes, got, err)
			}
		}
	}
}

func TestHeaderRefusals(t *testing.T) {
	many := make([]string, 400)
	for i := range many {
		many[i] = fmt.Sprint("some:scope:", i)
	}
	for about, c := range map[string]Credentials{
		"no id":           {AccessToken: "secret-token"},
		"quote in id":     {ClientID: `a"b`, AccessToken: "secret-token"},
		"no token":        {ClientID: "a"},
		"bad certificate": {ClientID: "a", AccessToken: "secret-token", Certificate: "{secret-token"},
		"bad scope":       {ClientID: "a", AccessToken: "secret-token", AuthorizedScopes: []string{"a\nb"}},
		"too many scopes": {ClientID: "a", AccessToken: "secret-token", AuthorizedScopes: many},
	} {
		_, err := c.Header(testRequest, "", testTime)
		if err == nil || strings.Contains(err.Error(), "secret-token") {
			t.Errorf("%s: %v", about, err)
		}
		if _, err = c.SignURL("http://x/", testTime); err == nil || strings.Contains(err.Error(), "secret-token") {
			t.Errorf("%s: %v", about, err)
		}
	}
}

func TestSignURL(t *testing.T) {
	expires := time.Unix(1700000000, 500)
	for _, raw := range []string{
		"https://tc.example.com/api/queue/v1/task/x?a=b%2Fc",
		"http://TC.example.com:8080/api/auth/v1/clients/a%2Fb%7C?x=%20+&y",
		"http://localhost/p?#fragment",
		"http://[::1]:80",
	} {
		signed, err := root.SignURL(raw, expires)
		if err != nil {
			t.Fatal(raw, err)
		}
		u, err := url.Parse(signed)
		if err != nil || u.Fragment != "" {
			t.Fatal(signed, err)
		}
		stripped, value, found := SplitBewit(u.RequestURI())
		b, err := ParseBewit(value)
		if err != nil || !found || b.Expires != 1700000000 {
			t.Fatal(signed, b, err)
		}
		host, port, err := HostPort(u.Host, u.Scheme == "https")
		if err != nil {
			t.Fatal(err)
		}
		r := Request{"GET", stripped, host, port}
		if err := b.Verify(testKey, r, expires.Add(-time.Second)); err != nil {
			t.Error(signed, err)
		}
	}
	for _, raw := range []string{"ftp://x/", "/relative", "http://", "http://x:y/", "http://x:99999/", "http://x/" + strings.Repeat("a", 5000)} {
		if _, err := root.SignURL(raw, expires); err == nil {
			t.Errorf("%.30s signed", raw)
		}
	}
}

func TestBewitMACAsComputedByNode(t *testing.T) {
	c := Credentials{ClientID: "root", AccessToken: testKey}
	r := bewitTarget
	s := &signer{}
	mac := s.signRequest(c.AccessToken, &r, &attributes{kind: "bewit", ts: "1700000000", ext: "e30="})
	if string(mac) != "ekueXpDc2vkdtNyJdHVc7CK6BEtg05TbYKJUdX48CpQ=" {
		t.Errorf("%s", mac)
	}
}

func TestHostPort(t *testing.T) {
	for _, c := range []struct {
		in    string
		https bool
		host  string
		port  int
		ok    bool
	}{
		{"a.b", false, "a.b", 80, true}, {"a.b", true, "a.b", 443, true}, {"a:8080", true, "a", 8080, true},
		{"[::1]", false, "::1", 80, true}, {"[::1]:99", false, "::1", 99, true},
		{"", false, "", 0, false}, {":80", false, "", 0, false}, {"a:", false, "", 0, false},
		{"a:x", false, "", 0, false}, {"a:65536", false, "", 0, false}, {"::1", false, "", 0, false},
	} {
		host, port, err := HostPort(c.in, c.https)
		if host != c.host || port != c.port || (err == nil) != c.ok {
			t.Errorf("%q: %q %d %v", c.in, host, port, err)
		}
	}
}

func TestTemporary(t *testing.T) {
	start := time.UnixMilli(1438964811744)
	issuer := Credentials{ClientID: "root", AccessToken: testToken}
	got, err := issuer.temporary(TemporaryOptions{Scopes: []string{"a", "b*"}, Start: start, Expiry: start.Add(24 * time.Hour)}, testSeed)
	if err != nil || got.Certificate != goodCert || got.ClientID != "root" || got.AccessToken != "R4OVHWpIvy6KsqS4AWE51QwbvgLvsstS6e6UW8IfHUY" {
		t.Fatalf("%#v %s %v", got, got.Certificate, err)
	}
	got, err = issuer.temporary(TemporaryOptions{Name: "a/b", Start: start, Expiry: start.Add(24 * time.Hour)}, testSeed)
	if err != nil || got.ClientID != "a/b" || !strings.Contains(got.Certificate, `"scopes":[],`) ||
		!strings.Contains(got.Certificate, `"mIfE3GR0NYK9e7mIPJ5VrKRLs094z12DUFJVpjMijjY=","issuer":"root"`) {
		t.Fatalf("%#v %s %v", got, got.Certificate, err)
	}
	end := start.Add(time.Hour)
	for about, o := range map[string]TemporaryOptions{
		"ends first":  {Start: end, Expiry: start},
		"too long":    {Start: start, Expiry: start.Add(MaxLifetime + time.Millisecond)},
		"own name":    {Name: "root", Start: start, Expiry: end},
		"bad name":    {Name: "a\nb", Start: start, Expiry: end},
		"quoted name": {Name: `a"`, Start: start, Expiry: end},
		"bad scope":   {Scopes: []string{"a\n"}, Start: start, Expiry: end},
	} {
		if _, err := issuer.Temporary(o); err == nil {
			t.Errorf("%s: made", about)
		}
	}
	if _, err := got.Temporary(TemporaryOptions{Start: start, Expiry: end}); err == nil {
		t.Error("temporary credentials issued others")
	}
}

func TestTemporarySeedsDiffer(t *testing.T) {
	o := TemporaryOptions{Start: testTime, Expiry: testTime.Add(time.Hour)}
	a, _ := root.Temporary(o)
	b, _ := root.Temporary(o)
	if a.AccessToken == b.AccessToken || a.AccessToken == "" {
		t.Error("same key twice")
	}
}

// TestVectors reads the data that lies beside the project.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile(testenv.Shared(t, "vectors/temporary-credentials.json"))
	if err != nil {
		t.Fatal(err)
	}
	type creds struct {
		ClientID, AccessToken, Certificate string
		AuthorizedScopes                   []string
	}
	var vectors []struct {
		Description       string
		ExpectedTempCreds creds
		PermCreds         creds
		Start, Expiry     time.Time
		Seed              string
		TempCredsName     string
		TempCredsScopes   []string
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) == 0 {
		t.Fatal(len(vectors), err)
	}
	for _, v := range vectors {
		o := TemporaryOptions{Name: v.TempCredsName, Scopes: v.TempCredsScopes, Start: v.Start, Expiry: v.Expiry}
		got, err := Credentials(v.PermCreds).temporary(o, v.Seed)
		if err != nil {
			t.Errorf("%s: %v", v.Description, err)
			continue
		}
		want := Credentials(v.ExpectedTempCreds)
		if got.ClientID != want.ClientID || got.AccessToken != want.AccessToken || got.Certificate != want.Certificate ||
			fmt.Sprint(got.AuthorizedScopes) != fmt.Sprint(want.AuthorizedScopes) {
			t.Errorf("%s:\n%s\n%s", v.Description, got.Certificate, want.Certificate)
		}
		cert, err := ParseCertificate(json.RawMessage(want.Certificate))
		if err == nil {
			err = cert.CheckSignature(want.ClientID, v.PermCreds.AccessToken)
		}
		if err != nil {
			t.Errorf("%s: %v", v.Description, err)
		}
	}
}

func TestSecretsStayOut(t *testing.T) {
	c := Credentials{ClientID: "who", AccessToken: "hushhush", Certificate: `{"seed":"hushhush"}`}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "creds", c, "pointer", &c)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "creds", c)
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s", c, c, c, &c), fmt.Sprintf("%+v", struct{ C Credentials }{c}), logged.String()} {
		if strings.Contains(s, "hush") || !strings.Contains(s, "who") {
			t.Error(s)
		}
	}
}

func TestClientSideAllocations(t *testing.T) {
	o := TemporaryOptions{Name: "task-client/x/0", Scopes: []string{"queue:a", "queue:b"}, Start: testTime, Expiry: testTime.Add(time.Hour)}
	var err error
	if n := testing.AllocsPerRun(200, func() { _, err = root.Temporary(o) }); n > 30 || err != nil {
		t.Errorf("Temporary: %v allocations, %v", n, err)
	}
	if n := testing.AllocsPerRun(200, func() { _, err = root.Header(testRequest, "", testTime) }); n > 16 || err != nil {
		t.Errorf("Header: %v allocations, %v", n, err)
	}
}

func BenchmarkTemporary(b *testing.B) {
	o := TemporaryOptions{Name: "task-client/x/0", Scopes: []string{"queue:a", "queue:b", "queue:c:*"}, Start: testTime, Expiry: testTime.Add(time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := root.Temporary(o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHeader(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := root.Header(testRequest, "", testTime); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyTemporary(b *testing.B) {
	issuer := Credentials{ClientID: "root", AccessToken: testToken}
	temp, _ := issuer.Temporary(TemporaryOptions{Name: "a", Scopes: []string{"x", "y"}, Start: testTime, Expiry: testTime.Add(time.Hour)})
	value, _ := temp.Header(testRequest, "", testTime)
	b.ReportAllocs()
	for b.Loop() {
		h, err := ParseHeader(value)
		if err != nil {
			b.Fatal(err)
		}
		e, _ := ParseExt(h.Ext)
		c, err := ParseCertificate(e.Certificate)
		if err == nil {
			err = c.CheckSignature(h.ID, testToken)
		}
		if err == nil {
			err = h.Verify(c.Key(testToken), testRequest, testTime)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
