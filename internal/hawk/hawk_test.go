package hawk

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The MACs below were computed outside of this package, with node's crypto.
const (
	testKey    = "werxhqb98rpaxn39848xrunpaw3489ruxnpa98w4rxn"
	testHeader = `Hawk id="dh37fgj492je", ts="1353832234", nonce="j4h3g2", ext="some-app-ext-data", mac="6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE="`
	testBewit  = "cm9vdFwxNzAwMDAwMDAwXGVrdWVYcERjMnZrZHROeUpkSFZjN0NLNkJFdGcwNVRiWUtKVWRYNDhDcFE9XGUzMD0"
)

var (
	testRequest = Request{Method: "GET", Resource: "/resource/1?b=1&a=2", Host: "example.com", Port: 8000}
	testTime    = time.Unix(1353832234, 0)
	bewitTarget = Request{Method: "GET", Resource: "/api/queue/v1/task/x?a=b%2Fc", Host: "tc.example.com", Port: 443}
)

// refusal returns the text of an *Error, and fails for other errors.
func refusal(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error of type %T: %v", err, err)
	}
	return e.Error()
}

func TestPayloadHash(t *testing.T) {
	const want = "Yi9LfIIFRtBEPt74PVmbTF/xVAwPn7ub15ePICfgnuY="
	for _, contentType := range []string{"text/plain", " Text/Plain ; charset=utf-8", "TEXT/PLAIN;x=y;z"} {
		if got := PayloadHash(contentType, []byte("Thank you for flying Hawk")); got != want {
			t.Errorf("%q: %s", contentType, got)
		}
	}
	if PayloadHash("text/plain", nil) == PayloadHash("text/html", nil) {
		t.Error("content type not covered")
	}
}

func TestParseHeader(t *testing.T) {
	const rest = `, ts="1", nonce="n", mac="m"`
	for _, c := range []struct {
		value, want string
	}{
		{testHeader, ""},
		{`hAWK id="a"` + rest, ""},
		{`Hawk   id="a",ts="1" ,` + "\t" + `nonce="n",mac="m", `, ""},
		{`Hawk id="a", app="x", dlg="y", hash="h"` + rest, ""},
		{"", "Bad Request: Invalid header syntax"},
		{"Hawk", "Bad Request: Invalid header syntax"},
		{"Hawk  ", "Bad Request: Invalid header syntax"},
		{`Hawk, id="a"`, "Bad Request: Invalid header syntax"},
		{`Basic dXNlcjpwYXNz`, "Unauthorized"},
		{`Hawk id="a"`, "Bad Request: Missing attributes"},
		{`Hawk ts="1", nonce="n", mac="m"`, "Bad Request: Missing attributes"},
		{`Hawk xyz`, "Bad Request: Bad header format"},
		{`Hawk id=a` + rest, "Bad Request: Bad header format"},
		{`Hawk id="a" ts="1"`, "Bad Request: Bad header format"},
		{`Hawk id="a`, "Bad Request: Bad header format"},
		{`Hawk id="a\"b"` + rest, "Bad Request: Bad header format"},
		{`Hawk id="a"` + rest + ` xyz`, "Bad Request: Bad header format"},
		{`Hawk ="a"` + rest, "Bad Request: Bad header format"},
		{`Hawk id="a", foo="b"` + rest, "Bad Request: Unknown attribute: foo"},
		{`Hawk ID="a"` + rest, "Bad Request: Unknown attribute: ID"},
		{`Hawk id="a", id="b"` + rest, "Bad Request: Duplicate attribute: id"},
		{`Hawk id=""` + rest, "Bad Request: Bad attribute value: id"},
		{"Hawk id=\"a\nb\"" + rest, "Bad Request: Bad attribute value: id"},
		{`Hawk id="é"` + rest, "Bad Request: Bad attribute value: id"},
		{`Hawk id="` + strings.Repeat("a", MaxHeaderLength) + `"`, "Bad Request: Header length too long"},
	} {
		h, err := ParseHeader(c.value)
		if got := refusal(t, err); got != c.want {
			t.Errorf("%.60q: %q, want %q", c.value, got, c.want)
		}
		if err != nil && h != (Header{}) {
			t.Errorf("%.60q: error and a header", c.value)
		}
	}
	long := `Hawk id="a"` + rest + `, ext="` + strings.Repeat("x", MaxHeaderLength)
	if _, err := ParseHeader(long[:MaxHeaderLength-1] + `"`); err != nil {
		t.Errorf("header of exactly the longest length: %v", err)
	}
}

func TestVerifyHeader(t *testing.T) {
	verify := func(value string, change func(*Request), at time.Time) string {
		t.Helper()
		h, err := ParseHeader(value)
		if err != nil {
			t.Fatal(err)
		}
		r := testRequest
		if change != nil {
			change(&r)
		}
		return refusal(t, h.Verify(testKey, r, at))
	}
	const bad, stale = "Unauthorized: Bad mac", "Unauthorized: Stale timestamp"
	for _, c := range []struct {
		name, want string
		change     func(*Request)
		at         time.Time
	}{
		{"as published", "", nil, testTime},
		{"method and host in another case", "", func(r *Request) { r.Method, r.Host = "get", "EXAMPLE.com" }, testTime},
		{"early", "", nil, testTime.Add(-MaxSkew)},
		{"late", "", nil, testTime.Add(MaxSkew)},
		{"too early", stale, nil, testTime.Add(-MaxSkew - time.Second)},
		{"too late", stale, nil, testTime.Add(MaxSkew + time.Second)},
		{"method", bad, func(r *Request) { r.Method = "POST" }, testTime},
		{"resource", bad, func(r *Request) { r.Resource += "&" }, testTime},
		{"host", bad, func(r *Request) { r.Host = "example.org" }, testTime},
		{"port", bad, func(r *Request) { r.Port = 80 }, testTime},
		{"MAC before timestamp", bad, func(r *Request) { r.Port = 80 }, time.Unix(0, 0)},
	} {
		if got := verify(testHeader, c.change, c.at); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	withHash := `Hawk id="dh37fgj492je", ts="1353832234", nonce="j4h3g2", hash="Yi9LfIIFRtBEPt74PVmbTF/xVAwPn7ub15ePICfgnuY=", ext="some-app-ext-data", mac="aSe1DERmZuRl3pI36/9BdZmnErTw3sNzOOAUlfeKjVw="`
	if got := verify(withHash, func(r *Request) { r.Method = "POST" }, testTime); got != "" {
		t.Errorf("with payload hash: %s", got)
	}
	if got := verify(strings.Replace(withHash, "Yi9", "Yi8", 1), func(r *Request) { r.Method = "POST" }, testTime); got != bad {
		t.Errorf("with another payload hash: %q", got)
	}
	if got := verify(strings.Replace(testHeader, "LAE=", "LAE", 1), nil, testTime); got != bad {
		t.Errorf("short MAC: %q", got)
	}
	h, _ := ParseHeader(testHeader)
	if got := refusal(t, h.Verify("other", testRequest, testTime)); got != bad {
		t.Errorf("other key: %q", got)
	}
}

func TestVerifyOddTimestamps(t *testing.T) {
	for _, ts := range []string{"x", "1353832234.5", "-1", "9223372036854775807", "99999999999999999999", "+1353832234x"} {
		h := Header{ID: "a", TS: ts, Nonce: "n"}
		s := &signer{}
		h.MAC = string(s.signRequest(testKey, &testRequest, &attributes{kind: "header", ts: ts, nonce: "n"}))
		if got := refusal(t, h.Verify(testKey, testRequest, testTime)); got != "Unauthorized: Stale timestamp" {
			t.Errorf("ts %q: %q", ts, got)
		}
	}
}

func TestVerifyAllocations(t *testing.T) {
	var err error
	if n := testing.AllocsPerRun(500, func() {
		var h Header
		if h, err = ParseHeader(testHeader); err == nil {
			err = h.Verify(testKey, testRequest, testTime)
		}
	}); n > 10 || err != nil {
		t.Errorf("%v allocations, %v", n, err)
	}
	if n := testing.AllocsPerRun(500, func() { _, err = ParseHeader(testHeader) }); n > 0 || err != nil {
		t.Errorf("ParseHeader: %v allocations, %v", n, err)
	}
}

func TestSplitBewit(t *testing.T) {
	for _, c := range []struct {
		resource, stripped, bewit string
		found                     bool
	}{
		{"/a?bewit=X", "/a", "X", true},
		{"/a?b=1&bewit=X", "/a?b=1", "X", true},
		{"/a?bewit=X&b=1", "/a?b=1", "X", true},
		{"/a?b=1&bewit=X&c=2&d", "/a?b=1&c=2&d", "X", true},
		{"/a?bewit=", "/a", "", true},
		{"/a?bewit=&b", "/a?b", "", true},
		{"/a?bewit=X&", "/a", "X", true},
		{"/a?bewit=1&bewit=2", "/a?bewit=1", "2", true},
		{"/?bewit=X", "/", "X", true},
		{"/a?xbewit=1", "/a?xbewit=1", "", false},
		{"/a?bewit=X&xbewit=1", "/a?xbewit=1", "X", true},
		{"/bewit=X", "/bewit=X", "", false},
		{"/a", "/a", "", false},
		{"", "", "", false},
		{"?bewit=X", "?bewit=X", "", false},
	} {
		stripped, bewit, found := SplitBewit(c.resource)
		if stripped != c.stripped || bewit != c.bewit || found != c.found {
			t.Errorf("%s: %q, %q, %v", c.resource, stripped, bewit, found)
		}
	}
}

func TestBewit(t *testing.T) {
	b, err := ParseBewit(testBewit)
	if err != nil || b.ID != "root" || b.Expires != 1700000000 || b.Ext != "e30=" {
		t.Fatalf("%+v, %v", b, err)
	}
	before := time.Unix(1700000000-1, 0)
	for _, c := range []struct {
		name, want string
		change     func(*Request)
		at         time.Time
	}{
		{"GET", "", nil, before},
		{"head", "", func(r *Request) { r.Method = "head" }, before},
		{"POST", "Unauthorized: Invalid method", func(r *Request) { r.Method = "POST" }, before},
		{"expired", "Unauthorized: Access expired", nil, time.Unix(1700000000, 0)},
		{"resource", "Unauthorized: Bad mac", func(r *Request) { r.Resource = "/api/queue/v1/task/x?a=b/c" }, before},
		{"port", "Unauthorized: Bad mac", func(r *Request) { r.Port = 80 }, before},
		{"too long", "Bad Request: Resource path exceeds max length", func(r *Request) { r.Resource += strings.Repeat("x", MaxResourceLength) }, before},
	} {
		r := bewitTarget
		if c.change != nil {
			c.change(&r)
		}
		if got := refusal(t, b.Verify(testKey, r, c.at)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	// Times that milliseconds cannot express are no way to last for ever.
	for _, expires := range []int64{math.MinInt64, math.MinInt64 + 100, -1, 1<<40 + 1, math.MaxInt64} {
		b := Bewit{ID: "root", Expires: expires}
		s := signerPool.Get().(*signer)
		b.MAC = string(s.signRequest(testKey, &bewitTarget, &attributes{kind: "bewit", ts: strconv.FormatInt(expires, 10)}))
		s.release()
		if got := refusal(t, b.Verify(testKey, bewitTarget, before)); got != "Unauthorized: Access expired" {
			t.Errorf("expires %d: %q", expires, got)
		}
	}
	for s, want := range map[string]string{
		"":                   "Unauthorized: Empty bewit",
		"!!!!":               "Bad Request: Invalid bewit structure",
		"YQ":                 "Bad Request: Invalid bewit structure", // a
		"YVwxXG0":            "Bad Request: Invalid bewit structure", // a\1\m
		"YVwxXG1cZVxm":       "Bad Request: Invalid bewit structure", // a\1\m\e\f
		"YVx4XG1c":           "Bad Request: Invalid bewit structure", // a\x\m\
		"YQpcMVxtXA":         "Bad Request: Invalid bewit structure", // a<newline>\1\m\
		"XDFcbVw":            "Bad Request: Missing bewit attributes",
		"YVwxXG1c":           "", // a\1\m\
		"YVwxXG1cZQ%3D%3D":   "", // a\1\m\e, padded
		"YVwxXG1cZQ==":       "",
		testBewit + "\\junk": "Bad Request: Invalid bewit structure",

		strings.Repeat("A", MaxResourceLength+1): "Bad Request: Resource path exceeds max length",
	} {
		_, err := ParseBewit(s)
		if got := refusal(t, err); got != want {
			t.Errorf("%.40q: %q, want %q", s, got, want)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(testHeader)
	f.Add(`Hawk id="a", ts="1", nonce="n", mac="m", hash="h", app="x", dlg="y"`)
	f.Add(`Hawk id="a" , id="b"`)
	f.Fuzz(func(t *testing.T, value string) {
		h, err := ParseHeader(value)
		if err != nil {
			refusal(t, err)
			return
		}
		// What it read, written down again, reads the same.
		again := `Hawk id="` + h.ID + `", ts="` + h.TS + `", nonce="` + h.Nonce + `", mac="` + h.MAC + `"`
		for name, v := range map[string]string{"hash": h.Hash, "ext": h.Ext, "app": h.App, "dlg": h.Dlg} {
			if v != "" {
				again += `, ` + name + `="` + v + `"`
			}
		}
		if len(again) > MaxHeaderLength {
			return
		}
		if h2, err := ParseHeader(again); err != nil || h2 != h {
			t.Fatalf("%q\n%+v\n%+v %v", value, h, h2, err)
		}
		if h.Verify(testKey, testRequest, testTime) == nil && h.MAC[:3] != "6R4" {
			t.Fatalf("verified: %q", value)
		}
	})
}

func FuzzParseBewit(f *testing.F) {
	f.Add(testBewit, bewitTarget.Resource)
	f.Add("YVwxXG1c", "/a?bewit=b&c")
	f.Fuzz(func(t *testing.T, s, resource string) {
		stripped, value, found := SplitBewit(resource)
		if found && !strings.Contains(resource, "bewit="+value) || !found && stripped != resource {
			t.Fatalf("%q -> %q %q %v", resource, stripped, value, found)
		}
		b, err := ParseBewit(s)
		if err != nil {
			refusal(t, err)
			return
		}
		r := Request{Method: "GET", Resource: resource, Host: "h", Port: 1}
		refusal(t, b.Verify(testKey, r, time.Unix(0, 0)))
	})
}

func BenchmarkParseAndVerify(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		h, err := ParseHeader(testHeader)
		if err == nil {
			err = h.Verify(testKey, testRequest, testTime)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
