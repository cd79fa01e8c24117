package purgecache

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

func TestStatements(t *testing.T) {
	storetest.PrepareAll(t, allMigrations(), store.Statements(stmt))
}

// behaviours are what the service does, each on a deployment of its own.
var behaviours = map[string]func(*testing.T, *deployment){
	"requests": testRequests, "pages": testPages, "since": testSince, "expiry": testExpiry, "limits": testLimits,
	"freshness": testFreshness, "audit": testAudit, "other processes": testOtherProcess, "race": testRace,
}

func TestService(t *testing.T) {
	for name, test := range behaviours {
		t.Run(name, func(t *testing.T) { test(t, deploy(t)) })
	}
}

func testRequests(t *testing.T, d *deployment) {
	if names, token := d.all(""); len(names) != 0 || token != "" {
		t.Errorf("there is %v at first, %q", names, token)
	}
	if names, _ := d.open("prov/type", ""); len(names) != 0 {
		t.Errorf("there is %v at first", names)
	}
	if a := d.purge("prov/type", "z"); a.status != 204 || a.body != "" {
		t.Errorf("%+v", a)
	}
	d.clock.Advance(time.Minute)
	d.purge("prov/type", "a").want(204)
	d.purge("prov/other", "a").want(204)
	names, before := d.open("prov/type", "")
	if !slices.Equal(names, []string{"prov/type z", "prov/type a"}) ||
		!slices.Equal(before, []string{"2026-05-04T03:02:01.000Z", "2026-05-04T03:03:01.000Z"}) {
		t.Errorf("got %v %v", names, before)
	}
	// Again: the time moves, and nothing else.
	d.clock.Advance(time.Minute)
	d.purge("prov/type", "z").want(204)
	names, before = d.open("prov/type", "")
	if !slices.Equal(names, []string{"prov/type z", "prov/type a"}) ||
		!slices.Equal(before, []string{"2026-05-04T03:04:01.000Z", "2026-05-04T03:03:01.000Z"}) {
		t.Errorf("repeated: %v %v", names, before)
	}
	if names, _ := d.all(""); !slices.Equal(names, []string{"prov/other a", "prov/type a", "prov/type z"}) {
		t.Errorf("all: %v", names)
	}
	// A slash of the pool's id may be encoded, and other names are refused.
	d.names(ask(t, d.handler, "*", "GET", "/purge-cache/prov%2Ftype", ""), "v1/purge-cache-request-list.json#")
	for _, pool := range []string{"list", "prov", "prov/type/more", "prov/", "pr ov/type", strings.Repeat("a", 39) + "/type", "../type", "prov/type%00"} {
		ask(t, d.handler, "*", "POST", "/purge-cache/"+strings.ReplaceAll(pool, " ", "%20"), `{"cacheName": "x"}`).
			want(400, "InvalidRequestArguments", "workerPoolId")
	}
	for _, body := range []string{`{}`, `{"cacheName": 1}`, `{"cacheName": "x", "more": 1}`, `[]`, `{"cacheName": "a\u0000b"}`} {
		ask(t, d.handler, "*", "POST", "/purge-cache/prov/type", body).want(400, "InputValidationError")
	}
	// What a cache is called is its owner's affair.
	for _, name := range []string{"", " ", "über ✓", "a\nb", `"\`, "\u2028", strings.Repeat("é", MaxCacheName/2)} {
		d.purge("prov/odd", name).want(204)
	}
	if names, _ := d.open("prov/odd", ""); len(names) != 7 || names[2] != "prov/odd über ✓" {
		t.Errorf("got %q", names)
	}
}

func testPages(t *testing.T, d *deployment) {
	var want []string
	for i := range 7 {
		for _, pool := range []string{"a/b", "a-/b", "a/b-"} {
			d.purge(pool, fmt.Sprint("cache ", 6-i)).want(204)
			want = append(want, fmt.Sprint(pool, " cache ", i))
		}
	}
	slices.Sort(want) // a space sorts before whatever a pool's id may have
	for _, limit := range []int{1, 2, 5, 20, 21, 22} {
		var got []string
		query := fmt.Sprintf("?limit=%d", limit)
		for {
			names, token := d.all(query)
			if len(names) > limit || len(names) == 0 {
				t.Fatalf("a page of %d", len(names))
			}
			got = append(got, names...)
			if token == "" {
				break
			}
			query = fmt.Sprintf("?limit=%d&continuationToken=%s", limit, token)
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: got %q, want %q", limit, got, want)
		}
	}
	if names, token := d.all("?limit=0"); len(names) != 0 || token != "" {
		t.Errorf("limit 0: %v %q", names, token)
	}
	ask(t, d.handler, "*", "GET", "/purge-cache/list?continuationToken=a-b", "").want(400, "InputError", "Invalid continuation token")
	ask(t, d.handler, "*", "GET", "/purge-cache/list?limit=x", "").want(400, "InvalidRequestArguments")
	for _, token := range []string{"zz", "00", "1234567890", makeToken(request{pool: "\xff"}), makeToken(request{name: "\x00"})} {
		if names, _ := d.all("?continuationToken=" + token); len(names) != len(want) {
			t.Errorf("the token %q is not taken for the beginning: %v", token, names)
		}
	}
}

func testSince(t *testing.T, d *deployment) {
	d.clock.Advance(123456 * time.Microsecond)
	d.purge("prov/type", "x").want(204)
	for since, want := range map[string]int{
		"2026-05-04T03:02:01.123Z": 1, // inclusive, by the milliseconds that are published
		"2026-05-04T03:02:01.124Z": 0,
		"1969-12-31T00:00:00Z":     1,
		"Mon May 04 2026 03:02:00 GMT+0000 (Coordinated Universal Time)": 1,
		"Mon May 04 2026 03:03:00 GMT+0000 (Coordinated Universal Time)": 0,
	} {
		if names, _ := d.open("prov/type", since); len(names) != want {
			t.Errorf("since %s: %d requests, want %d", since, len(names), want)
		}
	}
	for _, since := range []string{"yesterday", "1970-01-01T00:00:00Z", " ", "NaN", "\x00", "\xff", strings.Repeat("1", 10_000)} {
		ask(t, d.handler, "*", "GET", "/purge-cache/prov/type?since="+url.QueryEscape(since), "").
			want(400, "InvalidRequestArguments", "Query-string parameter: since=", " is not valid, error: Invalid Date")
	}
	ask(t, d.handler, "*", "GET", "/purge-cache/prov/type?since=2026&since=2027", "").want(400, "must be a string")
	ask(t, d.handler, "*", "GET", "/purge-cache/prov/type?until=2026", "").want(400, "until is not supported")
}

func testExpiry(t *testing.T, d *deployment) {
	const old = 1000
	for i := range old + 1 {
		d.purge("prov/type", fmt.Sprint("old ", i)).want(204)
	}
	d.clock.Advance(time.Hour)
	d.purge("prov/type", "new").want(204)
	d.purge("prov/type", "old 7").want(204) // again, and so it stays
	d.clock.Advance(Lifetime - time.Minute)
	left := func() []string { names, _ := d.open("prov/type", ""); return names }
	expire := func() (int, error) {
		done, err := d.service.expiry().Once(t.Context())
		return done.Removed["requests"], err
	}
	if n, err := expire(); err != nil || n != 0 || len(left()) != old+2 {
		t.Fatalf("%d removed within the grace, %v; %d are left", n, err, len(left()))
	}
	d.clock.Advance(2 * time.Minute)
	if n, err := expire(); err != nil || n != old {
		t.Fatalf("%d removed, %v", n, err)
	}
	if got := left(); !slices.Equal(got, []string{"prov/type old 7", "prov/type new"}) {
		t.Errorf("left: %.300v", got)
	}
}

func testLimits(t *testing.T, d *deployment) {
	d.purge("prov/type", strings.Repeat("x", MaxCacheName)).want(204)
	d.purge("prov/type", strings.Repeat("x", MaxCacheName+1)).want(400, "InputError", "The cacheName has 2501 bytes; 2500 are allowed")
	d.service.max = 3
	d.purge("prov/type", "2").want(204)
	d.purge("prov/type", "3").want(204)
	d.purge("prov/type", "4").want(409, "RequestConflict", "prov/type has 3 caches to drop already")
	d.purge("prov/type", "2").want(204) // one that is there
	d.purge("prov/other", "4").want(204)
	if names, _ := d.open("prov/type", ""); len(names) != 3 {
		t.Errorf("got %v", names)
	}
}

// statements runs fn and counts what it asks the database.
func (d *deployment) statements(fn func()) int64 {
	before := d.store.Stats().Statements
	fn()
	return d.store.Stats().Statements - before
}

func testFreshness(t *testing.T, d *deployment) {
	get := func() string { names, _ := d.open("prov/type", ""); return strings.Join(names, ",") }
	if n := d.statements(func() { get() }); n != 1 {
		t.Errorf("the first answer takes %d statements", n)
	}
	if n := d.statements(func() { get(); d.open("prov/type", "2026-01-01") }); n != 0 {
		t.Errorf("answers from memory take %d statements", n)
	}
	for i := range 5 { // never stale, however fast
		d.purge("prov/type", fmt.Sprint(i)).want(204)
		if got := get(); !strings.HasSuffix(got, fmt.Sprint(i)) {
			t.Fatalf("after %d: %s", i, got)
		}
	}
	if n := d.statements(func() { d.purge("prov/other", "x").want(204); get() }); n != 4 {
		t.Errorf("another pool's request takes %d statements", n) // renew, count, insert, audit
	}
	if n := d.statements(func() { d.purge("prov/other", "x").want(204) }); n != 2 {
		t.Errorf("a repetition takes %d statements", n)
	}
	// A request that is undone does not disturb, and neither does a failed query.
	d.clock.Advance(CacheTime)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.service.entries(ctx, "prov/type"); !errors.Is(err, context.Canceled) {
		t.Errorf("a failed query: %v", err)
	}
	if got := get(); got != "prov/type 0,prov/type 1,prov/type 2,prov/type 3,prov/type 4" {
		t.Errorf("after a failed query: %s", got)
	}
}

func testAudit(t *testing.T, d *deployment) {
	ask(t, d.handler, "purge-cache:prov/type:c", "POST", "/purge-cache/prov/type", `{"cacheName":"c"}`).want(204)
	ask(t, d.handler, "purge-cache:prov/type:c", "POST", "/purge-cache/prov/type", `{"cacheName":"d"}`).want(403, "purge-cache:prov/type:d")
	var entries []byte
	err := d.store.Read(t.Context(), func(tx *store.Tx) error { return tx.Row(auditRows).Scan(&entries) })
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`"service":"purge-cache"`, `"method":"purgeCache"`, `"clientId":"caller"`, `"workerPoolId":"prov/type"`} {
		if !strings.Contains(string(entries), text) {
			t.Errorf("no %s in the audit row: %s", text, entries)
		}
	}
}

var auditRows = store.SQL(`SELECT entries FROM api_audit ORDER BY id`)

// What another process stored is seen after CacheTime at the latest.
func testOtherProcess(t *testing.T, d *deployment) {
	_, other := d.another()
	d.open("prov/type", "")
	ask(t, other, "*", "POST", "/purge-cache/prov/type", `{"cacheName":"c"}`).want(204)
	d.clock.Advance(CacheTime)
	if names, _ := d.open("prov/type", ""); len(names) != 1 {
		t.Errorf("got %v", names)
	}
}

// Whoever asks after a request was accepted gets it, while others ask and the
// cache is filled and dropped all the time.
func testRace(t *testing.T, d *deployment) {
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					ask(t, d.handler, "*", "GET", "/purge-cache/prov/type", "")
					runtime.Gosched()
				}
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			for i := range 20 {
				name := fmt.Sprintf("%d-%d", w, i)
				body := fmt.Sprintf(`{"cacheName":%q}`, name)
				if a := ask(t, d.handler, "*", "POST", "/purge-cache/prov/type", body); a.status != 204 {
					t.Errorf("%+v", a)
				}
				if a := ask(t, d.handler, "*", "GET", "/purge-cache/prov/type", ""); !strings.Contains(a.body, `"`+name+`"`) {
					t.Errorf("%s is not in the answer", name)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

func TestScopes(t *testing.T) {
	d := deploy(t)
	body := `{"cacheName":"c"}`
	for _, c := range []struct {
		scopes, verb, path, body string
		status                   int
	}{
		{"", "POST", "/purge-cache/prov/type", body, 403},
		{"purge-cache:prov/type:d", "POST", "/purge-cache/prov/type", body, 403},
		{"purge-cache:prov/other:c", "POST", "/purge-cache/prov/type", body, 403},
		{"purge-cache:prov/type:c", "POST", "/purge-cache/prov/type", body, 204},
		{"", "GET", "/purge-cache/prov/type", "", 403},
		{"purge-cache:purge-requests:prov/type", "GET", "/purge-cache/prov/type", "", 403},
		{"purge-cache:purge-requests::prov/type", "GET", "/purge-cache/prov/type", "", 200},
		{"", "GET", "/purge-cache/list", "", 403},
		{"purge-cache:all-purge-requests", "GET", "/purge-cache/list", "", 200},
		{"", "GET", "/ping", "", 200},
		{"", "GET", "/__heartbeat__", "", 200},
	} {
		ask(t, d.handler, c.scopes, c.verb, c.path, c.body).want(c.status)
	}
}

func TestCacheBudget(t *testing.T) {
	c := newCache(clock.NewFake(started), 1000)
	small := []entry{{json: make([]byte, 100)}}
	for i := range 100 {
		c.put(fmt.Sprint(i), small, c.now())
	}
	if len(c.pools) != 3 || c.bytes > 1000 {
		t.Errorf("%d pools of %d bytes are kept", len(c.pools), c.bytes)
	}
	if _, ok := c.get("99"); !ok {
		t.Error("the latest is not kept")
	}
	c.put("99", []entry{{json: make([]byte, 1000)}}, c.now()) // more than all that there is
	if _, ok := c.get("99"); ok || len(c.pools) != 2 {
		t.Error("what is too large is kept, or made the others go")
	}
	epoch := c.now()
	c.forget("98")
	c.put("98", small, epoch)
	if _, ok := c.get("98"); ok {
		t.Error("what was read before a change is kept")
	}
	c.clear()
	if c.bytes != 0 || len(c.pools) != 0 {
		t.Error("not cleared")
	}
}

func TestExpireLoop(t *testing.T) {
	d := deploy(t)
	d.purge("prov/type", "old").want(204)
	var g lifecycle.Group
	d.clock.Advance(Lifetime)
	d.service.Start(&g)
	gone := func() bool { names, _ := d.open("prov/type", ""); return len(names) == 0 }
	for deadline := time.Now().Add(20 * time.Second); !gone(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("an expired request stays")
		}
		d.clock.Advance(time.Minute) // the loop may not sleep yet
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
