package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// roundTrip sends a request to a handler in this process.
func roundTrip(t *testing.T, ctx context.Context, verb, url, body string, h http.HandlerFunc) (*http.Response, error) {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(ctx, verb, url, reader)
	if err != nil {
		t.Fatal(err)
	}
	return InProcess(h).RoundTrip(request)
}

func TestInProcessVerifies(t *testing.T) {
	for _, root := range []string{"https://tc.example", "http://tc.example", "https://tc.example:8443", "http://[::1]:80"} {
		s, err := NewService(Config{RootURL: root, Credentials: testCredentials, Transport: InProcess(http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Host != "" || r.URL.Scheme != "" || r.URL.Path != "/api/queue/v1/a/b" || r.RemoteAddr == "" {
					t.Errorf("%+v", r)
				}
				if _, err := verify(r, testToken, time.Now()); err != nil {
					t.Errorf("%s: %v", root, err)
				}
				reply(w, 200, `{"word":"hello"}`)
			}))}, "queue", "v1")
		if err != nil {
			t.Fatal(err)
		}
		var out doc
		if err := s.Do(t.Context(), Call{Name: "x", Verb: "POST", Path: "/a%2Fb", Query: "c=d", In: doc{"x"}, Out: &out}); err != nil || out.Word != "hello" {
			t.Fatal(out, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestInProcessReplies(t *testing.T) {
	long := strings.Repeat("0123456789", 10000)
	for _, c := range []struct {
		about, verb string
		handler     http.HandlerFunc
		status      int
		body        string
		length      int64
	}{
		{"nothing", "GET", func(w http.ResponseWriter, r *http.Request) {}, 200, "", 0},
		{"no content", "GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, 204, "", -1},
		{"short", "GET", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi") }, 200, "hi", 2},
		{"first status counts", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(100)
			w.WriteHeader(418)
			w.WriteHeader(200)
			w.Header().Set("Late", "x")
		}, 418, "", 0},
		{"long", "GET", func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(long); i += 1000 {
				io.WriteString(w, long[i:i+1000])
			}
		}, 200, long, -1},
		{"flushed", "GET", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			io.WriteString(w, "b")
		}, 200, "ab", -1},
		{"HEAD", "HEAD", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "2")
			io.WriteString(w, "hi")
		}, 200, "", 2},
		{"echo", "POST", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }, 200, "sent", 4},
	} {
		body := ""
		if c.verb == "POST" {
			body = c.body
		}
		reply, err := roundTrip(t, t.Context(), c.verb, "http://x/y", body, c.handler)
		if err != nil {
			t.Fatal(c.about, err)
		}
		got, err := io.ReadAll(reply.Body)
		reply.Body.Close()
		if err != nil || reply.StatusCode != c.status || string(got) != c.body || reply.ContentLength != c.length || reply.Header.Get("Late") != "" {
			t.Errorf("%s: %v, %v, %d bytes, length %d", c.about, err, reply.Status, len(got), reply.ContentLength)
		}
	}
}

func TestInProcessStreams(t *testing.T) {
	proceed := make(chan struct{})
	reply, err := roundTrip(t, t.Context(), "GET", "http://x/", "", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		<-proceed
		io.WriteString(w, "second")
	})
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 5)
	if _, err := io.ReadFull(reply.Body, first); err != nil || string(first) != "first" {
		t.Fatal(string(first), err)
	}
	close(proceed)
	if rest, err := io.ReadAll(reply.Body); err != nil || string(rest) != "second" {
		t.Fatal(string(rest), err)
	}
}

func TestInProcessHandlerPanics(t *testing.T) {
	if _, err := roundTrip(t, t.Context(), "GET", "http://x/", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }); err == nil {
		t.Error("no error")
	}
	reply, err := roundTrip(t, t.Context(), "GET", "http://x/", "", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "some")
		w.(http.Flusher).Flush()
		panic("mid-way")
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(reply.Body); string(got) != "some" || err == nil {
		t.Error(string(got), err)
	}
}

func TestInProcessCancel(t *testing.T) {
	t.Run("before the reply", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		_, err := roundTrip(t, ctx, "GET", "http://x/", "", func(w http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
			ended <- r.Context().Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("handler that does not care", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stuck, written := make(chan struct{}), make(chan error, 1)
		_, err := roundTrip(t, ctx, "GET", "http://x/", "", func(w http.ResponseWriter, r *http.Request) {
			cancel()
			<-stuck
			_, err := w.Write(make([]byte, 2*bufferBytes))
			written <- err
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(stuck)
		if err := <-written; err == nil {
			t.Error("write after the caller left succeeded")
		}
	})
	t.Run("within the body", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		reply, err := roundTrip(t, ctx, "GET", "http://x/", "", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if got, err := io.ReadAll(reply.Body); string(got) != "some" || !errors.Is(err, context.Canceled) {
			t.Errorf("%q %v: a cut body must not look whole", got, err)
		}
	})
	t.Run("body closed", func(t *testing.T) {
		ended := make(chan struct{})
		reply, err := roundTrip(t, t.Context(), "GET", "http://x/", "", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			close(ended)
		})
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		<-ended
	})
}

// closing notices when it is closed.
type closing struct {
	io.Reader
	closed chan struct{}
}

func (c *closing) Close() error { close(c.closed); return nil }

func TestInProcessClosesTheRequestBody(t *testing.T) {
	for _, url := range []string{"http://x/", "http://x:port/"} {
		body := &closing{strings.NewReader("x"), make(chan struct{})}
		request, err := http.NewRequestWithContext(t.Context(), "PUT", "http://x/", body)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/")
		reply, err := InProcess(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).RoundTrip(request)
		if err == nil {
			reply.Body.Close()
		}
		<-body.closed
	}
}

func BenchmarkInProcess(b *testing.B) {
	s, err := NewService(Config{RootURL: "http://x", Credentials: testCredentials, Transport: InProcess(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { reply(w, 200, `{"word":"hello"}`) }))}, "queue", "v1")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var out doc
		call := get
		call.In, call.Out = doc{"x"}, &out
		if err := s.Do(b.Context(), call); err != nil {
			b.Fatal(err)
		}
	}
}
