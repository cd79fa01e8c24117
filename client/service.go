package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"taskcluster/internal/hawk"
)

// maxErrorBytes limits the body of a refusal. It has room for the payload of
// the call, which the server repeats.
const maxErrorBytes = 16 << 20

// Service calls the methods of one service. The generated clients are made of
// it; others need it only for methods that those do not know.
type Service struct {
	cfg  Config
	name string
	base string
	own  *http.Transport // to be closed with the service, or nil
}

// NewService returns a Service for a service's name and version, such as
// "queue" and "v1".
func NewService(cfg Config, name, version string) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, name: name, base: cfg.RootURL + "/api/" + name + "/" + version}
	if cfg.Transport == nil {
		s.own = NewTransport()
		s.cfg.Transport = s.own
	}
	return s, nil
}

// Close shuts idle connections of the service's own transport. A transport
// given in the Config is left alone.
func (s *Service) Close() error {
	if s.own != nil {
		s.own.CloseIdleConnections()
	}
	return nil
}

// Call is one call of a method.
type Call struct {
	Name  string // the method's published name
	Verb  string // the HTTP method
	Path  string // below the service's version, parameters escaped by Escape
	Query string // encoded, without the question mark; see Query
	In    any    // JSON payload, or nil
	Out   any    // where the JSON reply goes, or nil
}

// Do makes a call, with retries. The error is an *Error if the server refused.
func (s *Service) Do(ctx context.Context, call Call) error {
	fail := func(err error) error { return fmt.Errorf("%s.%s: %w", s.name, call.Name, err) }
	var body []byte
	var hash string
	if call.In != nil {
		var err error
		if body, err = encode(call.In); err != nil {
			return fail(err)
		}
		hash = hawk.PayloadHash("application/json", body)
	}
	target, err := url.Parse(s.URL(call.Path, call.Query))
	if err != nil {
		return fail(errors.New("bad path"))
	}
	for try := 0; ; try++ {
		again, err := s.try(ctx, &call, target, body, hash)
		if err == nil {
			return nil
		}
		if again && try < s.cfg.Retries && ctx.Err() == nil {
			sleepErr := s.cfg.Sleep(ctx, s.cfg.backoff(try+1))
			if sleepErr == nil {
				continue
			}
			return fail(fmt.Errorf("%w, after %w", sleepErr, err))
		}
		if _, ok := errors.AsType[*Error](err); ok {
			return err
		}
		return fail(err)
	}
}

// encode is json.Marshal without the escapes that only HTML needs.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// try makes the call once. Again says whether another try may help.
func (s *Service) try(ctx context.Context, call *Call, target *url.URL, body []byte, hash string) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	request, err := s.request(ctx, call, target, body, hash)
	if err != nil {
		return false, err
	}
	reply, err := s.cfg.Transport.RoundTrip(request)
	if err != nil {
		return true, err
	}
	defer reply.Body.Close()

	limit := s.cfg.MaxResponseBytes
	success := reply.StatusCode/100 == 2 || reply.StatusCode == http.StatusSeeOther && isJSON(reply) && call.Out != nil
	if !success {
		limit = min(limit, maxErrorBytes)
	}
	text, err := io.ReadAll(io.LimitReader(reply.Body, limit+1))
	if err != nil {
		return true, err
	}
	tooLong := int64(len(text)) > limit
	if !success {
		e := parseError(s.name, call.Name, reply.StatusCode, text[:min(int64(len(text)), limit)])
		if reply.StatusCode/100 == 3 {
			e.Message = "unexpected redirect"
		}
		return reply.StatusCode >= 500, e
	}
	if tooLong {
		return false, fmt.Errorf("reply is longer than %d bytes", limit)
	}
	if call.Out == nil || len(text) == 0 || !isJSON(reply) {
		return false, nil
	}
	if err := json.Unmarshal(text, call.Out); err != nil {
		return false, fmt.Errorf("reply: %w", err)
	}
	return false, nil
}

// request builds and signs a request. It is signed anew for each try, for the
// time and the credentials may have changed.
func (s *Service) request(ctx context.Context, call *Call, target *url.URL, body []byte, hash string) (*http.Request, error) {
	u := *target
	request := (&http.Request{
		Method:     call.Verb,
		URL:        &u,
		Host:       u.Host,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{"Accept": {"application/json"}, "User-Agent": {s.cfg.UserAgent}},
	}).WithContext(ctx)
	if call.In != nil {
		request.Header.Set("Content-Type", "application/json")
		request.ContentLength = int64(len(body))
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		request.Body, _ = request.GetBody()
	}
	if id, ok := ctx.Value(traceKey{}).(string); ok {
		request.Header.Set("X-Taskcluster-Trace-Id", id)
	}
	credentials, err := s.cfg.CredentialSource(ctx)
	if err != nil {
		return nil, err
	}
	if credentials.ClientID == "" {
		return request, nil
	}
	host, port, err := hawk.HostPort(u.Host, u.Scheme == "https")
	if err != nil {
		return nil, err
	}
	signed := hawk.Request{Method: call.Verb, Resource: u.RequestURI(), Host: host, Port: port}
	header, err := credentials.Header(signed, hash, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", header)
	return request, nil
}

func isJSON(reply *http.Response) bool {
	mediaType, _, err := mime.ParseMediaType(reply.Header.Get("Content-Type"))
	return err == nil && mediaType == "application/json"
}

// URL returns the full URL of a path and an encoded query.
func (s *Service) URL(path, query string) string {
	if query != "" {
		return s.base + path + "?" + query
	}
	return s.base + path
}

// SignedURL returns the URL of a path with a bewit: whoever has it may GET it
// until the lifetime is over.
func (s *Service) SignedURL(ctx context.Context, path, query string, lifetime time.Duration) (string, error) {
	credentials, err := s.cfg.CredentialSource(ctx)
	if err == nil && credentials.ClientID == "" {
		err = errors.New("signed URLs need credentials")
	}
	var signed string
	if err == nil {
		signed, err = credentials.SignURL(s.URL(path, query), s.cfg.Now().Add(lifetime))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.name, err)
	}
	return signed, nil
}

// Escape makes one path segment of a parameter, as encodeURIComponent does:
// everything but letters, digits and -_.!~*'() is percent-encoded.
func Escape(parameter string) string {
	const hex = "0123456789ABCDEF"
	n := 0
	for i := range len(parameter) {
		if !unreserved(parameter[i]) {
			n++
		}
	}
	if n == 0 {
		return parameter
	}
	b := make([]byte, 0, len(parameter)+2*n)
	for i := range len(parameter) {
		if c := parameter[i]; unreserved(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.!~*'()", c) >= 0
}

// Query encodes names and values, given in turns, as a query. Empty values
// are left out.
func Query(namesAndValues ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		if namesAndValues[i+1] == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(namesAndValues[i]))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(namesAndValues[i+1]))
	}
	return b.String()
}

type traceKey struct{}

// WithTraceID makes calls under ctx carry a trace id, which the servers put
// into their logs.
func WithTraceID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, traceKey{}, id)
}
