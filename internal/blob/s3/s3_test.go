package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"taskcluster/internal/blob"
	"taskcluster/internal/blob/blobtest"
	"taskcluster/internal/testenv"
)

func options(server testenv.S3Server) Options {
	return Options{
		Endpoint: server.Endpoint, Region: server.Region, Bucket: server.Bucket, PathStyle: true, CORS: true,
		AccessKeyID: server.AccessKeyID, SecretAccessKey: server.SecretAccessKey,
	}
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	// versitygw 1.8 takes the end of the connection for the end of the body.
	blobtest.Run(t, blobtest.Traits{LongKey: maxKey, Tree: true, Loose: true}, func(t *testing.T) blob.Store { return open(t, options(testenv.S3(t))) })
}

// zeros is endless; its hash tells how far it was read.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestMultipart(t *testing.T) {
	o := options(testenv.S3(t))
	o.PartSize = minPartSize
	s := open(t, o)
	for _, size := range []int64{0, 1, minPartSize - 1, minPartSize, minPartSize + 1, 3 * minPartSize, 3*minPartSize + 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			info, err := s.Put(t.Context(), "k/long", blob.Info{ContentType: "a/b", ContentEncoding: "br", ContentDisposition: "attachment"}, io.LimitReader(zeros{}, size))
			if err != nil || info.Size != size || info.ETag == "" {
				t.Fatal(info, err)
			}
			r, got, err := s.Open(t.Context(), "k/long")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got != info {
				t.Errorf("%+v, written as %+v", got, info)
			}
			have, want := sha256.New(), sha256.New()
			if n, err := io.Copy(have, r); err != nil || n != size {
				t.Fatal(n, err)
			}
			io.Copy(want, io.LimitReader(zeros{}, size))
			if !bytes.Equal(have.Sum(nil), want.Sum(nil)) {
				t.Error("another content")
			}
		})
	}
}

// An upload that breaks off in the middle leaves neither an object nor parts.
func TestMultipartBreaksOff(t *testing.T) {
	o := options(testenv.S3(t))
	o.PartSize = minPartSize
	s := open(t, o)
	broken := errors.New("broken off")
	body := io.MultiReader(io.LimitReader(zeros{}, 2*minPartSize+1), failing{broken})
	if _, err := s.Put(t.Context(), "k/x", blob.Info{ContentType: "a/b"}, body); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "k/x"); !errors.Is(err, blob.ErrNotFound) {
		t.Fatal(err)
	}
	left, err := s.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.bucket})
	if err != nil || len(left.Uploads) > 0 {
		t.Fatal(left, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestPartsGrow(t *testing.T) {
	s := &Store{partSize: 16 << 20}
	var total int64
	for part := range maxParts {
		size := s.sizeOfPart(part)
		if size > 10*s.partSize {
			t.Fatal(part, size)
		}
		total += size
	}
	if total != 55_000*s.partSize {
		t.Errorf("an object can have %d bytes", total)
	}
}

// Memory does not grow with the object.
func TestPutMemory(t *testing.T) {
	o := options(testenv.S3(t))
	o.PartSize = minPartSize
	s := open(t, o)
	put := func(parts int64) float64 {
		return testing.AllocsPerRun(1, func() {
			if _, err := s.Put(t.Context(), "k/x", blob.Info{ContentType: "a/b"}, io.LimitReader(zeros{}, parts*minPartSize)); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, more := put(2), put(8); more > 6*few {
		t.Errorf("%v allocations for 2 parts, %v for 8", few, more)
	}
	part := parts.Get().(*bytes.Buffer)
	if part.Cap() > 3*minPartSize {
		t.Errorf("the buffer of a part grew to %d", part.Cap())
	}
}

func TestTooLong(t *testing.T) {
	s := open(t, options(testenv.S3(t)))
	_, err := s.PutURL(t.Context(), "k/x", blob.Upload{ContentType: "a/b", Length: MaxPut + 1}, time.Minute)
	if !errors.Is(err, blob.ErrTooLarge) || !strings.Contains(err.Error(), "5 GiB") {
		t.Error(err)
	}
	if _, err := s.PutURL(t.Context(), strings.Repeat("x", maxKey+1), blob.Upload{ContentType: "a/b", Length: blob.AnyLength}, time.Minute); !errors.Is(err, blob.ErrInvalid) {
		t.Error(err)
	}
}

// Whatever is wrong is said when the store is opened, without the secret.
func TestWrongSettings(t *testing.T) {
	server := testenv.S3(t)
	for want, change := range map[string]func(*Options){
		"a bucket is needed":            func(o *Options) { o.Bucket = "" },
		"does not exist":                func(o *Options) { o.Bucket = "nowhere" },
		"does not know the access":      func(o *Options) { o.AccessKeyID = "unknown" },
		"secret access key is not that": func(o *Options) { o.SecretAccessKey = "another-secret" },
		"secret access key":             func(o *Options) { o.SecretAccessKey = "" },
		"must be a URL":                 func(o *Options) { o.Endpoint = "127.0.0.1:9000" },
		"connection refused":            func(o *Options) { o.Endpoint = "http://127.0.0.1:1" },
		"at least 5242880 bytes":        func(o *Options) { o.PartSize = 1000 },
	} {
		o := options(server)
		change(&o)
		_, err := New(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), want) || o.SecretAccessKey != "" && strings.Contains(err.Error(), o.SecretAccessKey) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	// Later on, when keys are withdrawn.
	s := open(t, options(server))
	o := options(server)
	o.AccessKeyID = "unknown"
	s.client = s3.New(s.client.Options(), func(c *s3.Options) { c.Credentials = staticKeys(o) })
	if _, err := s.Put(t.Context(), "k/x", blob.Info{}, strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "does not know the access key id") {
		t.Error(err)
	}
	o.AccessKeyID, o.SecretAccessKey = server.AccessKeyID, "another-secret"
	s.client = s3.New(s.client.Options(), func(c *s3.Options) { c.Credentials = staticKeys(o) })
	if err := s.Delete(t.Context(), "k/x"); err == nil || !strings.Contains(err.Error(), "the secret access key is not that") {
		t.Error(err)
	}
}

// proxy stands between the store and the server; it can stand still or die.
func proxy(t *testing.T, server testenv.S3Server, handle func(w http.ResponseWriter, r *http.Request, pass func())) testenv.S3Server {
	t.Helper()
	behind := server.Endpoint
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(w, r, func() {
			out, _ := http.NewRequestWithContext(r.Context(), r.Method, behind+r.URL.RequestURI(), r.Body)
			out.Header, out.ContentLength, out.Host = r.Header, r.ContentLength, r.Host
			res, err := http.DefaultTransport.RoundTrip(out)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			defer res.Body.Close()
			for k, v := range res.Header {
				w.Header()[k] = v
			}
			w.WriteHeader(res.StatusCode)
			io.Copy(w, res.Body)
		})
	}))
	t.Cleanup(p.Close)
	server.Endpoint = p.URL
	return server
}

// A server that stops to answer, to read or to send is given up in time.
func TestSlowServer(t *testing.T) {
	server := testenv.S3(t)
	s := open(t, options(server))
	if _, err := s.Put(t.Context(), "k/x", blob.Info{ContentType: "a/b"}, io.LimitReader(zeros{}, 4<<20)); err != nil {
		t.Fatal(err)
	}
	for name, how := range map[string]func(w http.ResponseWriter, r *http.Request){
		"does not answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"stops sending": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(4<<20))
			w.Write(make([]byte, 1000))
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var slow atomic.Bool
			o := options(proxy(t, server, func(w http.ResponseWriter, r *http.Request, pass func()) {
				if !slow.Load() {
					pass()
					return
				}
				how(w, r)
			}))
			o.Stall = 300 * time.Millisecond
			s := open(t, o)
			slow.Store(true)
			began := time.Now()
			r, _, err := s.Open(t.Context(), "k/x")
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if err == nil || time.Since(began) > 30*time.Second {
				t.Fatal(err, time.Since(began))
			}
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("not a time-out: %v", err)
			}
		})
	}
	t.Run("its caller goes", func(t *testing.T) {
		var slow atomic.Bool
		s := open(t, options(proxy(t, server, func(_ http.ResponseWriter, r *http.Request, pass func()) {
			if slow.Load() {
				<-r.Context().Done()
				return
			}
			pass()
		})))
		slow.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := s.Stat(ctx, "k/x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// A server that dies and comes back: what failed says so, and then it works.
func TestDyingServer(t *testing.T) {
	server := testenv.S3(t)
	var dead atomic.Bool
	s := open(t, options(proxy(t, server, func(w http.ResponseWriter, r *http.Request, pass func()) {
		if dead.Load() {
			panic(http.ErrAbortHandler)
		}
		pass()
	})))
	dead.Store(true)
	_, err := s.Put(t.Context(), "k/x", blob.Info{ContentType: "a/b"}, strings.NewReader("x"))
	if err == nil || !strings.Contains(err.Error(), `cannot write "k/x" in bucket artifacts at http://`) {
		t.Error(err)
	}
	if _, err := s.Stat(t.Context(), "k/x"); err == nil || errors.Is(err, blob.ErrNotFound) {
		t.Error("what cannot be looked at is not missing:", err)
	}
	if err := s.Delete(t.Context(), "k/x"); err == nil {
		t.Error("nothing was deleted")
	}
	dead.Store(false)
	if _, err := s.Put(t.Context(), "k/x", blob.Info{ContentType: "a/b"}, strings.NewReader("x")); err != nil {
		t.Error(err)
	}
}

func TestUnsigned(t *testing.T) {
	o := options(testenv.S3(t))
	o.Unsigned = true
	s := open(t, o)
	u, err := s.GetURL(t.Context(), "t/a b/c?d", time.Minute)
	if want := o.Endpoint + "/artifacts/t/a%20b/c%3Fd"; err != nil || u != want {
		t.Errorf("%s, want %s (%v)", u, want, err)
	}
}

func TestVirtualHost(t *testing.T) {
	s := &Store{bucket: "artifacts", where: "test"}
	s.client = s3.New(s3.Options{Region: "eu-central-1", Credentials: staticKeys(Options{AccessKeyID: "a", SecretAccessKey: "b"})})
	s.presign = s3.NewPresignClient(s.client)
	u, err := s.GetURL(t.Context(), "k/x", time.Minute)
	if err != nil || !strings.HasPrefix(u, "https://artifacts.s3.eu-central-1.amazonaws.com/k/x?") {
		t.Error(u, err)
	}
}

func TestKeyOf(t *testing.T) {
	seen := map[string]string{}
	for key, want := range map[string]string{
		"a/b": "a/b", "t/x/0/public/100%.log": "t/x/0/public/100%.log", "a//b": "a/%/b", "a/./b": "a/%./b", "..": "%..", "a/": "a/%",
		"a/%/b": "a/%%/b", "a/%./b": "a/%%./b", "%..": "%%..", "...": "...",
	} {
		if got := keyOf(key); got != want || seen[got] != "" {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
		seen[want] = key
	}
}
