package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/internal/api"
	"taskcluster/internal/blob/fs"
	"taskcluster/internal/clock"
	"taskcluster/internal/events"
	"taskcluster/internal/hawk"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/schema"
	"taskcluster/internal/scopes"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

const (
	testHost  = "tc.example.com"
	testPort  = 443
	testRoot  = "https://" + testHost
	testQueue = "prov/type"
)

var (
	nobody    = hawk.Credentials{}
	root      = hawk.Credentials{ClientID: "root", AccessToken: "root-token-for-tests-0123456789abcdef"}
	queueSelf = hawk.Credentials{ClientID: "static/taskcluster/queue", AccessToken: "queue-token-for-tests-0123456789abcde"}
)

// testAuth checks real signatures of a handful of clients, and the temporary
// credentials that they issue.
type testAuth struct {
	clock     clock.Clock
	tokens    map[string]string
	scopes    map[string]scopes.Set
	anonymous scopes.Set
}

func newTestAuth(c clock.Clock) *testAuth {
	return &testAuth{
		clock:     c,
		tokens:    map[string]string{root.ClientID: root.AccessToken, queueSelf.ClientID: queueSelf.AccessToken},
		scopes:    map[string]scopes.Set{root.ClientID: scopes.NewSet("*"), queueSelf.ClientID: scopes.NewSet("*")},
		anonymous: scopes.NewSet("queue:get-artifact:public/*"),
	}
}

func (a *testAuth) Authenticate(_ context.Context, r api.AuthRequest) *api.AuthResult {
	if r.Authorization == "" {
		return &api.AuthResult{Status: api.NoAuth, Scopes: a.anonymous}
	}
	res, err := a.check(r)
	if err != nil {
		return &api.AuthResult{Status: api.AuthFailed, Message: err.Error()}
	}
	return res
}

func (a *testAuth) check(r api.AuthRequest) (*api.AuthResult, error) {
	h, err := hawk.ParseHeader(r.Authorization)
	if err != nil {
		return nil, err
	}
	ext, err := hawk.ParseExt(h.Ext)
	if err != nil {
		return nil, err
	}
	issuer, set := h.ID, a.scopes[h.ID]
	key := a.tokens[issuer]
	if ext.HasCertificate {
		cert, err := hawk.ParseCertificate(ext.Certificate)
		if err != nil {
			return nil, err
		}
		if cert.Issuer != "" {
			issuer = cert.Issuer
		}
		token := a.tokens[issuer]
		if err := cert.CheckTimes(a.clock.Now().Std()); err != nil {
			return nil, err
		}
		if err := cert.CheckSignature(h.ID, token); err != nil {
			return nil, err
		}
		key, set = cert.Key(token), scopes.NewSet(cert.Scopes...)
	}
	if key == "" {
		return nil, fmt.Errorf("no such client: %s", h.ID)
	}
	if err := h.Verify(key, hawk.Request{Method: r.Method, Resource: r.Resource, Host: r.Host, Port: r.Port}, a.clock.Now().Std()); err != nil {
		return nil, err
	}
	return &api.AuthResult{Status: api.AuthSuccess, ClientID: h.ID, Scopes: set.Union(a.anonymous), Hash: h.Hash}, nil
}

// deployment is a queue over a real store and the file system, behind
// the HTTP API.
type deployment struct {
	t       testing.TB
	dir     string
	clock   *clock.Fake
	auth    *testAuth
	store   *store.Store
	log     *events.Log
	blobs   *fs.Store
	objects *fakeObjects
	queue   *Service
	handler http.Handler
	schemas *schema.Set
	outputs map[string]string
	loops   *lifecycle.Group
	read    events.Position // events up to here were looked at
}

func testClock() *clock.Fake {
	return clock.NewFake(clock.Of(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)))
}

func deploy(t testing.TB) *deployment { return deployIn(t, t.TempDir(), testClock()) }

// deployIn starts a deployment on a data directory, which may have been used.
// Its loops do not run until start.
func deployIn(t testing.TB, dir string, c *clock.Fake) *deployment {
	t.Helper()
	return deployWith(t, dir, c, nil)
}

// deployWith is deployIn with a log for the store.
func deployWith(t testing.TB, dir string, c *clock.Fake, storeLog *slog.Logger) *deployment {
	t.Helper()
	d := &deployment{t: t, dir: dir, clock: c, auth: newTestAuth(c), outputs: map[string]string{}}
	var err error
	d.store = storetest.OpenIn(t, dir, store.Options{
		Clock: c, Log: storeLog, Migrations: []store.Migrations{events.Migrations, api.Migrations(), Migrations()},
	})
	d.log = events.NewLog(d.store, events.Options{Clock: c})
	d.blobs, err = fs.New(filepath.Join(dir, "blobs"), fs.Options{RootURL: testRoot, Key: bytes.Repeat([]byte{7}, 32), Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	d.objects = newFakeObjects(t)
	d.queue, err = New(Config{Store: d.store, Log: d.log, Blob: d.blobs, Clock: c, Credentials: queueSelf,
		Objects: &client.Config{RootURL: testRoot, Transport: client.InProcess(d.objects), Retries: -1},
		Logger:  slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	definition := d.queue.API()
	if d.schemas, err = schema.Load(definition.Schemas); err != nil {
		t.Fatal(err)
	}
	for i := range definition.Methods {
		m := &definition.Methods[i]
		d.outputs[m.Name] = m.Output
		handle, name := m.Handle, m.Name
		m.Handle = func(c *api.Call) (any, error) {
			if told, ok := c.Request.Context().Value(methodName{}).(*string); ok {
				*told = name
			}
			return handle(c)
		}
	}
	server, err := api.New(api.Options{RootURL: testRoot, Schemas: d.schemas, Auth: d.auth, Clock: c,
		Log: slog.New(slog.DiscardHandler)}, definition)
	if err != nil {
		t.Fatal(err)
	}
	d.handler = server
	t.Cleanup(d.stop)
	return d
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("log: %s", p)
	return len(p), nil
}

// start runs the queue's loops.
func (d *deployment) start() *deployment {
	d.loops = &lifecycle.Group{}
	d.queue.Start(d.loops)
	return d
}

// stop ends the deployment, so that another can start on its directory.
func (d *deployment) stop() {
	if d.store == nil {
		return
	}
	d.queue.Drain()
	if d.loops != nil {
		if err := d.loops.Stop(context.Background()); err != nil {
			d.t.Error(err)
		}
	}
	// After a benchmark the checks would take longer than it, and fill its profile.
	if _, benchmark := d.t.(*testing.B); !benchmark && !d.t.Failed() {
		d.checkEvents(d.t)
		d.checkCounters(d.t)
	}
	if err := d.store.Close(); err != nil {
		d.t.Error(err)
	}
	d.store = nil
}

type methodName struct{}

// client makes a client with just these scopes.
func (d *deployment) client(scope ...string) hawk.Credentials {
	id := fmt.Sprintf("client-%d", len(d.auth.tokens))
	c := hawk.Credentials{ClientID: id, AccessToken: id + "-token-for-tests-0123456789abcdef"}
	d.auth.tokens[id], d.auth.scopes[id] = c.AccessToken, scopes.NewSet(scope...)
	return c
}

// answer is what came back.
type answer struct {
	t      testing.TB
	method string
	status int
	header http.Header
	body   string
}

// call sends a request, signed unless the credentials are nobody's, and checks
// the form of the answer. path is below the service's root; body is nil, JSON
// text, or a value to be marshalled.
func (d *deployment) call(as hawk.Credentials, verb, path string, body any) answer {
	d.t.Helper()
	return d.callContext(context.Background(), as, verb, path, body)
}

func (d *deployment) callContext(ctx context.Context, as hawk.Credentials, verb, path string, body any) answer {
	d.t.Helper()
	r := d.request(ctx, as, verb, path, body)
	method := ""
	r = r.WithContext(context.WithValue(r.Context(), methodName{}, &method))
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	text, err := io.ReadAll(w.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	a := answer{t: d.t, method: method, status: w.Code, header: w.Header(), body: string(text)}
	if ctx.Err() == nil { // else nobody is there to answer
		d.checkForm(a)
	}
	return a
}

func (d *deployment) request(ctx context.Context, as hawk.Credentials, verb, path string, body any) *http.Request {
	d.t.Helper()
	var payload []byte
	switch b := body.(type) {
	case nil:
	case string:
		payload = []byte(b)
	default:
		var err error
		if payload, err = json.Marshal(body); err != nil {
			d.t.Fatal(err)
		}
	}
	resource := "/api/queue/v1" + path
	r := httptest.NewRequestWithContext(ctx, verb, resource, bytes.NewReader(payload))
	r.RequestURI, r.Host = resource, testHost
	r.Header.Set("X-Forwarded-Proto", "https")
	hash := ""
	if payload != nil {
		r.Header.Set("Content-Type", "application/json")
		hash = hawk.PayloadHash("application/json", payload)
	}
	if as.ClientID != "" {
		header, err := as.Header(hawk.Request{Method: verb, Resource: resource, Host: testHost, Port: testPort}, hash, d.clock.Now().Std())
		if err != nil {
			d.t.Fatal(err)
		}
		r.Header.Set("Authorization", header)
	}
	return r
}

// checkForm compares an answer with the published schema of its method, or
// with the form of errors.
func (d *deployment) checkForm(a answer) {
	d.t.Helper()
	if a.status == http.StatusFailedDependency {
		return // the one answer that is in neither form
	}
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
	sc, err := d.schemas.Schema("queue", output)
	if err != nil {
		d.t.Fatal(err)
	}
	_, _, problems, err := sc.Decode([]byte(a.body))
	if err != nil || problems != nil {
		d.t.Errorf("%s: the answer does not fit %s: %v %v\n%s", a.method, output, problems, err, a.body)
	}
}

// want checks the status, and that the error's code and message, or the
// answer, has each of the texts.
func (a answer) want(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.method, a.status, status, a.body)
	}
	got := a.body
	if status >= 400 && status != http.StatusFailedDependency {
		got = a.string("code") + " " + a.string("message")
	}
	for _, text := range texts {
		if !strings.Contains(got, text) {
			a.t.Errorf("%s: the answer lacks %q: %s", a.method, text, got)
		}
	}
	return a
}

func (a answer) object() map[string]any {
	a.t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%s: %v: %s", a.method, err, a.body)
	}
	return v
}

// at gives what a path of names and indices leads to.
func (a answer) at(path ...any) any {
	a.t.Helper()
	var v any = a.object()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			o, _ := v.(map[string]any)
			v = o[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func (a answer) string(path ...any) string {
	a.t.Helper()
	s, _ := a.at(path...).(string)
	return s
}

func (a answer) len(path ...any) int {
	a.t.Helper()
	l, _ := a.at(path...).([]any)
	return len(l)
}

// credentials are those of a claim or reclaim.
func (a answer) credentials(path ...any) hawk.Credentials {
	a.t.Helper()
	get := func(name string) string { return a.string(append(append([]any{}, path...), "credentials", name)...) }
	return hawk.Credentials{ClientID: get("clientId"), AccessToken: get("accessToken"), Certificate: get("certificate")}
}

// definition is a valid task; changes replace members, nil removes one.
func (d *deployment) definition(changes ...map[string]any) map[string]any {
	now := d.clock.Now()
	m := map[string]any{
		"provisionerId": "prov", "workerType": "type", "schedulerId": "sched",
		"created": now.String(), "deadline": now.Add(time.Hour).String(),
		"payload":  map[string]any{"command": []string{"true"}},
		"metadata": map[string]any{"name": "n", "description": "d", "owner": "o@example.com", "source": "https://example.com/s"},
	}
	for _, c := range changes {
		for k, v := range c {
			if v == nil {
				delete(m, k)
			} else {
				m[k] = v
			}
		}
	}
	return m
}

type with = map[string]any

// create makes a task and returns its id.
func (d *deployment) create(changes ...map[string]any) string {
	d.t.Helper()
	id := slugid.New().String()
	d.call(root, "PUT", "/task/"+id, d.definition(changes...)).want(200)
	return id
}

// claim claims up to n tasks, of which there must be one, for a worker.
func (d *deployment) claim(worker string, n int) answer {
	d.t.Helper()
	a := d.call(root, "POST", "/claim-work/"+testQueue, with{"workerGroup": "wg", "workerId": worker, "tasks": n}).want(200)
	if a.len("tasks") == 0 {
		d.t.Fatal("nothing was claimed")
	}
	return a
}

// run creates a task and claims it.
func (d *deployment) run(changes ...map[string]any) (string, answer) {
	d.t.Helper()
	id := d.create(changes...)
	a := d.claim("w", 1)
	if got := a.string("tasks", 0, "status", "taskId"); got != id {
		d.t.Fatalf("claimed %s instead of %s", got, id)
	}
	return id, a
}

func (d *deployment) status(id string) answer {
	d.t.Helper()
	return d.call(root, "GET", "/task/"+id+"/status", nil).want(200)
}

// wantState checks a task's state and what the last run says.
func (d *deployment) wantState(id, state, reasonCreated, reasonResolved string) answer {
	d.t.Helper()
	a := d.status(id)
	n := a.len("status", "runs")
	created, resolved := "", ""
	if n > 0 {
		created, resolved = a.string("status", "runs", n-1, "reasonCreated"), a.string("status", "runs", n-1, "reasonResolved")
	}
	if a.string("status", "state") != state || created != reasonCreated || resolved != reasonResolved {
		d.t.Fatalf("want %s (%s, %s): %s", state, reasonCreated, reasonResolved, a.body)
	}
	return a
}

// eventually waits until a background loop has done its work.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("did not happen: " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

// expireNow does what the timer loop does when something is due.
func (d *deployment) expireNow() error {
	return d.store.Write(context.Background(), func(tx *store.Tx) error {
		_, err := d.queue.expireDue(tx)
		return err
	})
}

// parked is the number of callers that wait for work.
func (d *deployment) parked() int {
	n := 0
	switch p := d.queue.pending.(type) {
	case *memoryRuns:
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, q := range p.queues {
			n += q.line.Len()
		}
	case *databaseRuns:
		for _, here := range p.line.waiting() {
			n += here
		}
	}
	return n
}
