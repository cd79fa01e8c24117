package api

import (
	"io"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// sized is a body that remembers how much it was ever asked for at once.
type sized struct {
	io.Reader
	most int
}

func (s *sized) Read(p []byte) (int, error) {
	s.most = max(s.most, len(p))
	return s.Reader.Read(p)
}

// Who announces a large body, and sends little, takes little memory.
func TestAnnouncedBody(t *testing.T) {
	s, _ := newTestServer(t)
	const text = `{"name":"x"}`
	for _, encoding := range []string{"", "gzip", "deflate", "br"} {
		body := &sized{Reader: strings.NewReader(text)}
		r := httptest.NewRequest("PUT", "http://tc.test/api/test/v1/thing", body)
		r.ContentLength = MaxBody
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if want := 2 * announced; body.most == 0 || body.most > want {
			t.Errorf("%q: there was room for %d bytes, want at most %d", encoding, body.most, want)
		}
	}
}

// Bodies of any size arrive whole.
func TestSizesOfBodies(t *testing.T) {
	s, _ := newTestServer(t)
	for _, size := range []int{1, announced - 20, announced, announced + 1, 3*announced + 7, MaxBody - 12, MaxBody - 11} {
		name := strings.Repeat("x", size)
		r := call(s, "PUT", "/thing", `{"name":"`+name+`"}`, "Content-Type", "application/json", "Content-Length", strconv.Itoa(size+11))
		if size+11 > MaxBody {
			if r.status != 413 {
				t.Errorf("%d: %d", size, r.status)
			}
		} else if r.status != 200 || r.json(t)["name"] != name {
			t.Errorf("%d: %d %.100s", size, r.status, r.body)
		}
	}
}
