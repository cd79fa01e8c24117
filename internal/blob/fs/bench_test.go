package fs

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"taskcluster/internal/blob"
)

// benchSize is that of one object.
const benchSize = 256 << 20

// over serves a store over real HTTP on loopback, as the program does.
func over(t testing.TB) *Store {
	t.Helper()
	var s *Store
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handler().ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	var err error
	if s, err = New(t.TempDir(), Options{RootURL: server.URL, Key: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	return s
}

// filler is n bytes that are not all alike.
type filler struct{ n int64 }

func (f *filler) Read(p []byte) (int, error) {
	if f.n <= 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), f.n)]
	n := 0
	for n < len(p) {
		n += copy(p[n:], pattern[:])
	}
	f.n -= int64(len(p))
	return len(p), nil
}

var pattern = func() (p [64 << 10]byte) {
	for i := range p {
		p[i] = byte(i * 7 >> 3)
	}
	return p
}()

func sendTo(t testing.TB, s *Store, key string, size int64) {
	t.Helper()
	u, err := s.PutURL(t.Context(), key, blob.Upload{ContentType: "a/b", Length: size}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "PUT", u, &filler{size})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = size
	r.Header.Set("Content-Type", "a/b")
	res, err := bulk.Do(r)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	res.Body.Close()
}

// bulk is a client with buffers as large as those of tools that are made for
// large files.
var bulk = &http.Client{Transport: &http.Transport{WriteBufferSize: 256 << 10, ReadBufferSize: 256 << 10}}

func fetch(t testing.TB, s *Store, key string, size int64) {
	t.Helper()
	u, err := s.GetURL(t.Context(), key, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	res, err := bulk.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{res.Body}, make([]byte, 256<<10))
	if err != nil || n != size {
		t.Fatal(n, err)
	}
}

func BenchmarkUpload(b *testing.B) {
	s := over(b)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		sendTo(b, s, "k/x", benchSize)
	}
}

func BenchmarkDownload(b *testing.B) {
	s := over(b)
	sendTo(b, s, "k/x", benchSize)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		fetch(b, s, "k/x", benchSize)
	}
}
