package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/hawk"
	"taskcluster/internal/schema"
	"taskcluster/internal/scopes"
	"taskcluster/internal/tcerr"
)

// fakeAuth knows one client, whose Authorization header is its name.
type fakeAuth struct{ asked int }

func (f *fakeAuth) Authenticate(_ context.Context, r AuthRequest) *AuthResult {
	f.asked++
	switch {
	case r.Authorization == "" && !strings.Contains(r.Resource, "bewit="):
		return &AuthResult{Status: NoAuth, Scopes: scopes.NewSet("public:*")}
	case r.Authorization == "bad":
		return &AuthResult{Status: AuthFailed, Message: "Unauthorized: Bad mac"}
	case strings.HasPrefix(r.Authorization, "hash:"):
		return &AuthResult{Status: AuthSuccess, ClientID: "hasher", Scopes: scopes.NewSet("*"), Hash: strings.TrimPrefix(r.Authorization, "hash:")}
	}
	return &AuthResult{Status: AuthSuccess, ClientID: "someone", Scopes: scopes.NewSet(strings.Fields(r.Authorization)...)}
}

func testSource() schema.Source {
	return schema.Source{Service: "test", FS: fstest.MapFS{
		"constants.yml": {Data: []byte("{}\n")},
		"v1/thing.yml": {Data: []byte(`$schema: /schemas/common/metaschema.json#
title: Thing
type: object
properties:
  name: {type: string}
  size: {type: integer, default: 5}
  secret: {type: string}
required: [name]
additionalProperties: false
`)},
	}}
}

type thing struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

func echo(c *Call) (any, error) {
	out := map[string]string{}
	for k, v := range c.paramsMap() {
		out[k] = v
	}
	return out, nil
}

func testService() Service {
	m := func(name, verb, route string, handle func(*Call) (any, error)) Method {
		return Method{Name: name, Method: verb, Route: route, Title: name, Description: name, Category: "Test", Stability: Stable, Handle: handle}
	}
	with := func(m Method, f func(*Method)) Method { f(&m); return m }
	return Service{
		Name: "test", Version: "v1", Title: "Test", Description: "A service for tests.", Schemas: testSource(),
		Methods: []Method{
			with(m("single", "GET", "/single/:name", echo), func(m *Method) { m.Params = map[string]*Pattern{"name": Regexp("^[A-Z][a-z]*$")} }),
			m("splat", "GET", "/splat/{*name}", echo),
			m("middle", "GET", "/x/{*name}/end", echo),
			m("slash", "GET", "/slashed/", echo),
			with(m("scoped", "GET", "/scoped/:name", echo), func(m *Method) {
				m.Scopes = scopes.MustParseTemplate(`"test:get:<name>"`)
				m.Params = map[string]*Pattern{"name": Regexp("^[a-z]+$")}
			}),
			with(m("deferred", "GET", "/deferred/:name", func(c *Call) (any, error) {
				if c.Param("name") == "forget" {
					return JSON("{}"), nil
				}
				if c.Param("name") == "missing" {
					return nil, tcerr.New(tcerr.ResourceNotFound, "no such thing")
				}
				return JSON("{}"), c.Authorize(map[string]any{"who": "x", "list": []string{"a", "b"}})
			}), func(m *Method) {
				m.Scopes = scopes.MustParseTemplate(`{"AllOf":["test:who:<who>",{"AnyOf":["test:any","test:other"]},{"for":"l","in":"list","each":"test:<l>"}]}`)
			}),
			with(m("put", "PUT", "/thing", Handle(func(c *Call, in *thing) (any, error) { return in, nil })), func(m *Method) {
				m.Input, m.Output = "v1/thing.json#", "v1/thing.json#"
				m.Clean = func(v any) any {
					if o, ok := v.(map[string]any); ok && o["secret"] != nil {
						o["secret"] = "(hidden)"
					}
					return v
				}
			}),
			with(m("list", "GET", "/list", func(c *Call) (any, error) {
				limit, token := c.Page()
				return map[string]any{"limit": limit, "token": token}, nil
			}), func(m *Method) { m.Query = Paging() }),
			m("nothing", "DELETE", "/nothing", func(*Call) (any, error) { return nil, nil }),
			m("boom", "GET", "/boom", func(*Call) (any, error) { return nil, errors.New("the password is hunter2") }),
			m("text", "GET", "/text", func(*Call) (any, error) {
				return &Response{Status: 303, Header: http.Header{"Location": {"https://example.com/"}}, Body: Text("See Other")}, nil
			}),
			m("panic", "GET", "/panic", func(*Call) (any, error) { panic("hunter2") }),
			m("patient", "GET", "/patient", func(c *Call) (any, error) {
				<-c.Context.Done()
				return nil, context.Cause(c.Context)
			}),
			m("big", "GET", "/big", func(*Call) (any, error) {
				return map[string]string{"x": strings.Repeat("y", 5000)}, nil
			}),
			m("redirect", "GET", "/redirect", func(*Call) (any, error) {
				return &Response{Status: 303, Header: http.Header{"Location": {"http://elsewhere/"}}, Body: map[string]string{"url": "http://elsewhere/"}}, nil
			}),
		},
	}
}

func newTestServer(t testing.TB) (*Server, *fakeAuth) {
	t.Helper()
	svc := testService()
	set, err := schema.Load(svc.Schemas)
	if err != nil {
		t.Fatal(err)
	}
	auth := &fakeAuth{}
	s, err := New(Options{
		RootURL: "http://tc.test", Schemas: set, Auth: auth, Clock: clock.Real{}, Log: slog.New(slog.DiscardHandler),
		Version: Version{Version: "1"},
	}, svc)
	if err != nil {
		t.Fatal(err)
	}
	return s, auth
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%d %q: %v", r.status, r.body, err)
	}
	return v
}

func call(s *Server, verb, path, body string, header ...string) reply {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r := httptest.NewRequest(verb, "http://tc.test/api/test/v1"+path, rd)
	r.RequestURI = "/api/test/v1" + path
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.String()}
}

func TestRouting(t *testing.T) {
	s, _ := newTestServer(t)
	for _, c := range []struct {
		path   string
		status int
		name   string // the parameter's value
	}{
		{"/single/Hello", 200, "Hello"},
		{"/single/Hello/", 200, "Hello"},    // A1
		{"/Single/Hello", 404, ""},          // A2
		{"/single/", 404, ""},               // a parameter is not empty
		{"/single/a/b", 404, ""},            //
		{"/splat/a/b", 200, "a/b"},          // A3
		{"/splat/a%2Fb", 200, "a/b"},        //
		{"/splat/ab", 200, "ab"},            //
		{"/splat/", 200, ""},                //
		{"/splat", 404, ""},                 //
		{"/splat/p//x", 200, "p//x"},        // empty segments are kept
		{"/splat/p/x/", 200, "p/x/"},        // and so is the trailing slash
		{"/splat/a%20%3F", 200, "a ?"},      //
		{"/x//end", 200, ""},                //
		{"/x/a/b/end", 200, "a/b"},          //
		{"/x/a/b/end/", 200, "a/b"},         //
		{"/x/end", 404, ""},                 //
		{"/slashed", 200, ""},               //
		{"/slashed/", 200, ""},              //
		{"/nowhere", 404, ""},               // A4
		{"/single/lower", 400, ""},          // A5
		{"/single/%ZZ", 400, ""},            // F27
		{"/nothing", 404, ""},               // declared for DELETE only: there is no 405
		{"/ping", 200, ""},                  //
		{"/__version__", 200, ""},           //
		{"/__lbheartbeat__", 200, ""},       //
		{"/single/A%2FB", 400, ""},          // decoded before its pattern is looked at
		{"/splat/%E2%82%AC", 200, "\u20ac"}, //
	} {
		r := httptest.NewRequest("GET", "http://tc.test/", nil)
		r.URL.Path, r.URL.RawPath, r.RequestURI = "", "", "/api/test/v1"+c.path
		w := httptest.NewRecorder()
		s.commonHeaders(w.Header(), r)
		s.serveAPI(w, r, "test/v1"+c.path)
		got := reply{w.Code, w.Header(), w.Body.String()}
		if got.status != c.status {
			t.Errorf("%s: %d %s, want %d", c.path, got.status, got.body, c.status)
			continue
		}
		if got.header.Get("Cache-Control") != "no-store no-cache must-revalidate" || got.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: headers %v", c.path, got.header)
		}
		if c.status == 200 && strings.Contains(got.body, `"name"`) && got.json(t)["name"] != c.name {
			t.Errorf("%s: %s, want %q", c.path, got.body, c.name)
		}
		if c.status == 404 && got.body != `{"error": "Not found"}` {
			t.Errorf("%s: %s", c.path, got.body)
		}
	}
}

func TestOptionsAndHead(t *testing.T) {
	s, _ := newTestServer(t)
	r := call(s, "OPTIONS", "/single/Hello", "", "Origin", "http://elsewhere")
	if r.status != 200 || r.header.Get("Allow") != "GET,HEAD" || r.header.Get("Access-Control-Allow-Origin") != "*" { // A7
		t.Errorf("%+v", r)
	}
	if r := call(s, "HEAD", "/single/Hello", ""); r.status != 200 || r.body != "" || r.header.Get("Content-Length") == "" {
		t.Errorf("%+v", r)
	}
}

func TestOrderOfChecks(t *testing.T) {
	s, _ := newTestServer(t)
	for _, c := range []struct {
		name, verb, path, body string
		header                 []string
		status                 int
		code                   string
	}{
		{"body syntax before scopes", "GET", "/scoped/x", "{", []string{"Content-Type", "application/json"}, 400, "MalformedPayload"},
		{"primitive body", "GET", "/scoped/x", "3", []string{"Content-Type", "application/json"}, 400, "MalformedPayload"},
		{"huge number", "GET", "/scoped/x", "1e999", []string{"Content-Type", "application/json"}, 400, "MalformedPayload"},
		{"null body", "GET", "/scoped/x", "null", []string{"Content-Type", "application/json"}, 400, "MalformedPayload"},
		{"no credentials is 403, not 401", "GET", "/scoped/x", "", nil, 403, "InsufficientScopes"}, // A16
		{"bad credentials are 401", "GET", "/scoped/x", "", []string{"Authorization", "bad"}, 401, "AuthenticationFailed"},
		{"scopes before parameters", "GET", "/scoped/BAD", "", nil, 403, "InsufficientScopes"},
		{"parameters after scopes", "GET", "/scoped/BAD", "", []string{"Authorization", "*"}, 400, "InvalidRequestArguments"},
		{"query before handler", "GET", "/deferred/missing?x=1", "", nil, 400, "InvalidRequestArguments"},
		{"handler before deferred scopes", "GET", "/deferred/missing", "", nil, 404, "ResourceNotFound"},
		{"deferred scopes", "GET", "/deferred/x", "", nil, 403, "InsufficientScopes"},
		{"deferred scopes never asked", "GET", "/deferred/forget", "", nil, 500, "InternalServerError"},
		{"schema", "PUT", "/thing", `{"size":1}`, []string{"Content-Type", "application/json"}, 400, "InputValidationError"},
		{"array", "PUT", "/thing", `[]`, []string{"Content-Type", "application/json"}, 400, "InputValidationError"},
		{"empty body", "PUT", "/thing", ``, []string{"Content-Type", "application/json"}, 400, "InputValidationError"},
		{"content type", "PUT", "/thing", `{"name":"x"}`, []string{"Content-Type", "text/x-json"}, 400, "MalformedPayload"}, // A12
		{"charset", "PUT", "/thing", `{"name":"x"}`, []string{"Content-Type", "application/json; charset=ebcdic"}, 400, "MalformedPayload"},
		{"not brotli", "PUT", "/thing", `{"name":"x"}`, []string{"Content-Type", "application/json", "Content-Encoding", "br"}, 400, "MalformedPayload"},
		{"zstd", "PUT", "/thing", `{"name":"x"}`, []string{"Content-Type", "application/json", "Content-Encoding", "zstd"}, 400, "MalformedPayload"},
		{"not gzip", "PUT", "/thing", `{"name":"x"}`, []string{"Content-Type", "application/json", "Content-Encoding", "gzip"}, 400, "MalformedPayload"},
		{"two schemes", "GET", "/scoped/x?bewit=abc", "", []string{"Authorization", "*"}, 401, "AuthenticationFailed"},
		{"bad escape in query", "GET", "/list?limit=%zz", "", nil, 400, "InvalidRequestArguments"},
		{"limit is a number", "GET", "/list?limit=x", "", nil, 400, "InvalidRequestArguments"}, // A6
		{"token is not empty", "GET", "/list?continuationToken=", "", nil, 400, "InvalidRequestArguments"},
		{"repeated parameter", "GET", "/list?limit=1&limit=2", "", nil, 400, "InvalidRequestArguments"},
		{"NUL in a parameter", "GET", "/splat/a%00b", "", nil, 400, "InvalidRequestArguments"},
		{"no UTF-8 in a parameter", "GET", "/splat/%ff", "", nil, 400, "InvalidRequestArguments"},
		{"NUL in the query", "GET", "/list?continuationToken=a%00", "", nil, 400, "InvalidRequestArguments"},
		{"no UTF-8 in the query", "GET", "/list?continuationToken=%ff", "", nil, 400, "InvalidRequestArguments"},
		{"an integer beyond 64 bits", "PUT", "/thing", `{"name":"x","size":1e300}`, []string{"Content-Type", "application/json"}, 400, "InputValidationError"},
		{"a public method ignores bad credentials", "GET", "/list", "", []string{"Authorization", "bad"}, 200, ""},
	} {
		r := call(s, c.verb, c.path, c.body, c.header...)
		if r.status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, r.status, r.body, c.status)
			continue
		}
		if c.code != "" && r.json(t)["code"] != c.code {
			t.Errorf("%s: %s, want %s", c.name, r.body, c.code)
		}
		if c.status == 401 && r.header.Get("WWW-Authenticate") != "hawk" {
			t.Errorf("%s: no www-authenticate", c.name)
		}
	}
}

// An integer may be written like any number, as the schema has it.
func TestIntegers(t *testing.T) {
	s, _ := newTestServer(t)
	for text, want := range map[string]string{"7": "7", "7.0": "7", "70e-1": "7", "-2E1": "-20", "0.0": "0", "9007199254740993": "9007199254740993"} {
		r := call(s, "PUT", "/thing", `{"name":"x","size":`+text+`}`, "Content-Type", "application/json")
		if r.status != 200 || r.body != `{"name":"x","size":`+want+`}` {
			t.Errorf("%s: %d %s, want size %s", text, r.status, r.body, want)
		}
	}
}

func TestErrorBody(t *testing.T) {
	s, _ := newTestServer(t)
	r := call(s, "PUT", "/thing", `{"secret":"hunter2"}`, "Content-Type", "application/json")
	v := r.json(t)
	info := v["requestInfo"].(map[string]any)
	if len(v) != 3 || len(info) != 4 || info["method"] != "put" { // A9
		t.Errorf("%s", r.body)
	}
	if strings.Contains(r.body, "hunter2") || !strings.Contains(r.body, "(hidden)") { // A11
		t.Errorf("secret shows: %s", r.body)
	}
	msg := v["message"].(string)
	if !strings.Contains(msg, "Rejecting Schema: http://tc.test/schemas/test/v1/thing.json#") || !strings.Contains(msg, "\n\n---\n\n* method:     put\n* errorCode:  InputValidationError\n* statusCode: 400\n* time:       2") {
		t.Errorf("%q", msg)
	}
	for _, path := range []string{"/boom", "/panic"} { // A10
		r := call(s, "GET", path, "")
		if r.status != 500 || strings.Contains(r.body, "hunter2") || !strings.HasPrefix(r.json(t)["message"].(string), "Internal Server Error, incidentId ") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

func TestForbiddenText(t *testing.T) {
	s, _ := newTestServer(t)
	r := call(s, "GET", "/deferred/x", "", "Authorization", "test:a test:who:*")
	msg := r.json(t)["message"].(string)
	want := "Client ID someone does not have sufficient scopes and is missing the following scopes:\n\n```\n{\n  \"AllOf\": [\n    {\n      \"AnyOf\": [\n        \"test:any\",\n        \"test:other\"\n      ]\n    },\n    \"test:b\"\n  ]\n}\n```\n\nThis request requires the client to satisfy the following scope expression:\n\n```\n{\n  \"AllOf\""
	if !strings.HasPrefix(msg, want) {
		t.Errorf("%s", msg)
	}
	r = call(s, "GET", "/scoped/x", "")
	if !strings.HasPrefix(r.json(t)["message"].(string), "This request requires Taskcluster credentials that satisfy the following scope expression:\n\n```\ntest:get:x\n```") {
		t.Errorf("%s", r.body)
	}
}

func TestAnswers(t *testing.T) {
	s, auth := newTestServer(t)
	if r := call(s, "PUT", "/thing", `{"name":"x"}`, "Content-Type", "application/json; charset=utf-8"); r.status != 200 || r.json(t)["size"] != 5.0 {
		t.Errorf("defaults are filled in: %+v", r)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte(`{"name":"zipped"}`))
	w.Close()
	if r := call(s, "PUT", "/thing", z.String(), "Content-Type", "application/json", "Content-Encoding", "gzip"); r.status != 200 || r.json(t)["name"] != "zipped" {
		t.Errorf("%+v", r)
	}
	if r := call(s, "DELETE", "/nothing", ""); r.status != 204 || r.body != "" { // A13
		t.Errorf("%+v", r)
	}
	if r := call(s, "GET", "/redirect", ""); r.status != 303 || r.header.Get("Location") == "" || r.json(t)["url"] == nil {
		t.Errorf("%+v", r)
	}
	if r := call(s, "GET", "/big", "", "Accept-Encoding", "gzip, deflate"); r.header.Get("Content-Encoding") != "gzip" || len(r.body) > 1000 { // A8
		t.Errorf("%v", r.header)
	}
	if r := call(s, "GET", "/big", "", "Accept-Encoding", "gzip;q=0"); r.header.Get("Content-Encoding") != "" {
		t.Errorf("%v", r.header)
	}
	if r := call(s, "GET", "/list?limit=5000&continuationToken=abc", ""); r.json(t)["limit"] != 1000.0 || r.json(t)["token"] != "abc" {
		t.Errorf("%+v", r)
	}
	if auth.asked != 0 {
		t.Error("methods without scopes never authenticate") // A19
	}
	if r := call(s, "PUT", "/thing", `{"name":"`+strings.Repeat("x", MaxBody)+`"}`, "Content-Type", "application/json"); r.status != 413 || r.json(t)["code"] != "InputTooLarge" { // F1
		t.Errorf("%d", r.status)
	}
}

func TestPayloadHash(t *testing.T) {
	s, _ := newTestServer(t)
	hash := hawk.PayloadHash("application/json", []byte(`{"a":1}`))
	if r := call(s, "GET", "/scoped/x", `{"a":1}`, "Content-Type", "application/json", "Authorization", "hash:"+hash); r.status != 200 {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{hash + "x", "x"} { // F2
		if r := call(s, "GET", "/scoped/x", `{"a":1}`, "Content-Type", "application/json", "Authorization", "hash:"+bad); r.status != 401 || !strings.HasPrefix(r.json(t)["message"].(string), "Invalid payload hash: ") {
			t.Errorf("%+v", r)
		}
	}
}

func TestEntityTags(t *testing.T) {
	s, _ := newTestServer(t)
	first := call(s, "GET", "/single/Hello", "")
	tag := first.header.Get("ETag")
	if !strings.HasPrefix(tag, `W/"`) {
		t.Fatalf("ETag %q", tag)
	}
	for _, header := range []string{tag, `"x", ` + tag, strings.TrimPrefix(tag, "W/"), "*"} {
		if r := call(s, "GET", "/single/Hello", "", "If-None-Match", header); r.status != 304 || r.body != "" {
			t.Errorf("%s: %d %s", header, r.status, r.body)
		}
	}
	if r := call(s, "GET", "/single/Other", "", "If-None-Match", tag); r.status != 200 {
		t.Errorf("%d", r.status)
	}
	if r := call(s, "PUT", "/thing", `{"name":"x"}`, "Content-Type", "application/json", "If-None-Match", "*"); r.status != 200 || r.header.Get("ETag") != "" {
		t.Errorf("%d %v", r.status, r.header)
	}
}

func TestForceSSL(t *testing.T) {
	s, _ := newTestServer(t)
	get := func(proto string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/api/test/v1/list?limit=1", nil)
		r.Host = "tc.test"
		if proto != "" {
			r.Header.Set("X-Forwarded-Proto", proto)
		}
		w := httptest.NewRecorder()
		ForceSSL(s).ServeHTTP(w, r)
		return w
	}
	if w := get(""); w.Code != 302 || w.Header().Get("Location") != "https://tc.test/api/test/v1/list?limit=1" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := get("https"); w.Code != 200 || w.Header().Get("Strict-Transport-Security") != "max-age=7776000" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestTracing(t *testing.T) {
	s, _ := newTestServer(t)
	a := call(s, "GET", "/ping", "", "X-Taskcluster-Trace-Id", "mine") // A24
	b := call(s, "GET", "/ping", "")
	if a.header.Get("X-For-Trace-Id") != "mine" || len(b.header.Get("X-For-Trace-Id")) != 36 || a.header.Get("X-For-Request-Id") == b.header.Get("X-For-Request-Id") {
		t.Errorf("%v %v", a.header, b.header)
	}
}

func TestReferences(t *testing.T) {
	s, _ := newTestServer(t)
	doc, ok := s.Document("/references/test/v1/api.json", "http://tc.test")
	if !ok {
		t.Fatal("no reference")
	}
	var ref struct {
		Schema  string `json:"$schema"`
		Entries []map[string]any
	}
	if err := json.Unmarshal(doc, &ref); err != nil {
		t.Fatal(err)
	}
	if ref.Schema != "http://tc.test/schemas/common/api-reference-v0.json#" || ref.Entries[0]["name"] != "ping" || ref.Entries[1]["name"] != "lbheartbeat" || ref.Entries[2]["name"] != "version" {
		t.Errorf("%s", doc)
	}
	for _, e := range ref.Entries {
		if e["name"] == "middle" && e["route"] != "/x/<name>/end" {
			t.Errorf("%v", e)
		}
		if e["name"] == "ping" && e["scopes"] != nil {
			t.Errorf("%v", e)
		}
	}
	// What we publish must satisfy the published schemas of such documents.
	set, _ := schema.Load(testSource())
	// (Not the manifest: its schema forbids the "$schema" that it has.)
	sc, err := set.Schema("common", "api-reference-v0.json#")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, problems, err := sc.Decode(doc); err != nil || problems != nil {
		t.Errorf("%v %v", problems, err)
	}
	if _, ok := s.Document("/references/nope.json", ""); ok {
		t.Error("a document that is not there was found")
	}
}

func TestTableMistakesAreFoundAtStart(t *testing.T) {
	for name, spoil := range map[string]func(*Method){
		"unknown schema":    func(m *Method) { m.Input = "v1/none.json#" },
		"unknown parameter": func(m *Method) { m.Params = map[string]*Pattern{"nope": Regexp("x")} },
		"no handler":        func(m *Method) { m.Handle = nil },
		"no title":          func(m *Method) { m.Title = "" },
		"bad route":         func(m *Method) { m.Route = "x" },
	} {
		svc := testService()
		spoil(&svc.Methods[0])
		set, _ := schema.Load(svc.Schemas)
		if _, err := New(Options{Schemas: set, Clock: clock.Real{}}, svc); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestClientGone: a caller who hangs up is not an incident.
func TestClientGone(t *testing.T) {
	s, _ := newTestServer(t)
	var log bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequest("GET", "http://tc.test/api/test/v1/patient", nil).WithContext(ctx)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Body.Len() != 0 || log.Len() != 0 {
		t.Errorf("answer %q, log %q", w.Body, log.String())
	}
}

// TestRefusalsOfTheHTTPServer sends what no handler ever sees.
func TestRefusalsOfTheHTTPServer(t *testing.T) {
	s, _ := newTestServer(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 4096}
	go srv.Serve(Listen(l))
	defer srv.Close()
	for in, status := range map[string]string{
		"GET /api/test/v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n":                   "400 Bad Request",
		"GET / HTTP/1.1\r\n\r\n":                                             "400 Bad Request",
		"nonsense\r\n\r\n":                                                   "400 Bad Request",
		"GET /api/test/v1/ping HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n": "400 Bad Request",
		"GET /api/test/v1/ping HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 20000) + "\r\n\r\n": "431 Request Header Fields Too Large",
		"GET /api/test/v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n":                    "400 Bad Request",
		"GET /api/test/v1/ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n":               "501 Not Implemented",
		"GET /api/test/v1/ping HTTP/3.1\r\nHost: x\r\n\r\n":                                          "505 HTTP Version Not Supported",
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, in)
		b, _ := io.ReadAll(conn)
		conn.Close()
		head, body, _ := strings.Cut(string(b), "\r\n\r\n")
		var v errorBody
		if !strings.HasPrefix(head, "HTTP/1.1 "+status+"\r\n") || json.Unmarshal([]byte(body), &v) != nil || v.Code == "" {
			t.Errorf("%.60q: %s\n%s", in, head, body)
		}
	}
}

// FuzzRequest sends any bytes as path, query, header and body: the answer is
// always below 500, and errors are always in the published form.
func FuzzRequest(f *testing.F) {
	s, _ := newTestServer(f)
	f.Add("GET", "/scoped/x", "limit=1", "Hawk id", `{"name":"x"}`)
	f.Add("PUT", "/thing", "bewit=%00", "", `{"name":1e999}`)
	f.Add("GET", "/splat/%2e%2e/..//", "a;b", "x", "[")
	f.Fuzz(func(t *testing.T, verb, path, query, authorization, body string) {
		r := httptest.NewRequest("GET", "http://tc.test/", strings.NewReader(body))
		r.Method, r.RequestURI = verb, "/api/test/v1"+path+"?"+query
		r.URL.Path, r.URL.RawQuery = "/", query
		r.Header["Authorization"] = []string{authorization}
		r.Header["Content-Type"] = []string{"application/json"}
		w := httptest.NewRecorder()
		if strings.HasPrefix(path, "/patient") || strings.HasPrefix(path, "/boom") || strings.HasPrefix(path, "/panic") || strings.HasPrefix(path, "/deferred/forget") {
			return // these fail on purpose
		}
		s.serveAPI(w, r, "test/v1"+path)
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Code >= 400 && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}

// A redirect's body is for people.
func TestText(t *testing.T) {
	s, _ := newTestServer(t)
	r := call(s, "GET", "/text", "")
	if r.status != 303 || r.body != "See Other" || r.header.Get("Content-Type") != "text/plain; charset=utf-8" || r.header.Get("Location") != "https://example.com/" {
		t.Errorf("%d %q %v", r.status, r.body, r.header)
	}
}
