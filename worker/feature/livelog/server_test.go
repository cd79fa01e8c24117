package livelog

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

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
	for at, status := range map[string]int{url + "x": 401, url[:strings.LastIndexByte(url, '/')+1]: 401, s.url + "/other": 404, s.url + "/log": 404} {
		if resp := get(t, "GET", at); resp.StatusCode != status {
			t.Errorf("%s: %s, want %d", at, resp.Status, status)
		}
	}
	if resp := get(t, "PUT", url); resp.StatusCode != 405 {
		t.Error(resp.Status)
	}
	remove()
	if resp := get(t, "GET", url); resp.StatusCode != 401 {
		t.Error("a log that was removed is still offered")
	}
	l.Write([]byte("two\n"))
	l.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "two\n" {
		t.Errorf("%q, %v", rest, err)
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
