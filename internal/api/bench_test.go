package api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// discard is a response that costs nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkCall is what the framework costs around a handler: route,
// authentication's result, scopes, schema, answer.
func BenchmarkCall(b *testing.B) {
	s, _ := newTestServer(b)
	body := []byte(`{"name":"x"}`)
	for b.Loop() {
		serveOnce(s, body)
	}
	b.ReportAllocs()
}

func serveOnce(s *Server, body []byte) {
	r := httptest.NewRequest("PUT", "http://tc.test/api/test/v1/thing", io.NopCloser(bytes.NewReader(body)))
	r.Header.Set("Content-Type", "application/json")
	s.ServeHTTP(&discard{http.Header{}}, r)
}

// TestAllocations holds the framework's cost per call, the test's own request
// included.
func TestAllocations(t *testing.T) {
	s, _ := newTestServer(t)
	body := []byte(`{"name":"x"}`)
	if n := testing.AllocsPerRun(200, func() { serveOnce(s, body) }); n > 60 {
		t.Errorf("a call allocates %v times", n)
	}
}
