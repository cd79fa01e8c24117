package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"taskcluster/internal/blob"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/testenv"
)

// faulty is a store whose way to the server is a proxy that fails when it is told to.
func faulty(t *testing.T, stall time.Duration) (*Store, testenv.S3Server, *testenv.Proxy) {
	t.Helper()
	lifecycle.CheckLeaks(t)
	server := testenv.S3(t)
	var logs testenv.Buffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs.String())
		}
	})
	proxy := testenv.StartProxy(t, strings.TrimPrefix(server.Endpoint, "http://"))
	o := options(server)
	o.Endpoint, o.Stall, o.PartSize = "http://"+proxy.Addr, stall, minPartSize
	o.Log = slog.New(slog.NewTextHandler(&logs, nil))
	s := open(t, o)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	t.Cleanup(s.client.Options().HTTPClient.(*http.Client).CloseIdleConnections)
	return s, server, proxy
}

// content is of one size and tells versions apart.
func content(version string, size int) []byte {
	return bytes.Repeat([]byte(version), size/len(version))
}

// version is which content is served under a key, or why none is; what is served
// is whole.
func version(t *testing.T, s *Store, key string, size int) string {
	t.Helper()
	r, info, err := s.Open(t.Context(), key)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	if len(got) == 0 || int64(len(got)) != info.Size || !bytes.Equal(got, content(string(got[:1]), size)) {
		t.Fatalf("%d bytes (%x) were served of %d", len(got), sha256.Sum256(got), size)
	}
	return string(got[:1])
}

// until waits for something to become true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not so that %s", what)
		}
	}
}

func openUploads(t *testing.T, s *Store) int {
	t.Helper()
	left, err := s.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.bucket})
	if err != nil {
		t.Fatal(err)
	}
	return len(left.Uploads)
}

// A transfer over a slow line takes longer than a standstill may, and succeeds.
func TestSlowLine(t *testing.T) {
	const stall, size = 3 * time.Second, 16 << 20
	s, _, proxy := faulty(t, stall)
	s.partSize = 2 * size // in one request
	proxy.Throttle(size / 5)
	began := time.Now()
	if _, err := s.Put(t.Context(), "k/x", blob.Info{ContentType: "a/b"}, bytes.NewReader(content("1", size))); err != nil {
		t.Error(err)
	}
	up := time.Since(began)
	began = time.Now()
	if got := version(t, s, "k/x", size); got != "1" {
		t.Error(got)
	}
	if down := time.Since(began); up < stall || down < stall {
		t.Errorf("%s up and %s down prove nothing", up, down)
	}
}

// A line on which nothing moves any more ends a transfer with a time-out, which
// leaves no connection and no goroutine. What was on the line may arrive when it
// moves again, as a whole or not at all; and the store works as before.
func TestStandstill(t *testing.T) {
	const size = 4 << 20
	s, _, proxy := faulty(t, time.Second)
	if _, err := s.Put(t.Context(), "k/x", blob.Info{}, bytes.NewReader(content("1", size))); err != nil {
		t.Fatal(err)
	}
	for name, transfer := range map[string]func() error{
		"up": func() error {
			_, err := s.Put(t.Context(), "k/x", blob.Info{}, bytes.NewReader(content("2", size)))
			return err
		},
		"down": func() error {
			r, _, err := s.Open(t.Context(), "k/x")
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(io.Discard, r)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			proxy.Throttle(size)
			defer proxy.Throttle(0)
			before, ended := proxy.Passed(), make(chan error, 1)
			go func() { ended <- transfer() }()
			until(t, "the transfer is under way", func() bool { return proxy.Passed() > before+size/4 })
			proxy.Partition(true)
			err := <-ended
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("not a time-out: %v", err)
			}
			s.client.Options().HTTPClient.(*http.Client).CloseIdleConnections()
			proxy.Partition(false)
			until(t, "all connections are closed", func() bool { return proxy.Connections() == 0 })
			if got := version(t, s, "k/x", size); got != "1" && got != "2" {
				t.Errorf("%q is served", got)
			}
		})
	}
	if _, err := s.Put(t.Context(), "k/x", blob.Info{}, bytes.NewReader(content("3", size))); err != nil {
		t.Error(err)
	}
	if got := version(t, s, "k/x", size); got != "3" {
		t.Error(got)
	}
}

// A server that is killed in the midst of transfers and started again has the
// object that it had, or the new one, never a part of it; who tries again succeeds.
func TestKilledServer(t *testing.T) {
	const size = 4 << 20
	s, server, proxy := faulty(t, 10*time.Second)
	put := func(s *Store, version string) error {
		_, err := s.Put(t.Context(), "k/x", blob.Info{}, bytes.NewReader(content(version, size)))
		return err
	}
	if err := put(s, "1"); err != nil {
		t.Fatal(err)
	}
	for round := 2; round < 6; round++ {
		old, next := fmt.Sprint(round-1), fmt.Sprint(round)
		proxy.Throttle(size)
		before, up, down := proxy.Passed(), make(chan error, 1), make(chan string, 1)
		go func() { up <- put(s, next) }()
		go func() { down <- version(t, s, "k/x", size) }()
		until(t, "transfers are under way", func() bool { return proxy.Passed() > before+size/4 })
		server.Kill()
		proxy.Throttle(0)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		err := <-up // the library may have tried again by itself
		if got := <-down; got != old && got != next && !strings.Contains(got, "EOF") && !strings.Contains(got, "reset") {
			t.Errorf("the download ended with %q", got)
		}
		if got := version(t, s, "k/x", size); got != old && got != next || err == nil && got != next {
			t.Errorf("%q is served; the upload ended with %v", got, err)
		}
		if err := put(s, next); err != nil {
			t.Errorf("the upload was tried again: %v", err)
		}
		if got := version(t, s, "k/x", size); got != next {
			t.Errorf("%q is served after %s was stored", got, next)
		}
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// A long upload that its caller or the server gives up leaves no parts.
func TestPartsGivenUp(t *testing.T) {
	const size = 4 * minPartSize
	s, server, proxy := faulty(t, 10*time.Second)
	begin := func(ctx context.Context) chan error {
		proxy.Throttle(2 * minPartSize)
		before, ended := proxy.Passed(), make(chan error, 1)
		go func() {
			_, err := s.Put(ctx, "k/long", blob.Info{}, io.LimitReader(zeros{}, size))
			ended <- err
		}()
		until(t, "the second part is under way", func() bool { return proxy.Passed() > before+minPartSize*5/4 })
		if n := openUploads(t, s); n != 1 {
			t.Errorf("%d uploads are under way", n)
		}
		return ended
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := begin(ctx)
	cancel()
	proxy.Throttle(0) // what is on its way arrives soon
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := openUploads(t, s); n != 0 {
		t.Errorf("%d uploads are left of a caller who went", n)
	}

	// The server is away for as long as the upload is tried.
	var aborting atomic.Bool
	inner := s.client.Options().HTTPClient
	s.client = s3.New(s.client.Options(), func(o *s3.Options) {
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodDelete {
				aborting.Store(true)
			}
			return inner.Do(r)
		})
	})
	ended = begin(t.Context())
	server.Kill()
	proxy.Throttle(0)
	until(t, "the upload is given up", func() bool { return aborting.Load() })
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("an upload succeeded without a server")
	}
	if n := openUploads(t, s); n != 0 {
		t.Errorf("%d uploads are left of a server that went", n)
	}
	if _, err := s.Stat(t.Context(), "k/long"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("an upload that failed is served: %v", err)
	}
}
