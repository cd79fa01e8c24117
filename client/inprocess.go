package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	"taskcluster/internal/hawk"
)

// bufferBytes is how much of a reply waits for the handler to end, before the
// rest is streamed.
const bufferBytes = 32 << 10

// InProcess returns a transport that hands each request to h, without a
// socket. Bodies stream in both directions. The request's context ends when
// the caller's does or when the reply's body is closed. The handler sees the
// Host with its port written out, so that it finds the port that was signed
// for https also, where there is no TLS to tell by; RemoteAddr is 127.0.0.1:0.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL == nil || request.URL.Host == "" {
		closeBody(request)
		return nil, errors.New("client: request without host")
	}
	hostport := request.Host
	if hostport == "" {
		hostport = request.URL.Host
	}
	host, port, err := hawk.HostPort(hostport, request.URL.Scheme == "https")
	if err != nil {
		closeBody(request)
		return nil, err
	}
	ctx, cancel := context.WithCancel(request.Context())
	received := request.Clone(ctx) // the handler may change its headers
	received.RequestURI = request.URL.RequestURI()
	received.URL.Scheme, received.URL.Host, received.URL.User, received.URL.Fragment = "", "", nil, ""
	received.Host = net.JoinHostPort(host, strconv.Itoa(port))
	received.RemoteAddr = "127.0.0.1:0"
	received.Proto, received.ProtoMajor, received.ProtoMinor = "HTTP/1.1", 1, 1
	if received.Body == nil {
		received.Body = http.NoBody
	}

	w := &replyWriter{request: request, cancel: cancel, header: make(http.Header), replied: make(chan *http.Response, 1)}
	go func() {
		defer received.Body.Close()
		defer func() { w.finish(recover()) }()
		t.handler.ServeHTTP(w, received)
	}()
	select {
	case reply := <-w.replied:
		if reply == nil {
			cancel()
			return nil, w.failure
		}
		return reply, nil
	case <-request.Context().Done():
		cancel()
		w.abandon()
		return nil, context.Cause(request.Context())
	}
}

func closeBody(request *http.Request) {
	if request.Body != nil {
		request.Body.Close()
	}
}

// replyWriter is the http.ResponseWriter. Until bufferBytes are written or the
// handler flushes, it only collects; then it hands out the reply and pipes.
type replyWriter struct {
	request *http.Request
	cancel  context.CancelFunc
	replied chan *http.Response // one value: the reply, or nil after failure is set
	failure error

	mu        sync.Mutex
	header    http.Header
	sent      http.Header // header as it was at WriteHeader
	status    int
	buffer    bytes.Buffer
	pipe      *io.PipeWriter // once streaming
	abandoned bool
}

// Header implements http.ResponseWriter.
func (w *replyWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. Informational replies are dropped.
func (w *replyWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(status)
}

func (w *replyWriter) writeHeader(status int) {
	if w.status != 0 || status < 200 {
		return
	}
	w.status, w.sent = status, w.header.Clone()
}

func (w *replyWriter) bodyAllowed() bool {
	return w.request.Method != http.MethodHead && w.status != http.StatusNoContent && w.status != http.StatusNotModified
}

// Write implements http.ResponseWriter.
func (w *replyWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.writeHeader(http.StatusOK)
	if !w.bodyAllowed() {
		w.mu.Unlock()
		if w.request.Method == http.MethodHead {
			return len(p), nil
		}
		return 0, http.ErrBodyNotAllowed
	}
	if w.abandoned {
		w.mu.Unlock()
		return 0, io.ErrClosedPipe
	}
	if w.pipe == nil && w.buffer.Len()+len(p) <= bufferBytes {
		defer w.mu.Unlock()
		return w.buffer.Write(p)
	}
	w.stream()
	pipe := w.pipe
	w.mu.Unlock()
	return pipe.Write(p) // blocks until it is read, so without the lock
}

// Flush implements http.Flusher.
func (w *replyWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(http.StatusOK)
	if !w.abandoned {
		w.stream()
	}
}

// stream hands out the reply with a body that continues. The lock is held.
func (w *replyWriter) stream() {
	if w.pipe != nil {
		return
	}
	r, pipe := io.Pipe()
	w.pipe = pipe
	context.AfterFunc(w.request.Context(), func() { pipe.CloseWithError(w.request.Context().Err()) })
	start := bytes.NewReader(bytes.Clone(w.buffer.Bytes()))
	w.replied <- w.reply(&streamedBody{Reader: io.MultiReader(start, r), pipe: r, cancel: w.cancel}, -1)
}

func (w *replyWriter) reply(body io.ReadCloser, length int64) *http.Response {
	if length < 0 {
		if n, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64); err == nil {
			length = n
		}
	}
	return &http.Response{
		Status:        strconv.Itoa(w.status) + " " + http.StatusText(w.status),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.sent,
		Body:          body,
		ContentLength: length,
		Request:       w.request,
	}
}

// finish ends the reply after the handler returned, or panicked with a value.
func (w *replyWriter) finish(panicked any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var failure error
	if panicked != nil {
		failure = fmt.Errorf("client: handler aborted: %v", panicked)
	}
	switch {
	case w.pipe != nil:
		if failure == nil {
			// A handler that stops because the caller gave up has not ended its reply.
			failure = w.request.Context().Err()
		}
		w.pipe.CloseWithError(failure) // nil is the end of the body
	case failure != nil:
		w.failure = failure
		w.replied <- nil
	default:
		w.writeHeader(http.StatusOK)
		body := io.NopCloser(bytes.NewReader(w.buffer.Bytes()))
		length := int64(w.buffer.Len())
		if !w.bodyAllowed() {
			length = -1
		}
		w.replied <- w.reply(body, length)
		w.cancel()
	}
}

// abandon makes later writes fail, for nobody will read them.
func (w *replyWriter) abandon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.abandoned = true
	select {
	case reply := <-w.replied:
		if reply != nil {
			reply.Body.Close()
		}
	default:
	}
}

// streamedBody tells the handler when its reader goes away.
type streamedBody struct {
	io.Reader
	pipe   *io.PipeReader
	cancel context.CancelFunc
}

func (b *streamedBody) Close() error {
	b.cancel()
	return b.pipe.Close()
}
