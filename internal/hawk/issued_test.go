package hawk

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func issuedExample(t testing.TB, scopes ...string) string {
	t.Helper()
	now := time.Now()
	c, err := Credentials{ClientID: "issuer", AccessToken: "secret"}.Temporary(TemporaryOptions{
		Name: "task-client/abc/0", Scopes: scopes, Start: now, Expiry: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return c.Certificate
}

// What Temporary writes is read without general JSON, otherwise its tests would
// test nothing; and with few allocations.
func TestIssuedReadsWhatTemporaryWrites(t *testing.T) {
	for _, scopes := range [][]string{nil, {"a"}, {"queue:reclaim-task:x/0", "b c~", "", "*"}} {
		text := issuedExample(t, scopes...)
		if rest, ok := issued(text, nil); !ok || rest != "" {
			t.Errorf("%s: not read, rest %q", text, rest)
		}
	}
	text := issuedExample(t, "queue:reclaim-task:x/0", "queue:resolve-task:x/0", "queue:create-artifact:x/0")
	ext := base64.StdEncoding.EncodeToString([]byte(`{"certificate":` + text + `}`))
	allocs := testing.AllocsPerRun(100, func() {
		e, err := ParseExt(ext)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCertificate(e.Certificate); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 6 { // 5, and one with the race detector
		t.Errorf("ext and certificate are read with %.0f allocations, at most 5 wanted", allocs)
	}
}

// FuzzIssued holds the short way to the long one: whatever it reads, the long
// way reads as well, and the same.
func FuzzIssued(f *testing.F) {
	example := issuedExample(f, "a:b", "c")
	f.Add(example)
	f.Add(issuedExample(f))
	for _, change := range [][2]string{
		{`:1,`, `:2,`}, {`"a:b"`, `"\u0061"`}, {`"a:b"`, `"é"`}, {`"a:b"`, `null`}, {`"a:b",`, `"a:b",,`}, {`"c"]`, `"c",]`},
		{`"start":`, `"start":0`}, {`"start":`, `"start":-`}, {`"expiry":`, `"expiry":9999999999`}, {`"seed":"`, `"seed":"x`},
		{`"issuer":"issuer"`, `"issuer":""`}, {`"issuer":"issuer"`, `"issuer":null`}, {`"issuer":`, `"clientId":`},
		{`}`, `,"version":1}`}, {`}`, `} `}, {`}`, ``}, {`}`, `}}`}, {`{`, `{ `},
	} {
		f.Add(strings.Replace(example, change[0], change[1], 1))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var short Certificate
		rest, ok := issued(text, &short)
		if !ok {
			return
		}
		raw := json.RawMessage(strings.TrimSuffix(text, rest))
		long, err := parseCertificate(raw)
		if err != nil || !reflect.DeepEqual(short, long) {
			t.Fatalf("%s\nshort %+v\nlong  %+v, %v", raw, short, long, err)
		}
		if !json.Valid(raw) {
			t.Fatalf("%s is not JSON", raw)
		}
		// Within ext nothing else may follow.
		ext := base64.StdEncoding.EncodeToString([]byte(`{"certificate":` + text + `}`))
		e, err := ParseExt(ext)
		if rest != "" {
			return
		}
		if err != nil || string(e.Certificate) != text {
			t.Fatalf("ext of %s: %s, %v", text, e.Certificate, err)
		}
	})
}

func BenchmarkCertificate(b *testing.B) {
	text := issuedExample(b, "queue:reclaim-task:x/0", "queue:resolve-task:x/0", "queue:create-artifact:x/0")
	for name, prefix := range map[string]string{"issued": "", "general": " "} {
		b.Run(name, func(b *testing.B) {
			ext := base64.StdEncoding.EncodeToString([]byte(`{"certificate":` + prefix + text + `}`))
			b.ReportAllocs()
			for b.Loop() {
				e, _ := ParseExt(ext)
				if prefix == "" {
					if _, err := ParseCertificate(e.Certificate); err != nil {
						b.Fatal(err)
					}
				} else if _, err := parseCertificate(e.Certificate); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
