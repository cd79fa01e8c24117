package livelog

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/worker/tasklog"
)

func serve(t *testing.T) (*Server, *tasklog.Log) {
	l, err := tasklog.Create(filepath.Join(t.TempDir(), "log"), 0, clock.Real{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	s := NewServer(web.URL + "/below/") // mounted below a path of a greater site
	mux.Handle("/below/", s)
	return s, l
}

func get(t *testing.T, method, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestServer(t *testing.T) {
	s, l := serve(t)
	url, remove := s.Add(l)
	if !strings.Contains(url, "/below/log/") {
		t.Fatal(url)
	}
	l.Write([]byte("one\n"))
	resp := get(t, "GET", url) // answers before the log ends
	buf := make([]byte, 4)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "one\n" {
		t.Fatalf("%q, %v", buf, err)
	}
	if h := resp.Header; resp.StatusCode != 200 || h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatal(resp.Status, h)
	}
	if h := get(t, "OPTIONS", url); h.StatusCode != 204 || h.Header.Get("Access-Control-Allow-Methods") != "GET, HEAD" {
		t.Error(h.Status, h.Header)
	}
	if h := get(t, "HEAD", url); h.StatusCode != 200 {
		t.Error(h.Status)
	}
	for _, at := range []string{url + "x", url[:strings.LastIndexByte(url, '/')+1], s.url + "/other", s.url + "/log"} {
		refused(t, get(t, "GET", at), 404, "ResourceNotFound")
	}
	refused(t, get(t, "PUT", url), 405, "InputError")
	remove()
	refused(t, get(t, "GET", url), 404, "ResourceNotFound")
	l.Write([]byte("two\n"))
	l.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "two\n" {
		t.Errorf("%q, %v", rest, err)
	}
}

// refused checks that an answer is an error in the published form.
func refused(t *testing.T, resp *http.Response, status int, code string) {
	t.Helper()
	var body struct{ Code, Message string }
	err := json.NewDecoder(resp.Body).Decode(&body)
	if resp.StatusCode != status || resp.Header.Get("Content-Type") != "application/json" || err != nil || body.Code != code || body.Message == "" {
		t.Errorf("%s: %s, %+v, %v; want %d %s", resp.Request.URL.Path, resp.Status, body, err, status, code)
	}
}

func TestTokensDiffer(t *testing.T) {
	s, l := serve(t)
	a, _ := s.Add(l)
	b, _ := s.Add(l)
	if a == b || len(a)-strings.LastIndexByte(a, '/') < 21 {
		t.Error(a, b)
	}
}

// A log that is silent for longer than the server lets answers take is read to
// its end all the same.
func TestSilenceBeforeTheEnd(t *testing.T) {
	l, err := tasklog.Create(filepath.Join(t.TempDir(), "log"), 0, clock.Real{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	const limit = 50 * time.Millisecond
	s := NewServer("")
	web := httptest.NewUnstartedServer(s)
	web.Config.WriteTimeout = limit
	web.Start()
	t.Cleanup(web.Close)
	path, remove := s.Add(l)
	defer remove()
	resp := get(t, "GET", web.URL+path)
	time.Sleep(2 * limit) // the silence
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(resp.Body); err != nil || len(text) > 0 {
		t.Fatalf("%q, %v", text, err)
	}
}
