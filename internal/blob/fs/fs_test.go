package fs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"taskcluster/internal/blob"
	"taskcluster/internal/blob/blobtest"
	"taskcluster/internal/clock"
)

var key = bytes.Repeat([]byte{7}, 32)

// serve makes a store whose URLs work, behind an ordinary router. When the
// test ends and all requests with it, no upload may have left anything behind.
func serve(t testing.TB, opts Options) *Store {
	dir := t.TempDir()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	opts.RootURL, opts.Key = server.URL, key
	s, err := New(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/blob/", s.Handler())
	t.Cleanup(func() {
		server.Close()
		if entries, err := os.ReadDir(s.tmp()); err != nil || len(entries) != 0 {
			t.Errorf("%d files left in tmp, %v", len(entries), err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	blobtest.Run(t, blobtest.Traits{Head: true, LongKey: 4000}, func(t *testing.T) blob.Store { return serve(t, Options{}) })
}

func request(t *testing.T, s *Store, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func mustURL(t *testing.T) func(string, error) string {
	return func(u string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
}

func TestExpiry(t *testing.T) {
	now := clock.NewFake(clock.Of(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
	s := serve(t, Options{Clock: now})
	u := mustURL(t)(s.PutURL(t.Context(), "k/e", blob.Upload{ContentType: "text/plain", Length: blob.AnyLength}, 45*time.Minute+10*time.Second))
	now.Advance(45*time.Minute + 9*time.Second)
	if w := request(t, s, "PUT", u, "x", "Content-Type", "text/plain"); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	g := mustURL(t)(s.GetURL(t.Context(), "k/e", time.Minute))
	now.Advance(time.Second)
	if w := request(t, s, "PUT", u, "x", "Content-Type", "text/plain"); w.Code != 403 || !strings.Contains(w.Body.String(), "expired") {
		t.Fatal(w.Code, w.Body)
	}
	if w := request(t, s, "GET", g, ""); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	now.Advance(time.Minute)
	if w := request(t, s, "GET", g, ""); w.Code != 403 {
		t.Fatal(w.Code, w.Body)
	}
}

// The last character of a signature holds bits that decoders ignore.
func TestSignatureHasOneSpelling(t *testing.T) {
	s := serve(t, Options{})
	u := mustURL(t)(s.PutURL(t.Context(), "k/e", blob.Upload{ContentType: "text/plain", Length: blob.AnyLength}, time.Hour))
	signed, last := u[:len(u)-1], u[len(u)-1:]
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		want := http.StatusForbidden
		if string(c) == last {
			want = http.StatusOK
		}
		if w := request(t, s, "PUT", signed+string(c), "x", "Content-Type", "text/plain"); w.Code != want {
			t.Errorf("%s instead of %s: %d %s", string(c), last, w.Code, w.Body)
		}
	}
	if w := request(t, s, "PUT", u+"%0A", "x", "Content-Type", "text/plain"); w.Code != http.StatusForbidden {
		t.Error(w.Code, w.Body)
	}
}

func TestGzipForThoseWhoCannotDecode(t *testing.T) {
	s := serve(t, Options{})
	text := strings.Repeat("log line\n", 100_000)
	packed := blobtest.Gzip(text)
	meta := blob.Info{ContentType: "text/plain", ContentEncoding: "gzip"}
	for k, body := range map[string]string{"k/gz": packed, "k/cut": packed[:len(packed)-9]} {
		if _, err := s.Put(t.Context(), k, meta, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	g := mustURL(t)(s.GetURL(t.Context(), "k/gz", time.Minute))
	for accept, decoded := range map[string]bool{
		"": true, "identity": true, "br": true, "gzip;q=0": true, "gzip; q=0.0": true, "gzip;q=0, *": true, "*;q=0": true,
		"gzip": false, "deflate, GZIP;q=0.5": false, "*": false, "br;q=1.0, *;q=0.1": false, "x-gzip": false,
	} {
		w := request(t, s, "GET", g, "", "Accept-Encoding", accept)
		want, coding := packed, "gzip"
		if decoded {
			want, coding = text, ""
		}
		if w.Code != 200 || w.Body.String() != want || w.Header().Get("Content-Encoding") != coding ||
			w.Header().Get("Vary") != "Accept-Encoding" || w.Header().Get("Content-Type") != "text/plain" {
			t.Errorf("Accept-Encoding %q: %d %v", accept, w.Code, w.Header())
		}
	}
	w := request(t, s, "GET", g, "", "Range", "bytes=0-3")
	if w.Code != 200 || w.Body.String() != text {
		t.Error("a range of a decoded object must be ignored", w.Code)
	}
	if again := request(t, s, "GET", g, "", "If-None-Match", w.Header().Get("ETag")); again.Code != 304 || again.Body.Len() != 0 {
		t.Error(again.Code)
	}
	if head := request(t, s, "HEAD", g, ""); head.Code != 200 || head.Body.Len() != 0 {
		t.Error(head.Code)
	}
	if part := request(t, s, "GET", g, "", "Accept-Encoding", "gzip", "Range", "bytes=0-1"); part.Code != 206 ||
		part.Body.String() != packed[:2] || part.Header().Get("Content-Length") != "2" {
		t.Error(part.Code, part.Header())
	}

	// What breaks off breaks off.
	resp, err := http.Get(mustURL(t)(s.GetURL(t.Context(), "k/cut", time.Minute)))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a truncated object was served as if it were whole")
	}
}

// What is not gzip is not taken as gzip: browsers could not show it.
func TestNotGzip(t *testing.T) {
	s := serve(t, Options{})
	u := mustURL(t)(s.PutURL(t.Context(), "k/not", blob.Upload{ContentType: "text/plain", Length: blob.AnyLength}, time.Minute))
	for _, body := range []string{"", "\x1f", "\x1f\x8c", "this is no gzip"} {
		w := request(t, s, "PUT", u, body, "Content-Type", "text/plain", "Content-Encoding", "gzip")
		var refusal struct{ Code, Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &refusal); err != nil || w.Code != 400 || refusal.Code != "InputError" || !strings.Contains(refusal.Message, "not gzip") {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
		if _, err := s.Put(t.Context(), "k/not", blob.Info{ContentEncoding: "gzip"}, strings.NewReader(body)); !errors.Is(err, blob.ErrInvalid) {
			t.Errorf("Put %q: %v", body, err)
		}
	}
	if _, err := s.Stat(t.Context(), "k/not"); !errors.Is(err, blob.ErrNotFound) {
		t.Error(err)
	}
	for _, body := range []string{blobtest.Gzip(""), blobtest.Gzip("text")} {
		if w := request(t, s, "PUT", u, body, "Content-Type", "text/plain", "Content-Encoding", "gzip"); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if w := request(t, s, "PUT", u, "plain", "Content-Type", "text/plain", "Content-Encoding", "identity"); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestHeadersThatProtectTheSite(t *testing.T) {
	s := serve(t, Options{})
	if _, err := s.Put(t.Context(), "k/page", blob.Info{ContentType: "text/html"}, strings.NewReader("<script>alert(1)</script>")); err != nil {
		t.Fatal(err)
	}
	h := request(t, s, "GET", mustURL(t)(s.GetURL(t.Context(), "k/page", time.Minute)), "").Header()
	policy := h.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "sandbox") || strings.Contains(policy, "allow-same-origin") ||
		h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
		t.Fatal(h)
	}
	w := request(t, s, "OPTIONS", "/blob/anything", "")
	h = w.Header()
	if w.Code != 204 || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Methods") != "GET, PUT, HEAD" ||
		h.Get("Access-Control-Allow-Headers") != "*" || h.Get("Access-Control-Max-Age") != "3600" {
		t.Fatal(w.Code, h)
	}
	// An object without a type gets none guessed.
	if _, err := s.Put(t.Context(), "k/none", blob.Info{}, strings.NewReader("<html>")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(mustURL(t)(s.GetURL(t.Context(), "k/none", time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, ok := resp.Header["Content-Type"]; ok {
		t.Fatal(resp.Header)
	}
}

func TestContentTypeMismatchIsExplained(t *testing.T) {
	s := serve(t, Options{})
	u := mustURL(t)(s.PutURL(t.Context(), "k/c", blob.Upload{ContentType: "text/plain", Length: blob.AnyLength}, time.Minute))
	w := request(t, s, "PUT", u, "x", "Content-Type", "text/html")
	if w.Code != 403 || !strings.Contains(w.Body.String(), "text/plain") || !strings.Contains(w.Body.String(), "text/html") {
		t.Fatal(w.Code, w.Body)
	}
	// The type in the URL is signed, too.
	w = request(t, s, "PUT", strings.Replace(u, "text%2Fplain", "text%2Fhtml", 1), "x", "Content-Type", "text/html")
	if w.Code != 403 {
		t.Fatal(w.Code, w.Body)
	}
}

func TestLimit(t *testing.T) {
	s := serve(t, Options{MaxSize: 10})
	u := mustURL(t)(s.PutURL(t.Context(), "k/l", blob.Upload{ContentType: "text/plain", Length: blob.AnyLength}, time.Minute))
	for _, chunked := range []bool{false, true} {
		var body io.Reader = strings.NewReader("12345678901")
		if chunked {
			body = io.MultiReader(body)
		}
		req, _ := http.NewRequest("PUT", u, body)
		req.Header.Set("Content-Type", "text/plain")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Fatal(resp.StatusCode)
		}
	}
	if _, err := s.Stat(t.Context(), "k/l"); !errors.Is(err, blob.ErrNotFound) {
		t.Fatal(err)
	}
	if w := request(t, s, "PUT", u, "1234567890", "Content-Type", "text/plain"); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
}

// tight is a file on a disk that has room for so many bytes.
type tight struct {
	w    io.Writer
	room *int
}

func (d tight) Write(p []byte) (int, error) {
	if len(p) > *d.room {
		n, _ := d.w.Write(p[:*d.room])
		*d.room = 0
		return n, &os.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}
	}
	*d.room -= len(p)
	return d.w.Write(p)
}

func TestDiskFull(t *testing.T) {
	s := serve(t, Options{})
	u := mustURL(t)(s.PutURL(t.Context(), "k/f", blob.Upload{ContentType: "text/plain", Length: blob.AnyLength}, time.Minute))
	if w := request(t, s, "PUT", u, "old", "Content-Type", "text/plain"); w.Code != 200 {
		t.Fatal(w.Code)
	}
	body := strings.Repeat("x", 100_000)
	for _, room := range []int{0, 1, 50_000, len(body), len(body) + 10} { // the last two fail in the trailer
		left := room
		s.tap = func(w io.Writer) io.Writer { return tight{w, &left} }
		w := request(t, s, "PUT", u, body, "Content-Type", "text/plain")
		if w.Code != http.StatusInsufficientStorage || !strings.Contains(w.Body.String(), "full") {
			t.Fatal(room, w.Code, w.Body)
		}
	}
	w := request(t, s, "GET", mustURL(t)(s.GetURL(t.Context(), "k/f", time.Minute)), "")
	if w.Body.String() != "old" {
		t.Fatal(w.Code, w.Body)
	}
}

func TestDamagedFileIsNoObject(t *testing.T) {
	s := serve(t, Options{})
	if _, err := s.Put(t.Context(), "k/d", blob.Info{}, strings.NewReader("content")); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(s.path("k/d"))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if err := os.WriteFile(s.path("k/d"), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stat(t.Context(), "k/d"); err == nil || errors.Is(err, blob.ErrNotFound) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	// A file under another key's name is not that key's object.
	os.MkdirAll(filepath.Dir(s.path("k/other")), 0o700)
	if err := os.WriteFile(s.path("k/other"), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if w := request(t, s, "GET", mustURL(t)(s.GetURL(t.Context(), "k/other", time.Minute)), ""); w.Code != 500 ||
		strings.Contains(w.Body.String(), s.dir) {
		t.Fatal(w.Code, w.Body)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	opts := Options{RootURL: "http://localhost", Key: key}
	s, err := New(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	old, fresh := filepath.Join(s.tmp(), "put-old"), filepath.Join(s.tmp(), "put-fresh")
	for _, f := range []string{old, fresh} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir, opts); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Error("an abandoned upload was kept")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error("an upload under way was removed")
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{RootURL: "http://x", Key: key[:31]}, {RootURL: "nonsense", Key: key}, {Key: key}} {
		if _, err := New(t.TempDir(), o); err == nil {
			t.Errorf("%q was accepted", o.RootURL)
		}
	}
}

func FuzzKeyInURL(f *testing.F) {
	for _, k := range []string{"a/b", "a/../b", "//", "a?b#c%", " /. /"} {
		f.Add(k)
	}
	s, err := New(f.TempDir(), Options{RootURL: "https://tc.example.com", Key: key})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, k string) {
		signed, err := s.GetURL(t.Context(), k, time.Minute)
		if err != nil {
			return
		}
		u, err := url.Parse(signed)
		if err != nil {
			t.Fatal(err)
		}
		// What browsers and routers do to a path must not change it.
		if clean := u.JoinPath().EscapedPath(); clean != u.EscapedPath() {
			t.Fatalf("%q is not stable: %q", u.EscapedPath(), clean)
		}
		p, err := s.verify("GET", u.EscapedPath(), u.RawQuery)
		if err != nil || p.key != k {
			t.Fatalf("%q -> %s -> %q, %v", k, signed, p.key, err)
		}
		if _, err := s.verify("PUT", u.EscapedPath(), u.RawQuery); err == nil {
			t.Fatal("a GET URL permits PUT")
		}
	})
}

func FuzzVerify(f *testing.F) {
	s, err := New(f.TempDir(), Options{RootURL: "https://tc.example.com", Key: key})
	if err != nil {
		f.Fatal(err)
	}
	signed, _ := s.PutURL(f.Context(), "k/x", blob.Upload{ContentType: "text/plain", Length: blob.AnyLength}, time.Hour)
	u, _ := url.Parse(signed)
	f.Add("PUT", u.EscapedPath(), u.RawQuery)
	f.Add("GET", "/blob/%zz", "expires=9&signature=%")
	f.Add("GET", "/blob/", ";&=")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		p, err := s.verify(method, path, query)
		if err != nil {
			return
		}
		// Nobody but the store can sign: only what it signed may pass.
		if method != "PUT" || p.key != "k/x" || p.upload.ContentType != "text/plain" {
			t.Fatalf("%s %s?%s passed", method, path, query)
		}
	})
}

// An upload that takes longer than the server lets answers take is answered.
func TestSlowUpload(t *testing.T) {
	const limit = 50 * time.Millisecond
	s := serve(t, Options{})
	web := httptest.NewUnstartedServer(s.Handler())
	web.Config.WriteTimeout = limit
	web.Start()
	t.Cleanup(web.Close)
	u, err := s.PutURL(t.Context(), "k", blob.Upload{ContentType: "text/plain", Length: blob.AnyLength}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(u, "/blob/")
	body, w := io.Pipe()
	go func() {
		io.WriteString(w, "one ")
		time.Sleep(2 * limit) // as on a slow line
		io.WriteString(w, "two")
		w.Close()
	}()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, web.URL+"/blob/"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "text/plain")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Error(answer.Status)
	}
}
