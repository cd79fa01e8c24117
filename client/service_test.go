package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/hawk"
)

const testToken = "hushhush-token-of-the-test-client"

var testCredentials = Credentials{ClientID: "test/client", AccessToken: testToken}

// verify checks a request's signature and payload hash as a service would.
func verify(r *http.Request, token string, now time.Time) (hawk.Header, error) {
	h, err := hawk.ParseHeader(r.Header.Get("Authorization"))
	if err != nil {
		return h, err
	}
	host, port, err := hawk.HostPort(r.Host, r.TLS != nil)
	if err != nil {
		return h, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return h, err
	}
	if len(body) > 0 && h.Hash != hawk.PayloadHash(r.Header.Get("Content-Type"), body) {
		return h, errors.New("bad payload hash")
	}
	return h, h.Verify(token, hawk.Request{Method: r.Method, Resource: r.RequestURI, Host: host, Port: port}, now)
}

// naps records the pauses that a client makes, and makes none.
type naps struct {
	mu sync.Mutex
	d  []time.Duration
}

func (n *naps) sleep(ctx context.Context, d time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.d = append(n.d, d)
	return ctx.Err()
}

type doc struct {
	Word string `json:"word"`
}

// start serves h and returns a service that calls it.
func start(t *testing.T, h http.HandlerFunc, change func(*Config)) (*Service, *naps) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	n := &naps{}
	cfg := Config{RootURL: server.URL + "/", Credentials: testCredentials, Sleep: n.sleep}
	if change != nil {
		change(&cfg)
	}
	s, err := NewService(cfg, "queue", "v1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, n
}

func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

var get = Call{Name: "thing", Verb: "GET", Path: "/thing"}

func TestDoSignsAndDecodes(t *testing.T) {
	s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		h, err := verify(r, testToken, time.Now())
		if err != nil || h.ID != "test/client" || h.Hash == "" {
			t.Errorf("%v %+v", err, h)
		}
		if r.RequestURI != "/api/queue/v1/a%2Fb%3A/x?limit=1&q=a+b" || r.Method != "PUT" || r.Header.Get("X-Taskcluster-Trace-Id") != "trace-1" {
			t.Errorf("%s %s %v", r.Method, r.RequestURI, r.Header)
		}
		reply(w, 200, `{"word":"<yes>"}`)
	}, nil)
	var out doc
	err := s.Do(WithTraceID(t.Context(), "trace-1"), Call{
		Name: "put", Verb: "PUT", Path: "/" + Escape("a/b:") + "/x", Query: Query("limit", "1", "none", "", "q", "a b"),
		In: doc{"<&>"}, Out: &out,
	})
	if err != nil || out.Word != "<yes>" {
		t.Fatal(out, err)
	}
}

func TestDoAnonymous(t *testing.T) {
	s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		if _, present := r.Header["Authorization"]; present {
			t.Error("signed")
		}
		w.WriteHeader(204)
	}, func(c *Config) { c.Credentials = Credentials{} })
	out := doc{"untouched"}
	call := get
	call.Out = &out
	if err := s.Do(t.Context(), call); err != nil || out.Word != "untouched" {
		t.Fatal(out, err)
	}
}

func TestDoRetriesServerErrors(t *testing.T) {
	nonces := map[string]bool{}
	tries := 0
	s, n := start(t, func(w http.ResponseWriter, r *http.Request) {
		h, err := verify(r, testToken, time.Now())
		if err != nil {
			t.Error(err)
		}
		nonces[h.Nonce] = true
		if tries++; tries < 5 {
			reply(w, 500+tries%2*3, `{"code":"InternalServerError","message":"x"}`)
			return
		}
		reply(w, 200, `{"word":"done"}`)
	}, nil)
	var out doc
	if err := s.Do(t.Context(), Call{Name: "put", Verb: "PUT", Path: "/x", In: doc{"again"}, Out: &out}); err != nil || out.Word != "done" {
		t.Fatal(out, err)
	}
	if tries != 5 || len(nonces) != 5 || len(n.d) != 4 {
		t.Fatalf("%d tries, %d nonces, pauses %v", tries, len(nonces), n.d)
	}
	for i, d := range n.d {
		base := 100 * time.Millisecond << i
		if d < base*3/4 || d > base*5/4 {
			t.Errorf("pause %d is %v, not %v give or take a quarter", i, d, base)
		}
	}
}

func TestDoGivesUp(t *testing.T) {
	for retries, want := range map[int]int{0: 5, 2: 3, -1: 1} {
		tries := 0
		s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
			tries++
			reply(w, 502, `oops`)
		}, func(c *Config) { c.Retries = retries })
		err := s.Do(t.Context(), get)
		if tries != want || StatusCode(err) != 502 || ErrorCode(err) != "" {
			t.Errorf("Retries %d: %d tries, %v", retries, tries, err)
		}
	}
}

func TestDoNeverRetriesRefusals(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 409, 410, 413, 424, 429} {
		tries := 0
		s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
			tries++
			reply(w, status, `{"code":"SomeCode","message":"some text\n\n---\n\n* method: x","requestInfo":{"payload":{"token":"`+testToken+`"}}}`)
		}, nil)
		err := s.Do(t.Context(), get)
		var e *Error
		if !errors.As(err, &e) || tries != 1 || e.StatusCode != status || e.Code != "SomeCode" || e.Method != "thing" || e.Service != "queue" || len(e.Body) == 0 {
			t.Fatalf("%d: %d tries, %v", status, tries, err)
		}
		if want := fmt.Sprintf("queue.thing: %d SomeCode: some text", status); err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
		if !strings.Contains(e.Message, "* method: x") {
			t.Errorf("message cut: %q", e.Message)
		}
		if IsNotFound(err) != (status == 404) || IsConflict(err) != (status == 409) || IsForbidden(err) != (status == 403) {
			t.Errorf("%d: wrong class", status)
		}
	}
}

type failing struct {
	err   error
	tries int
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	f.tries++
	return nil, f.err
}

func TestDoRetriesConnectionErrors(t *testing.T) {
	f := &failing{err: errors.New("connection refused")}
	n := &naps{}
	s, err := NewService(Config{RootURL: "http://tc.example", Credentials: testCredentials, Transport: f, Sleep: n.sleep}, "queue", "v1")
	if err != nil {
		t.Fatal(err)
	}
	err = s.Do(t.Context(), get)
	if f.tries != 5 || !errors.Is(err, f.err) || StatusCode(err) != 0 || strings.Contains(err.Error(), "hush") {
		t.Errorf("%d tries, %v", f.tries, err)
	}
}

func TestDoRetriesCutReplies(t *testing.T) {
	tries := 0
	s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries == 1 {
			w.Header().Set("Content-Length", "100")
			reply(w, 200, `{"word":`)
			panic(http.ErrAbortHandler)
		}
		reply(w, 200, `{"word":"whole"}`)
	}, nil)
	var out doc
	call := get
	call.Out = &out
	if err := s.Do(t.Context(), call); err != nil || out.Word != "whole" || tries != 2 {
		t.Fatal(tries, out, err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestDoTimeoutIsPerTry(t *testing.T) {
	tries := 0
	s, err := NewService(Config{RootURL: "http://tc.example", Timeout: time.Millisecond, Sleep: (&naps{}).sleep,
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			tries++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}, "queue", "v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Do(t.Context(), get); !errors.Is(err, context.DeadlineExceeded) || tries != 5 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestDoStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		tries++
		reply(w, 500, "{}")
	}, func(c *Config) {
		c.Sleep = func(ctx context.Context, d time.Duration) error {
			cancel() // while it sleeps
			return sleep(ctx, time.Hour)
		}
	})
	err := s.Do(ctx, get)
	if !errors.Is(err, context.Canceled) || StatusCode(err) != 500 || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
	}
	if err := s.Do(ctx, get); !errors.Is(err, context.Canceled) || tries != 1 {
		t.Errorf("call under a context that ended: %d tries, %v", tries, err)
	}
}

func TestDoRedirects(t *testing.T) {
	tries := 0
	s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		tries++
		status, _ := strconv.Atoi(r.URL.Path[len("/api/queue/v1/"):])
		w.Header().Set("Location", "/elsewhere")
		reply(w, status, `{"word":"see"}`)
	}, nil)
	for status, ok := range map[int]bool{301: false, 302: false, 303: true, 307: false} {
		tries = 0
		var out doc
		err := s.Do(t.Context(), Call{Name: "x", Verb: "GET", Path: "/" + strconv.Itoa(status), Out: &out})
		if tries != 1 || (err == nil) != ok || ok && out.Word != "see" || !ok && StatusCode(err) != status {
			t.Errorf("%d: %d tries, %v, %v", status, tries, out, err)
		}
	}
}

func TestDoLimitsReplies(t *testing.T) {
	tries := 0
	s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		tries++
		status := 200
		if strings.HasSuffix(r.URL.Path, "refused") {
			status = 400
		}
		reply(w, status, `{"word":"`+strings.Repeat("x", 200)+`"}`)
	}, func(c *Config) { c.MaxResponseBytes = 100 })
	var out doc
	err := s.Do(t.Context(), Call{Name: "x", Verb: "GET", Path: "/x", Out: &out})
	if err == nil || tries != 1 || StatusCode(err) != 0 {
		t.Errorf("%d tries, %v", tries, err)
	}
	var e *Error
	if err := s.Do(t.Context(), Call{Name: "x", Verb: "GET", Path: "/refused"}); !errors.As(err, &e) || len(e.Body) != 100 {
		t.Errorf("%v", err)
	}
}

func TestDoOddReplies(t *testing.T) {
	for _, c := range []struct {
		contentType, body, word string
		fails                   bool
	}{
		{"application/json", ``, "", false},
		{"text/plain", `{"word":"ignored"}`, "", false},
		{"application/json", `{"word":`, "", true},
		{"application/json", `{"word":5}`, "", true},
		{"application/json", `{"word":"a","more":1}`, "a", false},
	} {
		s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", c.contentType)
			io.WriteString(w, c.body)
		}, nil)
		var out doc
		call := get
		call.Out = &out
		if err := s.Do(t.Context(), call); (err != nil) != c.fails || out.Word != c.word && !c.fails {
			t.Errorf("%+v: %v, %v", c, out, err)
		}
	}
}

func TestCredentialsRotateBetweenTries(t *testing.T) {
	var rotating RotatingCredentials
	rotating.Set(Credentials{ClientID: "first", AccessToken: "1"})
	var seen []string
	s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		token := strconv.Itoa(len(seen) + 1)
		h, err := verify(r, token, time.Now())
		if err != nil {
			t.Error(err)
		}
		if seen = append(seen, h.ID); len(seen) == 1 {
			rotating.Set(Credentials{ClientID: "second", AccessToken: "2"})
			reply(w, 500, `{}`)
			return
		}
		reply(w, 200, `{}`)
	}, func(c *Config) { c.CredentialSource = rotating.Get })
	if err := s.Do(t.Context(), get); err != nil || fmt.Sprint(seen) != "[first second]" {
		t.Fatal(seen, err)
	}
	if c, err := new(RotatingCredentials).Get(t.Context()); err != nil || c.ClientID != "" {
		t.Error(c, err)
	}
}

func TestCredentialSourceFails(t *testing.T) {
	broken := errors.New("no credentials yet")
	f := &failing{err: errors.New("not reached")}
	s, err := NewService(Config{RootURL: "http://x", Transport: f,
		CredentialSource: func(context.Context) (Credentials, error) { return Credentials{}, broken }}, "queue", "v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Do(t.Context(), get); !errors.Is(err, broken) || f.tries != 0 {
		t.Error(f.tries, err)
	}
	if _, err := s.SignedURL(t.Context(), "/x", "", time.Minute); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestTemporary(t *testing.T) {
	now := time.Now()
	s, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		h, _ := hawk.ParseHeader(r.Header.Get("Authorization"))
		e, _ := hawk.ParseExt(h.Ext)
		cert, err := hawk.ParseCertificate(e.Certificate)
		if err == nil {
			err = cert.CheckSignature(h.ID, testToken)
		}
		if err == nil {
			_, err = verify(r, cert.Key(testToken), now)
		}
		if err != nil || h.ID != "test/temp" {
			t.Error(h.ID, err)
		}
		reply(w, 200, `{}`)
	}, func(c *Config) {
		temporary, err := c.Temporary(TemporaryOptions{Name: "test/temp", Scopes: []string{"a:*"}, Start: now, Expiry: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := temporary.Temporary(TemporaryOptions{Start: now, Expiry: now}); err == nil {
			t.Error("temporary credentials issued others")
		}
		*c = temporary
	})
	if err := s.Do(t.Context(), get); err != nil {
		t.Fatal(err)
	}
}

func TestSignedURL(t *testing.T) {
	now := time.Unix(1700000000, 0)
	s, _ := start(t, nil, func(c *Config) {
		c.RootURL = "https://tc.example"
		c.Now = func() time.Time { return now }
	})
	signed, err := s.SignedURL(t.Context(), "/task/"+Escape("a/b"), "x=1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "https://tc.example/api/queue/v1/task/a%2Fb?x=1&bewit="
	if !strings.HasPrefix(signed, prefix) || strings.Contains(signed, testToken) {
		t.Fatal(signed)
	}
	b, err := hawk.ParseBewit(signed[len(prefix):])
	if err != nil || b.Expires != now.Unix()+60 {
		t.Fatal(b, err)
	}
	r := hawk.Request{Method: "GET", Resource: "/api/queue/v1/task/a%2Fb?x=1", Host: "tc.example", Port: 443}
	if err := b.Verify(testToken, r, now); err != nil {
		t.Error(err)
	}
}

func TestPages(t *testing.T) {
	type page struct{ items, next string }
	pages := map[string]*page{"": {"a", "1"}, "1": {"", "2"}, "2": {"b", ""}}
	broken := errors.New("broken")
	fetch := func(token string) (*page, error) {
		if p := pages[token]; p != nil {
			return p, nil
		}
		return nil, broken
	}
	collect := func(first string) (items string, err error) {
		for p, e := range Pages(first, fetch, func(p *page) string { return p.next }) {
			if e != nil {
				return items, e
			}
			items += "[" + p.items + "]"
		}
		return items, nil
	}
	if items, err := collect(""); items != "[a][][b]" || err != nil {
		t.Error(items, err)
	}
	if items, err := collect("2"); items != "[b]" || err != nil {
		t.Error(items, err)
	}
	if _, err := collect("x"); err != broken {
		t.Error(err)
	}
	pages["2"].next = "2" // turns in a circle
	if items, err := collect(""); items != "[a][][b]" || err == nil {
		t.Error(items, err)
	}
	for range Pages("", fetch, func(p *page) string { return p.next }) {
		break // must not be called again
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "aZ09-_.!~*'()": "aZ09-_.!~*'()", "a/b": "a%2Fb", "queue:x": "queue%3Ax", "é %": "%C3%A9%20%25", "a+b@c|d": "a%2Bb%40c%7Cd",
	} {
		if got := Escape(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_999_999, time.FixedZone("", 3600))
	type when struct {
		At   Time `json:"at"`
		None Time `json:"none,omitzero"`
	}
	b, err := json.Marshal(when{At: At(at)})
	if err != nil || string(b) != `{"at":"2026-01-02T02:04:05.006Z"}` {
		t.Fatalf("%s %v", b, err)
	}
	var back when
	if err := json.Unmarshal([]byte(`{"at":"2026-01-02T03:04:05.006999999+01:00","none":null}`), &back); err != nil || !back.At.Equal(at) || !back.None.IsZero() {
		t.Fatal(back, err)
	}
	if text, err := back.At.MarshalText(); err != nil || string(text) != back.At.String() || string(text) != "2026-01-02T02:04:05.006Z" {
		t.Errorf("%s %v", text, err)
	}
	if err := back.At.UnmarshalText([]byte("1 January")); err == nil {
		t.Error("read")
	}
	if _, err := json.Marshal(At(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))); err == nil {
		t.Error("year 10000 written")
	}
}

func FuzzParseError(f *testing.F) {
	f.Add(404, []byte(`{"code":"ResourceNotFound","message":"a\n\n---\n\n* b"}`))
	f.Add(404, []byte(`{"error":"Not found"}`))
	f.Add(502, []byte(`<html>`))
	f.Add(424, []byte(`{"reason":"x","message":"y"}`))
	f.Add(0, []byte(`{"code":7}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := parseError("queue", "m", status, body)
		if e.Message == "" || e.Error() == "" || string(e.Body) != string(body) || StatusCode(fmt.Errorf("x: %w", e)) != status {
			t.Fatalf("%+v", e)
		}
		if ErrorCode(e) != e.Code {
			t.Fatal(e.Code)
		}
	})
}
