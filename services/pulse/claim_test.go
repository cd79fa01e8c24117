package pulse

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
	"taskcluster/services/pulse/management"
)

func TestStatements(t *testing.T) {
	storetest.PrepareAll(t, allMigrations(), store.Statements(stmt))
}

func TestClaim(t *testing.T) {
	d := deploy(t)
	expires := d.clock.Now().Add(3 * time.Hour).String()
	a := d.claim("ns-one", object{"expires": expires, "contact": "me@example.com"}).want(200)
	if a.string("namespace") != "ns-one" || a.string("expires") != expires || a.string("created") != d.clock.Now().String() ||
		a.string("reclaimAt") != d.clock.Now().Add(90*time.Minute).String() {
		t.Errorf("%s", a.body)
	}
	if strings.Contains(a.body, "contact") || strings.Contains(d.log.String(), "amqp://") {
		t.Error("what must not be told is told")
	}
	d.mustLogin(a.string("connectionString"))

	u, err := url.Parse(a.string("connectionString"))
	if err != nil || u.User.Username() != d.service.user("ns-one", 1) || u.EscapedPath() != "/"+url.PathEscape(d.vhost) {
		t.Errorf("%v, %v", u, err)
	}
	// The other user is there, and nobody can log in as it.
	if !d.hasUser("ns-one", 2) {
		t.Error("the second user is missing")
	}
	for _, password := range []string{"", "guest"} {
		other := *u
		other.User = url.UserPassword(d.service.user("ns-one", 2), password)
		d.cannotLogin(other.String())
	}
	for which := range 2 {
		got := string(d.admin("GET", "/permissions/"+url.PathEscape(d.vhost)+"/"+d.service.user("ns-one", which+1), nil, 200))
		for _, want := range []string{`"configure":"^(queue/ns-one/.*|exchange/ns-one/.*)"`, `"read":"^(queue/ns-one/.*|exchange/.*)"`} {
			if !strings.Contains(got, want) {
				t.Errorf("the permissions lack %s: %s", want, got)
			}
		}
	}

	d.get("/namespace/ns-one").want(200, `"namespace":"ns-one"`, expires)
	d.get("/namespace/ns-two").want(404, "No such namespace", "ResourceNotFound")
	for _, path := range []string{"/namespace/ns-one", "/namespaces"} {
		if body := d.get(path).want(200).body; strings.Contains(body, "me@example.com") || strings.Contains(body, "contact") || strings.Contains(body, "password") || strings.Contains(body, "amqp") {
			t.Errorf("%s tells too much: %s", path, body)
		}
	}
}

// TestClaimAgain: a claim renews, and gives what there is.
func TestClaimAgain(t *testing.T) {
	d := deploy(t)
	first := d.claim("ns-one", object{"contact": "me@example.com"}).want(200)
	if first.string("expires") != d.clock.Now().Add(4*time.Hour).String() {
		t.Errorf("expires %s", first.string("expires"))
	}
	d.clock.Advance(time.Minute)
	shorter := d.clock.Now().Add(time.Hour).String()
	second := d.claim("ns-one", object{"expires": shorter, "contact": "you@example.com"}).want(200)
	if second.string("connectionString") != first.string("connectionString") || second.string("created") != first.string("created") || second.string("expires") != shorter {
		t.Errorf("%s\n%s", first.body, second.body)
	}
	if n := d.row("ns-one"); n.contact != "you@example.com" {
		t.Errorf("contact %q", n.contact)
	}
	d.claim("ns-one", nil).want(200)
	if n := d.row("ns-one"); n.contact != "" || n.expires != d.clock.Now().Add(4*time.Hour) {
		t.Errorf("%q %s", n.contact, n.expires)
	}
}

func TestManyClaimsMakeOneRow(t *testing.T) {
	d := deploy(t)
	const callers = 30
	strings := make([]string, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { strings[i] = d.claim("ns-one", nil).want(200).string("connectionString") })
	}
	all.Wait()
	for _, s := range strings {
		if s != strings[0] {
			t.Fatal("two callers got different passwords")
		}
	}
	d.mustLogin(strings[0])
	var list struct{ rows int }
	err := d.store.Read(t.Context(), func(tx *store.Tx) error {
		rows := tx.Query(stmt.list, "", 10)
		defer rows.Close()
		for rows.Next() {
			list.rows++
		}
		return rows.Err()
	})
	if err != nil || list.rows != 1 {
		t.Errorf("%d rows, %v", list.rows, err)
	}
}

func TestRefusedClaims(t *testing.T) {
	d := deploy(t)
	longest := "ns-" + strings.Repeat("x", 61)
	d.claim(longest, nil).want(200)
	for _, name := range []string{longest + "x", "other", "ns-a.b", "ns-a%20b", "ns-a%2Fb", "ns-%C3%A4", "ns-a%0A", "ns-.*", "ns-queue"} {
		plain, _ := url.PathUnescape(name)
		d.call("*", "POST", "/namespace/"+name, object{}).want(400, "InvalidNamespace")
		d.get("/namespace/"+name).want(400, "InvalidNamespace")
		if d.row(plain) != nil {
			t.Errorf("%q has a row", plain)
		}
	}
	for _, body := range []object{
		{"contact": "nobody"}, {"contact": "a@b@c"}, {"contact": "Me <me@example.com>"}, {"contact": "me@example.com\r\nBcc: you@example.com"},
		{"contact": "me@example.com,you@example.com"}, {"contact": ""}, {"contact": strings.Repeat("x", 250) + "@example.com"}, {"expires": "tomorrow"}, {"more": 1}, {"contact": 1},
	} {
		a := d.claim("ns-two", body)
		if a.status != 400 {
			t.Errorf("%v: %d %s", body, a.status, a.body)
		}
	}
	for _, past := range []string{"1970-01-01T00:00:00.000Z", d.clock.Now().String()} {
		d.claim("ns-two", object{"expires": past}).want(400, "InputError", "future")
	}
	d.call("pulse:namespace:ns-one", "POST", "/namespace/ns-two", object{}).want(403, "InsufficientScopes")
	d.call("", "POST", "/namespace/ns-two", object{}).want(403, "InsufficientScopes")
	if d.row("ns-two") != nil || d.hasUser("ns-two", 1) {
		t.Error("a claim that was refused has left something")
	}
}

// TestLimit: there are so many namespaces, no client gets all of them, and who has
// one keeps it.
func TestLimit(t *testing.T) {
	d := deploy(t, func(c *Config) { c.Limit = 6 })
	body := object{"expires": d.clock.Now().Add(time.Hour).String()}
	claim := func(who, name string) *answer {
		t.Helper()
		return d.call(who+"; *", "POST", "/namespace/"+name, body)
	}
	for _, name := range []string{"ns-1", "ns-2", "ns-3", "ns-4"} {
		claim("greedy", name).want(200)
	}
	claim("greedy", "ns-5").want(429, "TooManyRequests", "greedy has claimed 4 of the 6 namespaces", "2 are left")
	if d.row("ns-5") != nil || d.hasUser("ns-5", 1) {
		t.Error("what was refused has left something")
	}
	claim("other", "ns-1").want(200) // who renews does not take over
	claim("other", "ns-5").want(200)
	claim("greedy", "ns-6").want(429)
	claim("other", "ns-6").want(200)
	claim("third", "ns-7").want(429, "TooManyRequests", "all are claimed")
	for _, name := range []string{"ns-1", "ns-5"} {
		claim("greedy", name).want(200)
	}
	d.clock.Advance(3 * time.Hour)
	if n := d.expire(); n != 6 {
		t.Errorf("%d have expired", n)
	}
	body = object{}
	claim("third", "ns-7").want(200)
	claim("greedy", "ns-1").want(200)
}

func TestWithoutBroker(t *testing.T) {
	d := deploy(t, func(c *Config) { c.Broker = nil })
	for _, a := range []*answer{d.get("/namespaces"), d.get("/namespace/ns-one"), d.claim("ns-one", nil)} {
		a.want(409, "NotConfigured", ManagementSetting)
	}
	d.call("", "GET", "/ping", nil).want(200, `"alive":true`)
	d.call("", "GET", "/__heartbeat__", nil).want(200)
}

func TestWithoutMail(t *testing.T) {
	d := deploy(t, func(c *Config) { c.Mail = nil })
	d.claim("ns-one", object{"contact": "me@example.com"}).want(409, "NotConfigured", MailSetting)
	d.claim("ns-one", nil).want(200)
}

func TestList(t *testing.T) {
	d := deploy(t)
	d.get("/namespaces").want(200, `"namespaces":[]`)
	for _, name := range []string{"ns-c", "ns-a", "ns-d", "ns-b"} {
		d.claim(name, nil).want(200)
	}
	first := d.get("/namespaces?limit=2").want(200, "ns-a", "ns-b")
	second := d.get("/namespaces?limit=2&continuationToken="+first.string("continuationToken")).want(200, "ns-c", "ns-d")
	if strings.Contains(first.body, "ns-c") || strings.Contains(second.body, "ns-b") || strings.Contains(second.body, "continuationToken") {
		t.Errorf("%s\n%s", first.body, second.body)
	}
	if body := d.get("/namespaces").want(200).body; strings.Count(body, `"namespace":`) != 4 || strings.Contains(body, "continuationToken") {
		t.Error(body)
	}
	d.get("/namespaces?limit=0").want(200, `"namespaces":[]`)
	d.get("/namespaces?limit=x").want(400)
	for _, token := range []string{"!", "Lw", "AAAA"} {
		d.get("/namespaces?continuationToken="+token).want(400, "Invalid continuation token")
	}
}

// TestConfinement: what a lent user may do, and what not.
func TestConfinement(t *testing.T) {
	d := deploy(t)
	d.claim("ns-other", nil).want(200)
	conn := d.mustLogin(d.claim("ns-one", nil).want(200).string("connectionString"))
	may := func(what string, allowed bool, do func(*amqp.Channel) error) {
		t.Helper()
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		defer ch.Close()
		err = do(ch)
		refused, isRefusal := err.(*amqp.Error)
		switch {
		case allowed && err != nil:
			t.Errorf("%s: %v", what, err)
		case !allowed && (!isRefusal || refused.Code != amqp.AccessRefused):
			t.Errorf("%s is not refused: %v", what, err)
		}
	}
	queue := func(name string) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(name, false, false, false, false, nil)
			return err
		}
	}
	exchange := func(name string) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare(name, "topic", false, false, false, false, nil)
		}
	}
	may("an own queue", true, queue("queue/ns-one/a"))
	may("an own exchange", true, exchange("exchange/ns-one/a"))
	may("another's queue", false, queue("queue/ns-other/a"))
	may("a queue of a longer name", false, queue("queue/ns-one-more/a"))
	may("a queue with the name in it", false, queue("x/queue/ns-one/a"))
	may("a queue that the broker names", false, queue(""))
	may("another's exchange", false, exchange("exchange/ns-other/a"))
	admin := d.mustLogin("amqp://guest:guest@" + d.rabbit.Addr + "/" + url.PathEscape(d.vhost))
	ch, err := admin.Channel()
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []func(*amqp.Channel) error{exchange("exchange/events"), queue("queue/ns-other/b")} {
		if err := do(ch); err != nil {
			t.Fatal(err)
		}
	}
	may("to bind an own queue to any exchange", true, func(ch *amqp.Channel) error {
		return ch.QueueBind("queue/ns-one/a", "#", "exchange/events", false, nil)
	})
	may("to publish to another's exchange", false, func(ch *amqp.Channel) error {
		if err := ch.Confirm(false); err != nil {
			return err
		}
		closed := ch.NotifyClose(make(chan *amqp.Error, 1))
		if err := ch.Publish("exchange/events", "a", false, false, amqp.Publishing{}); err != nil {
			return err
		}
		if e := <-closed; e != nil {
			return e
		}
		return nil
	})
	may("to read another's queue", false, func(ch *amqp.Channel) error {
		_, _, err := ch.Get("queue/ns-other/b", true)
		return err
	})
}

// flaky is a way to the management API that may be interrupted.
type flaky struct {
	*httptest.Server
	broken   atomic.Bool
	poison   atomic.Pointer[string] // what is about this fails, though the rest does not
	requests atomic.Int64           // that came while it was not broken
	writes   atomic.Int64           // of users' passwords among them
}

// fail has calls fail that have this in their path.
func (f *flaky) fail(what string) { f.poison.Store(&what) }

func (d *deployment) flaky() *flaky {
	d.t.Helper()
	target, err := url.Parse(d.rabbit.Management)
	if err != nil {
		d.t.Fatal(err)
	}
	f := &flaky{}
	f.fail("nothing")
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if strings.Contains(r.URL.Path, *f.poison.Load()) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		f.requests.Add(1)
		if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/users/") {
			f.writes.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	d.t.Cleanup(f.Close)
	m, err := management.New(strings.Replace(f.URL, "http://", "http://guest:guest@", 1))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(m.Close)
	d.config.Broker.Management = m
	d.serve()
	return f
}

// TestBrokerAway: a claim that RabbitMQ could not be told of is refused so that
// it is tried again, and what it asked for is there when RabbitMQ is back.
func TestBrokerAway(t *testing.T) {
	d := deploy(t)
	way := d.flaky()
	way.broken.Store(true)
	d.claim("ns-one", nil).want(503, "BrokerUnavailable")
	if d.hasUserDirectly("ns-one", 1) {
		t.Fatal("the broker was reached")
	}
	way.broken.Store(false)
	d.mustLogin(d.claim("ns-one", nil).want(200).string("connectionString"))

	// A claim that was cut off is completed by the service itself.
	way.broken.Store(true)
	d.claim("ns-two", nil).want(503, "BrokerUnavailable")
	if err := d.service.rotate(t.Context()); err != nil {
		t.Fatal("it is too early to look after it:", err)
	}
	d.clock.Advance(firstLook)
	if err := d.service.rotate(t.Context()); err == nil {
		t.Fatal("a failure is not told")
	}
	way.broken.Store(false)
	d.rotate()
	n := d.row("ns-two")
	if n.behind != 0 || n.active != 1 || n.nextRotation != d.clock.Now().Add(time.Hour) {
		t.Errorf("%+v", n)
	}
	d.mustLogin(d.service.connectionString(n))

	// What is right needs no broker.
	way.broken.Store(true)
	d.claim("ns-two", nil).want(200)
	if strings.Contains(d.log.String(), "guest:guest") || strings.Contains(d.log.String(), string(n.password)) {
		t.Error("a password is in the log")
	}
}

// hasUserDirectly is hasUser past a proxy.
func (d *deployment) hasUserDirectly(namespace string, which int) bool {
	d.t.Helper()
	return strings.Contains(string(d.admin("GET", "/users/"+d.service.user(namespace, which), nil, 200, 404)), `"name"`)
}

// TestForeignUsers: users of others that happen to have such a name are not taken
// over and not deleted, and a claim that they stand in the way of leaves nothing.
func TestForeignUsers(t *testing.T) {
	d := deploy(t)
	operator, neighbour := d.service.user("ns-one", 1), d.service.user("ns-two", 2)
	d.admin("PUT", "/users/"+operator, object{"password": "operator", "tags": "monitoring"}, 201)
	d.admin("PUT", "/users/"+neighbour, object{"password": "neighbour", "tags": tag}, 201)
	d.admin("PUT", "/permissions/%2F/"+neighbour, object{"configure": "^$", "write": "^$", "read": "^$"}, 201)
	t.Cleanup(func() {
		d.admin("DELETE", "/users/"+operator, nil, 204)
		d.admin("DELETE", "/users/"+neighbour, nil, 204)
	})
	for _, name := range []string{"ns-one", "ns-two"} {
		d.claim(name, nil).want(409, "RequestConflict", "not this service's")
		if d.row(name) != nil {
			t.Errorf("%s was refused, and is stored", name)
		}
	}
	if d.hasUser("ns-one", 2) || d.hasUser("ns-two", 1) {
		t.Error("a refused claim has made a user")
	}

	// A claim that was cut off before it could be refused is refused later.
	way := d.flaky()
	way.broken.Store(true)
	d.claim("ns-one", nil).want(503, "BrokerUnavailable")
	way.broken.Store(false)
	d.clock.Advance(firstLook)
	if err := d.service.rotate(t.Context()); !foreign(err) || d.row("ns-one") != nil {
		t.Errorf("the row is still there, %v", err)
	}
	d.rotate()
	d.monitor()
	for name, password := range map[string]string{operator: "operator", neighbour: "neighbour"} {
		d.admin("PUT", "/permissions/"+url.PathEscape(d.vhost)+"/"+name, object{"configure": "^$", "write": "^$", "read": "^$"}, 201, 204)
		d.mustLogin("amqp://" + name + ":" + password + "@" + d.rabbit.Addr + "/" + url.PathEscape(d.vhost))
	}
}

// TestForeignUserLater: a namespace that is in use stays when one of its users
// becomes somebody else's, and its other user goes with it when it expires.
func TestForeignUserLater(t *testing.T) {
	d := deploy(t)
	first := d.claim("ns-one", nil).want(200).string("connectionString")
	taken := d.service.user("ns-one", 2)
	d.admin("PUT", "/users/"+taken, object{"password": "operator", "tags": "monitoring"}, 204)
	t.Cleanup(func() { d.admin("DELETE", "/users/"+taken, nil, 204) })
	d.clock.Advance(time.Hour)
	if err := d.service.rotate(t.Context()); !foreign(err) {
		t.Error(err)
	}
	d.claim("ns-one", nil).want(409, "RequestConflict")
	if d.row("ns-one") == nil {
		t.Fatal("the namespace is gone")
	}
	d.mustLogin(first)
	d.clock.Advance(6 * time.Hour)
	if n := d.expire(); n != 1 || d.hasUser("ns-one", 1) || !d.hasUser("ns-one", 2) {
		t.Errorf("%d were removed", n)
	}
}
