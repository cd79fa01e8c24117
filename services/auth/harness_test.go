package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/events"
	"taskcluster/internal/hawk"
	"taskcluster/internal/schema"
	"taskcluster/internal/store"
	"taskcluster/internal/store/keyring"
	"taskcluster/internal/store/storetest"
	"taskcluster/internal/testenv"
)

const (
	testHost         = "tc.example.com"
	testPort         = 443
	rootID           = "static/taskcluster/root"
	testTunnelSecret = "a-secret-that-the-tunnel-knows"
	rootTestToken    = "root-token-of-the-tests-0123456789"
)

// deployment is an auth service over a real SQLite store, behind the HTTP API.
type deployment struct {
	t       testing.TB
	dir     string
	clock   *clock.Fake
	store   *store.Store
	events  *events.Log
	keys    *keyring.Keyring
	service *Service
	handler http.Handler
	schemas *schema.Set
	logged  *testenv.Buffer
	replies *testenv.Buffer // bodies of all answers
	outputs map[string]string
}

func testClock() *clock.Fake {
	return clock.NewFake(clock.Of(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)))
}

func testToken(name string) string {
	return (name + "-token-0123456789012345678901234567890123456789")[:44]
}

// testStatic is the least that a deployment must have.
func testStatic() []StaticClient {
	var all []StaticClient
	for _, id := range InternalClients() {
		token := testToken(strings.TrimPrefix(id, "static/taskcluster/"))
		if id == rootID {
			token = rootTestToken
		}
		all = append(all, StaticClient{ClientID: id, AccessToken: token})
	}
	return all
}

func deploy(t testing.TB) *deployment {
	t.Helper()
	return deployIn(t, t.TempDir(), testClock(), testStatic())
}

// deployIn starts a deployment on a data directory, which may have been used.
func deployIn(t testing.TB, dir string, c *clock.Fake, static []StaticClient) *deployment {
	t.Helper()
	d := &deployment{t: t, dir: dir, clock: c, logged: &testenv.Buffer{}, replies: &testenv.Buffer{}, outputs: map[string]string{}}
	logger := slog.New(slog.NewJSONHandler(d.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.store = storetest.OpenIn(t, dir, store.Options{
		Clock: c, Log: logger, Migrations: []store.Migrations{events.Migrations, api.Migrations(), Migrations()},
	})
	var err error
	if d.keys, err = keyring.Open(dir); err != nil {
		t.Fatal(err)
	}
	d.events = events.NewLog(d.store, events.Options{Clock: c, Log: logger})
	d.service = d.another(static)
	definition := d.service.API()
	if d.schemas, err = schema.Load(definition.Schemas); err != nil {
		t.Fatal(err)
	}
	for _, m := range definition.Methods {
		d.outputs[m.Name] = m.Output
	}
	d.handler, err = api.New(api.Options{
		RootURL: "https://" + testHost, Schemas: d.schemas, Auth: d.service, Clock: c, Log: logger,
	}, d.named(definition))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// another is a further service over the same store, as another process has it.
func (d *deployment) another(static []StaticClient) *Service {
	d.t.Helper()
	return d.on(d.store, d.events, static)
}

// elsewhere is another service, in another process where the engine allows that.
func (d *deployment) elsewhere() *Service {
	d.t.Helper()
	if !d.store.Shared() {
		return d.another(testStatic())
	}
	db := storetest.OpenIn(d.t, d.dir, store.Options{
		Clock: d.clock, Migrations: []store.Migrations{events.Migrations, api.Migrations(), Migrations()},
	})
	return d.on(db, events.NewLog(db, events.Options{Clock: d.clock}), testStatic())
}

func (d *deployment) on(db *store.Store, log *events.Log, static []StaticClient) *Service {
	d.t.Helper()
	s, err := New(Config{
		Store: db, Log: log, Keys: d.keys, Clock: d.clock,
		Logger:        slog.New(slog.NewJSONHandler(d.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		StaticClients: static, WebsocktunnelSecret: testTunnelSecret,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// stop ends the deployment, so that another can start on its directory.
func (d *deployment) stop() {
	d.t.Helper()
	if err := d.store.Close(); err != nil {
		d.t.Fatal(err)
	}
}

type methodHeader struct{}

// named has each method tell its name, so that answers are checked against the
// schema of the method that gave them.
func (d *deployment) named(s api.Service) api.Service {
	for i := range s.Methods {
		handle, name := s.Methods[i].Handle, s.Methods[i].Name
		s.Methods[i].Handle = func(c *api.Call) (any, error) {
			*c.Request.Context().Value(methodHeader{}).(*string) = name
			return handle(c)
		}
	}
	return s
}

// root are the credentials of the client that may do everything.
func (d *deployment) root() hawk.Credentials {
	return hawk.Credentials{ClientID: rootID, AccessToken: rootTestToken}
}

var nobody = hawk.Credentials{}

// answer is what came back.
type answer struct {
	t      testing.TB
	method string
	status int
	header http.Header
	body   string
}

// call sends a request, signed unless the credentials are nobody's, and checks
// the form of the answer. path is below the service's root.
func (d *deployment) call(as hawk.Credentials, verb, path string, body any) answer {
	d.t.Helper()
	var payload []byte
	if body != nil {
		if text, ok := body.(string); ok {
			payload = []byte(text)
		} else {
			var err error
			if payload, err = json.Marshal(body); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	resource := "/api/auth/v1" + path
	r := httptest.NewRequest(verb, resource, bytes.NewReader(payload))
	r.RequestURI = resource
	if payload != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if as.ClientID != "" {
		hash := ""
		if payload != nil {
			hash = hawk.PayloadHash("application/json", payload)
		}
		header, err := as.Header(hawk.Request{Method: verb, Resource: resource, Host: testHost, Port: testPort}, hash, d.clock.Now().Std())
		if err != nil {
			d.t.Fatal(err)
		}
		r.Header.Set("Authorization", header)
	}
	return d.send(r)
}

// send hands a request to the API.
func (d *deployment) send(r *http.Request) answer {
	d.t.Helper()
	r.Host = testHost
	r.Header.Set("X-Forwarded-Proto", "https")
	method := ""
	r = r.WithContext(context.WithValue(r.Context(), methodHeader{}, &method))
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	d.replies.Write(body)
	a := answer{t: d.t, method: method, status: w.Code, header: w.Header(), body: string(body)}
	d.checkForm(a)
	return a
}

// checkForm compares an answer with the published schema of its method, or
// with the form of errors.
func (d *deployment) checkForm(a answer) {
	d.t.Helper()
	if a.status >= 400 {
		if a.string("code") == "" || a.string("message") == "" {
			d.t.Errorf("%s: an error without code and message: %s", a.method, a.body)
		}
		return
	}
	output := d.outputs[a.method]
	if output == "" {
		return
	}
	sc, err := d.schemas.Schema("auth", output)
	if err != nil {
		d.t.Fatal(err)
	}
	_, _, problems, err := sc.Decode([]byte(a.body))
	if err != nil || problems != nil {
		d.t.Errorf("%s: the answer does not fit %s: %v %v\n%s", a.method, output, problems, err, a.body)
	}
}

// want checks the status, and that the body has each of the texts.
func (a answer) want(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	for _, text := range texts {
		if status >= 400 {
			if message := a.string("code") + " " + a.string("message"); !strings.Contains(message, text) {
				a.t.Errorf("the error lacks %q: %s", text, message)
			}
		} else if !strings.Contains(a.body, text) {
			a.t.Errorf("the answer lacks %q: %s", text, a.body)
		}
	}
	return a
}

func (a answer) object() map[string]any {
	a.t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

func (a answer) string(name string) string {
	a.t.Helper()
	s, _ := a.object()[name].(string)
	return s
}

func (a answer) strings(name string) []string {
	a.t.Helper()
	list, ok := a.object()[name].([]any)
	if !ok {
		a.t.Fatalf("no list %q in %s", name, a.body)
	}
	texts := []string{}
	for _, x := range list {
		texts = append(texts, x.(string))
	}
	return texts
}

// client makes a client and returns its credentials.
func (d *deployment) client(id string, scopes ...string) hawk.Credentials {
	d.t.Helper()
	a := d.call(d.root(), "PUT", clientPath(id), d.clientBody(scopes...)).want(200)
	return hawk.Credentials{ClientID: id, AccessToken: a.string("accessToken")}
}

// clientBody is a payload of createClient and updateClient.
func (d *deployment) clientBody(scopes ...string) map[string]any {
	return map[string]any{
		"description": "made by a test", "expires": d.clock.Now().Add(240 * time.Hour).String(), "scopes": nonNil(scopes),
	}
}

// role makes a role.
func (d *deployment) role(id string, scopes ...string) answer {
	d.t.Helper()
	return d.call(d.root(), "PUT", rolePath(id), roleBody(scopes...)).want(200)
}

func roleBody(scopes ...string) map[string]any {
	return map[string]any{"description": "made by a test", "scopes": nonNil(scopes)}
}

func clientPath(id string) string { return "/clients/" + url.PathEscape(id) }
func rolePath(id string) string   { return "/roles/" + url.PathEscape(id) }

// published lists the messages since a position: "client-created foo".
func (d *deployment) published(after events.Position) []string {
	d.t.Helper()
	messages, err := d.events.Read(context.Background(), after, 1000)
	if err != nil {
		d.t.Fatal(err)
	}
	var all []string
	for _, m := range messages {
		var body struct {
			Version          int
			ClientID, RoleID string
		}
		if err := json.Unmarshal(m.Payload, &body); err != nil || body.Version != 1 || m.Key != "_" || m.CC != nil {
			d.t.Errorf("a malformed message: %+v", m)
		}
		all = append(all, fmt.Sprintf("%s %s%s", strings.TrimPrefix(m.Exchange, exchangePrefix), body.ClientID, body.RoleID))
	}
	return all
}

// brokenLog is an event log whose every Publish fails its transaction: the
// tables that it needs are missing.
func brokenLog(t testing.TB) *events.Log {
	t.Helper()
	return events.NewLog(storetest.Open(t, store.Options{}), events.Options{})
}

// signedRequest is a request as services hand it to Authenticate.
func (d *deployment) signedRequest(as hawk.Credentials) api.AuthRequest {
	d.t.Helper()
	header, err := as.Header(hawk.Request{Method: "GET", Resource: someResource, Host: testHost, Port: testPort}, "", d.clock.Now().Std())
	if err != nil {
		d.t.Fatal(err)
	}
	return api.AuthRequest{Method: "GET", Resource: someResource, Host: testHost, Port: testPort, Authorization: header}
}
