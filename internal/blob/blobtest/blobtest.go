// Package blobtest checks that a blob.Store keeps its promises. Every store's
// own tests run it.
package blobtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/blob"
)

const valid = 10 * time.Minute

// Traits are in what stores may differ.
type Traits struct {
	Head    bool // GetURL serves HEAD as well
	LongKey int  // characters that a key may have
	// Tree says that the server keeps objects as files, so that there cannot be
	// both "a" and "a/b".
	Tree bool
	// Loose says that the server keeps what arrived of an upload that broke off,
	// as Amazon does not but some do.
	Loose bool
}

// Run checks the store that open makes. The URLs that the store signs must be
// reachable.
func Run(t *testing.T, traits Traits, open func(t *testing.T) blob.Store) {
	upload := func(t *testing.T, s blob.Store) { upload(t, s, traits) }
	keys := func(t *testing.T, s blob.Store) { keys(t, s, traits) }
	interrupted := func(t *testing.T, s blob.Store) { interrupted(t, s, traits) }
	for name, check := range map[string]func(*testing.T, blob.Store){
		"upload and download":        upload,
		"encoding is kept":           encoding,
		"keys are not interpreted":   keys,
		"urls bind what they permit": binding,
		"ranges and validators":      ranges,
		"replace and delete":         replace,
		"interrupted upload":         interrupted,
		"readers see whole objects":  atomic,
		"invalid arguments":          invalid,
		"length and disposition":     bound,
		"many at once":               many,
	} {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

// bare neither asks for gzip nor decodes it, so that tests see what is sent.
var bare = &http.Client{Transport: &http.Transport{DisableCompression: true}}

type answer struct {
	status int
	header http.Header
	body   string
}

func do(t *testing.T, method, url, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := bare.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (a answer) want(t *testing.T, status int, body string) {
	t.Helper()
	if a.status != status || a.body != body {
		t.Fatalf("got %d %.200q, want %d %.200q", a.status, a.body, status, body)
	}
}

func putURL(t *testing.T, s blob.Store, key, contentType string) string {
	t.Helper()
	u, err := s.PutURL(t.Context(), key, blob.Upload{ContentType: contentType, Length: blob.AnyLength}, valid)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func getURL(t *testing.T, s blob.Store, key string) string {
	t.Helper()
	u, err := s.GetURL(t.Context(), key, valid)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// put uploads through a signed URL.
func put(t *testing.T, s blob.Store, key, body string) {
	t.Helper()
	do(t, "PUT", putURL(t, s, key, "text/plain"), body, "Content-Type", "text/plain").want(t, 200, "")
}

func upload(t *testing.T, s blob.Store, traits Traits) {
	const key = "fSU_6Pv_T3KwCsmXxdpGYg/0/public/logs/live_backing.log"
	if a := do(t, "GET", getURL(t, s, key), ""); a.status != 404 {
		t.Fatalf("before the upload: %d, want 404", a.status)
	}
	contentType := "text/plain; charset=utf-8"
	do(t, "PUT", putURL(t, s, key, contentType), "hello", "Content-Type", contentType).want(t, 200, "")

	a := do(t, "GET", getURL(t, s, key), "", "Origin", "https://tc.example.com")
	a.want(t, 200, "hello")
	if a.header.Get("Content-Type") != contentType || a.header.Get("Content-Length") != "5" {
		t.Fatal(a.header)
	}
	if a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatal("the site's log viewer needs Access-Control-Allow-Origin")
	}
	a = do(t, "HEAD", getURL(t, s, key), "")
	if !traits.Head {
		if a.status != 403 {
			t.Fatalf("HEAD: %d", a.status)
		}
	} else if a.status != 200 || a.header.Get("Content-Length") != "5" || a.header.Get("ETag") == "" {
		t.Fatalf("HEAD: %d %v", a.status, a.header)
	}
	info, err := s.Stat(t.Context(), key)
	if err != nil || info.Size != 5 || info.ContentType != contentType || info.ContentEncoding != "" || info.ETag == "" {
		t.Fatalf("%+v, %v", info, err)
	}

	// Without a URL.
	written, err := s.Put(t.Context(), "t/direct", blob.Info{ContentType: "a/b", ContentEncoding: "br"}, strings.NewReader("xyz"))
	if err != nil || written.Size != 3 || written.ContentType != "a/b" || written.ContentEncoding != "br" {
		t.Fatalf("%+v, %v", written, err)
	}
	read(t, s, "t/direct", "xyz")
	put(t, s, "empty/object", "")
	read(t, s, "empty/object", "")
	do(t, "GET", getURL(t, s, "empty/object"), "").want(t, 200, "")
}

func read(t *testing.T, s blob.Store, key, want string) blob.Info {
	t.Helper()
	r, info, err := s.Open(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != want || info.Size != int64(len(want)) {
		t.Fatalf("read %.200q (%+v), %v; want %.200q", b, info, err, want)
	}
	return info
}

// Gzip compresses s.
func Gzip(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	return b.String()
}

func encoding(t *testing.T, s blob.Store) {
	packed := Gzip(strings.Repeat("line of a log\n", 1000))
	do(t, "PUT", putURL(t, s, "k/gz", "text/plain"), packed,
		"Content-Type", "text/plain", "Content-Encoding", "gzip").want(t, 200, "")
	a := do(t, "GET", getURL(t, s, "k/gz"), "", "Accept-Encoding", "gzip, deflate")
	a.want(t, 200, packed)
	if a.header.Get("Content-Encoding") != "gzip" || a.header.Get("Content-Length") != fmt.Sprint(len(packed)) {
		t.Fatal(a.header)
	}
	if info := read(t, s, "k/gz", packed); info.ContentEncoding != "gzip" {
		t.Fatal(info)
	}
}

func keys(t *testing.T, s blob.Store, traits Traits) {
	all := []string{
		"a/b", "a//b", "a/../b", "b", "a/./b", "../../../etc/passwd", "/a/b", "a b?c#d", "a%2Fb", "a%20b",
		"a/%/b", "a/%../b", "a/%2E/b", "a/%%/b", "a+b", "a&b=c", "a;b", `a\b`, `"'<>{}|^~`, "...", "a/b?expires=1", " lead and trail ",
		strings.Repeat("long/", (traits.LongKey-1)/5) + "n",
	}
	if !traits.Tree {
		all = append(all, "a/b/", "a/..")
	}
	for _, key := range all {
		put(t, s, key, "content of "+key)
	}
	for _, key := range all {
		do(t, "GET", getURL(t, s, key), "").want(t, 200, "content of "+key)
		read(t, s, key, "content of "+key)
	}
}

func binding(t *testing.T, s blob.Store) {
	put(t, s, "k/bound", "original")
	u, g := putURL(t, s, "k/bound", "text/plain"), getURL(t, s, "k/bound")
	for name, a := range map[string]answer{
		"no content type":     do(t, "PUT", u, "evil"),
		"other content type":  do(t, "PUT", u, "evil", "Content-Type", "text/html"),
		"put on a get url":    do(t, "PUT", g, "evil", "Content-Type", "text/plain"),
		"get on a put url":    do(t, "GET", u, ""),
		"delete":              do(t, "DELETE", u, ""),
		"other key":           do(t, "PUT", strings.Replace(u, "k/bound", "k/other", 1), "evil", "Content-Type", "text/plain"),
		"other key, get":      do(t, "GET", strings.Replace(g, "k/bound", "k/other", 1), ""),
		"changed query":       do(t, "GET", strings.ReplaceAll(g, "=", "=1"), ""),
		"no query":            do(t, "GET", g[:strings.IndexByte(g, '?')], ""),
		"no query, for a put": do(t, "PUT", u[:strings.IndexByte(u, '?')], "evil", "Content-Type", "text/plain"),
	} {
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: status %d, want a refusal", name, a.status)
		}
	}
	read(t, s, "k/bound", "original")
	if _, err := s.Stat(t.Context(), "k/other"); !errors.Is(err, blob.ErrNotFound) {
		t.Fatal(err)
	}
}

func ranges(t *testing.T, s blob.Store) {
	put(t, s, "k/r", "0123456789")
	g := getURL(t, s, "k/r")
	a := do(t, "GET", g, "", "Range", "bytes=2-4")
	a.want(t, 206, "234")
	if a.header.Get("Content-Range") != "bytes 2-4/10" {
		t.Fatal(a.header)
	}
	do(t, "GET", g, "", "Range", "bytes=-3").want(t, 206, "789")
	if a := do(t, "GET", g, "", "Range", "bytes=20-"); a.status != 416 {
		t.Fatal(a)
	}
	etag := a.header.Get("ETag")
	do(t, "GET", g, "", "If-None-Match", etag).want(t, 304, "")
	do(t, "GET", g, "", "If-None-Match", `"different"`).want(t, 200, "0123456789")
}

func replace(t *testing.T, s blob.Store) {
	put(t, s, "k/x", "first")
	before, err := s.Stat(t.Context(), "k/x")
	if err != nil {
		t.Fatal(err)
	}
	// Who reads already goes on reading what he opened.
	r, _, err := s.Open(t.Context(), "k/x")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put(t, s, "k/x", "second, longer")
	if b, err := io.ReadAll(r); err != nil || string(b) != "first" {
		t.Fatalf("%q, %v", b, err)
	}
	if after := read(t, s, "k/x", "second, longer"); after.ETag == before.ETag {
		t.Fatal("the ETag did not change with the content")
	}
	put(t, s, "k/y", "other")
	if err := s.Delete(t.Context(), "k/none", "k/x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "k/x"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Open(t.Context(), "k/x"); !errors.Is(err, blob.ErrNotFound) {
		t.Fatal(err)
	}
	if a := do(t, "GET", getURL(t, s, "k/x"), ""); a.status != 404 {
		t.Fatal(a)
	}
	read(t, s, "k/y", "other")
}

// interrupted breaks uploads off: with less than the Content-Length said, and
// in the middle of a chunked body.
func interrupted(t *testing.T, s blob.Store, traits Traits) {
	put(t, s, "k/i", "complete")
	lengths := []int64{1 << 20, -1}
	if traits.Loose {
		t.Log("this server keeps what arrived of a broken upload, so only Put is tested")
		lengths = nil
	}
	for _, length := range lengths {
		u := putURL(t, s, "k/i", "text/plain")
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "PUT", u, r)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		req.Header.Set("Content-Type", "text/plain")
		go func() {
			w.Write(bytes.Repeat([]byte("part"), 10_000))
			cancel()
			w.CloseWithError(errors.New("broken off"))
		}()
		if resp, err := bare.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode < 300 {
				t.Fatalf("an upload that was broken off got %d", resp.StatusCode)
			}
		}
		cancel()
	}
	failing := io.MultiReader(strings.NewReader("part"), iotestErr{})
	if _, err := s.Put(t.Context(), "k/i", blob.Info{}, failing); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	read(t, s, "k/i", "complete")
}

var errBroken = errors.New("broken off")

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errBroken }

// atomic writes one key from several sides while others read it.
func atomic(t *testing.T, s blob.Store) {
	const size = 200_000
	u, g := putURL(t, s, "k/a", "text/plain"), getURL(t, s, "k/a")
	put(t, s, "k/a", strings.Repeat("z", size))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 5 {
				body := strings.Repeat(string(rune('a'+i)), size)
				if a := do(t, "PUT", u, body, "Content-Type", "text/plain"); a.status != 200 {
					t.Errorf("PUT: %d", a.status)
				}
				a := do(t, "GET", g, "")
				if a.status != 200 || len(a.body) != size || strings.Trim(a.body, a.body[:1]) != "" {
					t.Errorf("a mixture was read: %d, %d bytes", a.status, len(a.body))
				}
			}
		})
	}
	wg.Wait()
}

func invalid(t *testing.T, s blob.Store) {
	for _, key := range []string{"", ".", "..", "a\nb", "a\x00b", "ä", "a\x7f"} {
		if _, err := s.PutURL(t.Context(), key, blob.Upload{ContentType: "text/plain", Length: blob.AnyLength}, valid); !errors.Is(err, blob.ErrInvalid) {
			t.Errorf("PutURL(%q): %v", key, err)
		}
		if _, err := s.GetURL(t.Context(), key, valid); !errors.Is(err, blob.ErrInvalid) {
			t.Errorf("GetURL(%q): %v", key, err)
		}
		if _, err := s.Put(t.Context(), key, blob.Info{}, strings.NewReader("")); !errors.Is(err, blob.ErrInvalid) {
			t.Errorf("Put(%q): %v", key, err)
		}
	}
	if _, err := s.PutURL(t.Context(), "k/h", blob.Upload{ContentType: "a\r\nSet-Cookie: b", Length: blob.AnyLength}, valid); !errors.Is(err, blob.ErrInvalid) {
		t.Error(err)
	}
}

// bound checks what else a URL can bind, and that it is kept.
func bound(t *testing.T, s blob.Store) {
	u, err := s.PutURL(t.Context(), "k/page", blob.Upload{ContentType: "text/html", ContentDisposition: "attachment", Length: 5}, valid)
	if err != nil {
		t.Fatal(err)
	}
	headers := []string{"Content-Type", "text/html", "Content-Disposition", "attachment", "Content-Encoding", "identity"}
	for name, a := range map[string]answer{
		"too long":          do(t, "PUT", u, "hello!", headers...),
		"too short":         do(t, "PUT", u, "hell", headers...),
		"no disposition":    do(t, "PUT", u, "hello", "Content-Type", "text/html"),
		"other disposition": do(t, "PUT", u, "hello", "Content-Type", "text/html", "Content-Disposition", "inline"),
	} {
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: status %d, want a refusal", name, a.status)
		}
	}
	if _, err := s.Stat(t.Context(), "k/page"); !errors.Is(err, blob.ErrNotFound) {
		t.Fatal(err)
	}
	do(t, "PUT", u, "hello", headers...).want(t, 200, "")
	if info := read(t, s, "k/page", "hello"); info.ContentDisposition != "attachment" || info.ContentEncoding != "" {
		t.Errorf("%+v", info)
	}
	if a := do(t, "GET", getURL(t, s, "k/page"), ""); a.header.Get("Content-Disposition") != "attachment" {
		t.Error(a.header)
	}
	put, err := s.Put(t.Context(), "k/other", blob.Info{ContentType: "a/b", ContentDisposition: "attachment"}, strings.NewReader("x"))
	if err != nil || put.ContentDisposition != "attachment" {
		t.Fatal(put, err)
	}
	if info := read(t, s, "k/other", "x"); info.ContentDisposition != "attachment" {
		t.Errorf("%+v", info)
	}
}

// many deletes more objects than one request can name.
func many(t *testing.T, s blob.Store) {
	var all []string
	for i := range 2100 {
		all = append(all, fmt.Sprintf("many/%04d", i))
	}
	for _, i := range []int{0, 999, 1000, 1999, 2000, 2099} {
		if _, err := s.Put(t.Context(), all[i], blob.Info{ContentType: "a/b"}, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 999, 1000, 1999, 2000, 2099} {
		if _, err := s.Stat(t.Context(), all[i]); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: %v", all[i], err)
		}
	}
}
