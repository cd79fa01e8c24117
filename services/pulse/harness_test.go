package pulse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/mail"
	"taskcluster/internal/schema"
	"taskcluster/internal/scopes"
	"taskcluster/internal/store"
	"taskcluster/internal/store/keyring"
	"taskcluster/internal/store/storetest"
	"taskcluster/internal/testenv"
	"taskcluster/services/pulse/management"
)

// callers is who calls in these tests: whoever names scopes has them, and another
// name than caller if that stands before them, as in "me; a:b c:d". Real signatures
// are checked where the whole program runs.
type callers struct{}

func (callers) Authenticate(_ context.Context, r api.AuthRequest) *api.AuthResult {
	if r.Authorization == "" {
		return &api.AuthResult{Status: api.NoAuth}
	}
	id, granted, named := strings.Cut(r.Authorization, "; ")
	if !named {
		id, granted = "caller", r.Authorization
	}
	return &api.AuthResult{Status: api.AuthSuccess, ClientID: id, Scopes: scopes.NewSet(strings.Fields(granted)...)}
}

// postbox takes mails, or fails as it is told to.
type postbox struct {
	mu    sync.Mutex
	got   []mail.Message
	tried int
	fails error
}

func (p *postbox) Send(_ context.Context, m mail.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried++
	if p.fails != nil {
		return p.fails
	}
	p.got = append(p.got, m)
	return nil
}

// taken are the subjects of the mails since the last call, and to whom.
func (p *postbox) taken() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, m := range p.got {
		all = append(all, m.To+": "+m.Subject)
	}
	p.got = nil
	return strings.Join(all, "\n")
}

func (p *postbox) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = err
}

// deployment is the service on a real store and a virtual host of a real broker,
// behind the HTTP API.
type deployment struct {
	t       testing.TB
	clock   *clock.Fake
	keys    *keyring.Keyring
	store   *store.Store
	rabbit  *testenv.RabbitMQServer
	vhost   string
	mails   *postbox
	log     *testenv.Buffer
	config  Config
	service *Service
	handler http.Handler
	schemas *schema.Set
	outputs map[string]string
}

func allMigrations() []store.Migrations { return []store.Migrations{api.Migrations(), Migrations()} }

func deploy(t testing.TB, change ...func(*Config)) *deployment {
	t.Helper()
	c := clock.NewFake(clock.Of(time.Now()).Truncate()) // RabbitMQ tells real times
	return deployOn(t, c, storetest.Open(t, store.Options{Clock: c, Migrations: allMigrations()}), change...)
}

func deployOn(t testing.TB, c *clock.Fake, db *store.Store, change ...func(*Config)) *deployment {
	t.Helper()
	d := &deployment{t: t, clock: c, store: db, rabbit: startedRabbit(t), mails: &postbox{}, log: &testenv.Buffer{}}
	rabbit.mu.Lock()
	rabbit.last++
	number := rabbit.last
	rabbit.mu.Unlock()
	d.vhost = fmt.Sprintf("test/%d", number)
	d.admin("PUT", "/vhosts/"+url.PathEscape(d.vhost), nil, 201)
	t.Cleanup(func() { d.admin("DELETE", "/vhosts/"+url.PathEscape(d.vhost), nil, 204) })
	var err error
	if d.keys, err = keyring.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	m, err := management.New(d.rabbit.ManagementURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	d.config = Config{
		Store: db, Keys: d.keys, Clock: c, Logger: slog.New(slog.NewTextHandler(d.log, nil)), Mail: d.mails,
		Broker: &Broker{
			Management: m, AMQP: &url.URL{Scheme: "amqp", Host: d.rabbit.Addr, Path: "/" + d.vhost, RawPath: "/" + url.PathEscape(d.vhost)},
			NamespacePrefix: "ns-", UserPrefix: fmt.Sprintf("t%d-", number), Reserved: []string{"ns-queue"},
		},
		AlertThreshold: 4, DeleteThreshold: 8,
	}
	for _, f := range change {
		f(&d.config)
	}
	d.serve()
	return d
}

type object = map[string]any

// serve makes the service, as after a restart.
func (d *deployment) serve() {
	d.t.Helper()
	var err error
	if d.service, err = New(d.config); err != nil {
		d.t.Fatal(err)
	}
	definition := d.service.API()
	if d.schemas, err = schema.Load(definition.Schemas); err != nil {
		d.t.Fatal(err)
	}
	server, err := api.New(api.Options{RootURL: "https://tc.example.com", Schemas: d.schemas, Auth: callers{}, Clock: d.clock,
		Log: slog.New(slog.NewTextHandler(d.log, nil))}, definition)
	if err != nil {
		d.t.Fatal(err)
	}
	d.handler = server
}

// admin asks the broker as its administrator.
func (d *deployment) admin(verb, path string, body any, want ...int) []byte {
	d.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := http.NewRequest(verb, d.rabbit.Management+"/api"+path, bytes.NewReader(text))
	if err != nil {
		d.t.Fatal(err)
	}
	r.SetBasicAuth("guest", "guest")
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, status := range want {
		if resp.StatusCode == status {
			return got
		}
	}
	d.t.Fatalf("%s %s: %d %s, want %v", verb, path, resp.StatusCode, got, want)
	return nil
}

// answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	body   string
}

// call sends a request with these scopes.
func (d *deployment) call(scopes, verb, path string, body any) *answer {
	d.t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			d.t.Fatal(err)
		}
	}
	r := httptest.NewRequest(verb, "https://tc.example.com/api/pulse/v1"+path, bytes.NewReader(text)).WithContext(d.t.Context())
	if scopes != "" {
		r.Header.Set("Authorization", scopes)
	}
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return &answer{d.t, verb + " " + path, w.Code, w.Body.String()}
}

// claim claims a namespace.
func (d *deployment) claim(namespace string, body object) *answer {
	d.t.Helper()
	if body == nil {
		body = object{}
	}
	a := d.call("pulse:namespace:"+namespace, "POST", "/namespace/"+namespace, body)
	d.fits(a, "v1/claim-namespace-response.json#")
	return a
}

func (d *deployment) get(path string) *answer {
	d.t.Helper()
	a := d.call("", "GET", path, nil)
	if strings.HasPrefix(path, "/namespaces") {
		d.fits(a, "v1/list-namespaces-response.json#")
	} else {
		d.fits(a, "v1/namespace-response.json#")
	}
	return a
}

// fits holds a good answer to its schema.
func (d *deployment) fits(a *answer, ref string) {
	d.t.Helper()
	if a.status != 200 {
		return
	}
	sc, err := d.schemas.Schema("pulse", ref)
	if err != nil {
		d.t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		d.t.Fatalf("%s: %v in %s", a.what, err, a.body)
	}
	if problems := sc.Validate(v); len(problems) > 0 {
		d.t.Errorf("%s: the answer does not fit %s: %v\n%s", a.what, ref, problems, a.body)
	}
}

// want checks the status, and that the body has all these texts.
func (a *answer) want(status int, texts ...string) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d, want %d: %s", a.what, a.status, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			a.t.Fatalf("%s: no %q in %s", a.what, text, a.body)
		}
	}
	return a
}

func (a *answer) string(name string) string {
	a.t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%s: %v in %s", a.what, err, a.body)
	}
	s, ok := v[name].(string)
	if !ok {
		a.t.Fatalf("%s: no string %s in %s", a.what, name, a.body)
	}
	return s
}

// login connects as a client does that got a connection string.
func login(connectionString string) (*amqp.Connection, error) {
	return amqp.DialConfig(connectionString, amqp.Config{Dial: amqp.DefaultDial(20 * time.Second), Heartbeat: 10 * time.Second, Locale: "en_US"})
}

// mustLogin is login that has to succeed. The connection ends with the test.
func (d *deployment) mustLogin(connectionString string) *amqp.Connection {
	d.t.Helper()
	conn, err := login(connectionString)
	if err != nil {
		d.t.Fatalf("a connection string cannot be used: %v", err)
	}
	d.t.Cleanup(func() { conn.Close() })
	return conn
}

// cannotLogin checks that the broker refuses the user or the password.
func (d *deployment) cannotLogin(connectionString string) {
	d.t.Helper()
	conn, err := login(connectionString)
	if err == nil {
		conn.Close()
		d.t.Fatal("a connection string can be used that must not")
	}
	var refused *amqp.Error
	if !errors.As(err, &refused) || refused.Code != amqp.AccessRefused {
		d.t.Fatalf("RabbitMQ does not refuse the login, but: %v", err)
	}
}

// row reads a namespace as it is stored; nil if there is none.
func (d *deployment) row(name string) *namespace {
	d.t.Helper()
	var n *namespace
	err := d.store.Read(d.t.Context(), func(tx *store.Tx) (err error) {
		n, err = d.service.find(tx, name)
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

func (d *deployment) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatalf("%v\n%s", err, d.log)
	}
}

func (d *deployment) rotate() { d.t.Helper(); d.must(d.service.rotate(d.t.Context())) }

func (d *deployment) monitor() { d.t.Helper(); d.must(d.service.monitor(d.t.Context())) }

// expire removes what has expired, and returns how many were removed.
func (d *deployment) expire() int {
	d.t.Helper()
	done, err := d.service.expiry().Once(d.t.Context())
	d.must(err)
	return done.Removed["namespaces"]
}

// hasUser tells whether the broker has one of a namespace's users.
func (d *deployment) hasUser(namespace string, which int) bool {
	d.t.Helper()
	_, err := d.service.broker.Management.User(d.t.Context(), d.service.user(namespace, which))
	if err != nil && !errors.Is(err, management.ErrNotFound) {
		d.t.Fatal(err)
	}
	return err == nil
}

// eventually waits for a condition.
func (d *deployment) eventually(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("after a minute still not: %s\n%s", what, d.log)
		}
	}
}
