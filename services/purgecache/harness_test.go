package purgecache

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/schema"
	"taskcluster/internal/scopes"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

// callers is who calls in these tests: whoever names scopes has them. Real
// signatures are checked where the whole program runs.
type callers struct{}

func (callers) Authenticate(_ context.Context, r api.AuthRequest) *api.AuthResult {
	if r.Authorization == "" {
		return &api.AuthResult{Status: api.NoAuth}
	}
	return &api.AuthResult{Status: api.AuthSuccess, ClientID: "caller", Scopes: scopes.NewSet(strings.Split(r.Authorization, "\n")...)}
}

// deployment is the service over a real store, behind the HTTP API.
type deployment struct {
	t       testing.TB
	clock   *clock.Fake
	store   *store.Store
	service *Service
	schemas *schema.Set
	handler http.Handler
}

var started = clock.Of(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC))

func allMigrations() []store.Migrations { return []store.Migrations{api.Migrations(), Migrations()} }

func deploy(t testing.TB) *deployment {
	c := clock.NewFake(started)
	return deployOn(t, c, storetest.Open(t, store.Options{Clock: c, Migrations: allMigrations()}))
}

func deployOn(t testing.TB, c *clock.Fake, db *store.Store) *deployment {
	t.Helper()
	d := &deployment{t: t, clock: c, store: db}
	d.service, d.handler = d.another()
	var err error
	if d.schemas, err = schema.Load(d.service.API().Schemas); err != nil {
		t.Fatal(err)
	}
	return d
}

// another is a further service over the same store, as another process has it.
func (d *deployment) another() (*Service, http.Handler) {
	d.t.Helper()
	s, err := New(Config{Store: d.store, Clock: d.clock})
	if err != nil {
		d.t.Fatal(err)
	}
	schemas, err := schema.Load(s.API().Schemas)
	if err != nil {
		d.t.Fatal(err)
	}
	server, err := api.New(api.Options{
		RootURL: "https://tc.example.com", Schemas: schemas, Auth: callers{}, Clock: d.clock, Log: slog.New(slog.DiscardHandler),
	}, s.API())
	if err != nil {
		d.t.Fatal(err)
	}
	return s, server
}

// answer is what came back.
type answer struct {
	t      testing.TB
	status int
	body   string
}

// ask sends a request to a handler; scopes are given one on a line.
func ask(t testing.TB, h http.Handler, scopes, verb, path, body string) answer {
	t.Helper()
	r := httptest.NewRequest(verb, "/api/purge-cache/v1"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if scopes != "" {
		r.Header.Set("Authorization", scopes)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{t, w.Code, w.Body.String()}
}

// want checks the status and that the answer, or the error's code and message,
// has each of the texts.
func (a answer) want(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	got := a.body
	if status >= 400 {
		var e struct{ Code, Message string }
		if err := json.Unmarshal([]byte(a.body), &e); err != nil {
			a.t.Fatalf("%v: %s", err, a.body)
		}
		got = e.Code + " " + e.Message
	}
	for _, text := range texts {
		if !strings.Contains(got, text) {
			a.t.Errorf("the answer lacks %q: %s", text, a.body)
		}
	}
	return a
}

// purge asks for a cache to be dropped.
func (d *deployment) purge(pool, name string) answer {
	d.t.Helper()
	body, err := json.Marshal(map[string]string{"cacheName": name})
	if err != nil {
		d.t.Fatal(err)
	}
	return ask(d.t, d.handler, "*", "POST", "/purge-cache/"+url.PathEscape(pool), string(body))
}

// names are the caches of an answer, which must fit its schema, with their
// pools: "prov/type cache", and beside them their times.
func (d *deployment) names(a answer, output string) (names, before []string, token string) {
	d.t.Helper()
	a.want(200)
	sc, err := d.schemas.Schema("purge-cache", output)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, _, problems, err := sc.Decode([]byte(a.body)); err != nil || problems != nil {
		d.t.Fatalf("the answer does not fit %s: %v %v\n%s", output, problems, err, a.body)
	}
	var got AllPurgeCacheRequestList
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		d.t.Fatal(err)
	}
	for _, r := range got.Requests {
		names = append(names, r.ProvisionerID+"/"+r.WorkerType+" "+r.CacheName)
		before = append(before, r.Before.String())
	}
	return names, before, got.ContinuationToken
}

// open are the requests that a worker of the pool gets.
func (d *deployment) open(pool, since string) (names, before []string) {
	d.t.Helper()
	path := "/purge-cache/" + pool
	if since != "" {
		path += "?since=" + url.QueryEscape(since)
	}
	names, before, _ = d.names(ask(d.t, d.handler, "*", "GET", path, ""), "v1/purge-cache-request-list.json#")
	return names, before
}

// all is one page of all requests.
func (d *deployment) all(query string) (names []string, token string) {
	d.t.Helper()
	names, _, token = d.names(ask(d.t, d.handler, "*", "GET", "/purge-cache/list"+query, ""), "v1/all-purge-cache-request-list.json#")
	return names, token
}
