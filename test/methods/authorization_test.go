// Package methods tests what holds for every method that a deployment publishes,
// and takes the methods from the published references: a new one takes part as
// soon as it is published, and fails by name until fixtures_test.go says how it
// is called.
package methods

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/hawk"
	"taskcluster/test/harness"
)

// method is an entry of a published reference.
type method struct {
	service, version string

	Name, Method, Route, Input string
	Args, Query                []string
	Scopes                     *expression
}

func (m method) String() string { return m.service + "." + m.Name }

// deferred tells whether more than the URL decides who may call, so that the
// request has to be a good one to be judged.
func (m method) deferred() bool {
	return slices.ContainsFunc(m.Scopes.params(), func(p string) bool { return !slices.Contains(m.Args, p) })
}

// looksItself are methods open to everybody that test credentials: bad ones
// are their affair, and not ignored.
var looksItself = []string{"auth.testAuthenticate", "auth.testAuthenticateGet"}

// TestAuthorization calls every method with all that may go wrong about who
// calls: nobody, somebody with other scopes, each smallest set of scopes that
// suffices, each such set short of one scope, and credentials that are expired,
// altered, or of a client that is disabled. What to expect follows from the scope
// expressions in the references.
func TestAuthorization(t *testing.T) {
	server := harness.Start(t, harness.Binary(t), t.TempDir(), withBroker(t)...)
	defer server.Stop()
	w := newWorld(t, server)
	bad := w.badCredentials()
	methods := w.methods()
	if len(methods) < 90 {
		t.Fatalf("only %d methods are published", len(methods))
	}
	t.Run("methods", func(t *testing.T) {
		for _, m := range methods {
			t.Run(m.String(), func(t *testing.T) {
				t.Parallel()
				c := matrix{t, w.in(t), m}
				if m.Scopes == nil {
					c.open(bad)
					return
				}
				c.restricted(bad)
			})
		}
	})
}

// matrix is what is checked of one method.
type matrix struct {
	t *testing.T
	w *world
	m method
}

// open: a method for everybody doesn't look at credentials.
func (c matrix) open(bad map[string]hawk.Credentials) {
	f := c.w.fixture(c.m)
	want := c.w.call(c.m, f, hawk.Credentials{})
	if slices.Contains(looksItself, c.m.String()) {
		return
	}
	if want.refused() || f.succeeds && want.status != http.StatusOK {
		c.t.Errorf("%s, which is open to everybody, without credentials: %v", c.m, want)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		if got := c.w.call(c.m, f, bad[name]); got.status != want.status {
			c.t.Errorf("%s, which is open to everybody, with %s: %v, and without: %v", c.m, name, got, want)
		}
	}
}

// restricted: a method with a scope expression.
func (c matrix) restricted(bad map[string]hawk.Credentials) {
	needs := c.needs(c.w.fixture(c.m))
	if len(needs) == 0 {
		c.t.Fatalf("%s: no set of scopes suffices", c.m)
	}
	needed := len(needs[0]) > 0
	if needed {
		c.wantRefused("no credentials", nil, http.StatusForbidden, func([]need) hawk.Credentials { return hawk.Credentials{} })
	}
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		c.wantRefused(name, nil, http.StatusUnauthorized, func([]need) hawk.Credentials { return bad[name] })
	}
	if needed {
		c.wantRefused("an unrelated scope", []string{"unrelated:scope"}, http.StatusForbidden, func([]need) hawk.Credentials {
			return c.w.only("unrelated:scope")
		})
	}
	for i, set := range needs {
		c.wantAllowed("just these as authorizedScopes", set, func(n []need) hawk.Credentials { return c.w.only(n[i]...) })
		c.wantAllowed("just these in temporary credentials", set, func(n []need) hawk.Credentials { return c.w.temporary(n[i]...) })
		for j := range set {
			c.wantRefused("without "+set[j], set, http.StatusForbidden, func(n []need) hawk.Credentials {
				return c.short(n, slices.Delete(slices.Clone(n[i]), j, j+1))
			})
			c.wantRefused("something longer than "+set[j], set, http.StatusForbidden, func(n []need) hawk.Credentials {
				longer := slices.Clone(n[i])
				longer[j] += "-"
				return c.short(n, longer)
			})
			c.wantAllowed("a star for the end of "+set[j], set, func(n []need) hawk.Credentials {
				star := slices.Clone(n[i])
				star[j] = star[j][:len(star[j])/2] + "*"
				return c.w.only(star...)
			})
		}
	}
}

// needs are the sets that suffice for a call.
func (c matrix) needs(f fixture) []need {
	needs, err := c.m.Scopes.needs(f.values)
	if err != nil {
		c.t.Fatalf("%s: the fixture does not fit the scope expression: %v", c.m, err)
	}
	return needs
}

// short is credentials with scopes that must not suffice.
func (c matrix) short(needs []need, scopes []string) hawk.Credentials {
	for _, n := range needs {
		if within(n, scopes) {
			c.t.Fatalf("%s: %q was to fall short, and suffices", c.m, scopes)
		}
	}
	return c.w.only(scopes...)
}

// Each call has a fixture of its own, as calls change what they are about.

func (c matrix) wantRefused(what string, set []string, status int, as func([]need) hawk.Credentials) {
	f := c.w.fixture(c.m)
	got := c.call(f, as)
	code := map[int]string{http.StatusUnauthorized: "AuthenticationFailed", http.StatusForbidden: "InsufficientScopes"}[status]
	if got.status != status || got.code != code {
		c.t.Errorf("%s, %s, of %q: %v, want %d %s", c.m, what, set, got, status, code)
	}
}

func (c matrix) wantAllowed(what string, set []string, as func([]need) hawk.Credentials) {
	f := c.w.fixture(c.m)
	got := c.call(f, as)
	if got.refused() || got.status >= 500 || (f.succeeds || c.m.deferred()) && got.status >= 400 && !slices.Contains(f.or, got.status) {
		c.t.Errorf("%s, %s, %q: %v, want it allowed", c.m, what, set, got)
	}
}

func (c matrix) call(f fixture, as func([]need) hawk.Credentials) answer {
	a := c.w.call(c.m, f, as(c.needs(f)))
	if f.verdict != nil && a.status == http.StatusOK {
		a = f.verdict(a)
	}
	return a
}

// answer is what came back.
type answer struct {
	status int
	code   string
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %.200s", a.status, a.body) }

func (a answer) refused() bool {
	return a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
}

// call makes one call. Credentials without a client id are none.
func (w *world) call(m method, f fixture, as hawk.Credentials) answer {
	w.t.Helper()
	path := "/api/" + m.service + "/" + m.version
	for part := range strings.SplitSeq(strings.TrimPrefix(m.Route, "/"), "/") {
		if name, ok := strings.CutPrefix(part, "<"); ok {
			value, ok := f.url[strings.TrimSuffix(name, ">")]
			if !ok {
				w.t.Fatalf("%s: no fixture has a value for the argument %s", m, part)
			}
			part = url.PathEscape(value)
		}
		path += "/" + part
	}
	if f.query != "" {
		path += "?" + f.query
	}
	return w.send(strings.ToUpper(m.Method), path, f.body, as)
}

// methods reads what the deployment publishes.
func (w *world) methods() []method {
	var manifest struct{ References []string }
	w.read("/references/manifest.json", &manifest)
	var all []method
	for _, at := range manifest.References {
		path := strings.TrimPrefix(at, w.server.RootURL)
		if !strings.HasSuffix(path, "/api.json") {
			continue
		}
		var reference struct {
			ServiceName, APIVersion string
			Entries                 []method
		}
		w.read(path, &reference)
		for _, m := range reference.Entries {
			m.service, m.version = reference.ServiceName, reference.APIVersion
			all = append(all, m)
		}
	}
	return all
}

func (w *world) read(path string, into any) {
	w.t.Helper()
	a := w.send("GET", path, nil, hawk.Credentials{})
	if err := json.Unmarshal([]byte(a.body), into); err != nil || a.status != http.StatusOK {
		w.t.Fatalf("%s: %v %v", path, a, err)
	}
}

// badCredentials are such that nobody may be let in with, by what is bad about
// them. They would give every scope.
func (w *world) badCredentials() map[string]hawk.Credentials {
	w.t.Helper()
	now := time.Now()
	temporary := func(start, expiry time.Time, scopes ...string) hawk.Credentials {
		c, err := w.root.Temporary(hawk.TemporaryOptions{Scopes: scopes, Start: start, Expiry: expiry})
		if err != nil {
			w.t.Fatal(err)
		}
		return c
	}
	wrong := w.root
	wrong.AccessToken = strings.Repeat("x", 44)
	altered := temporary(now.Add(-time.Minute), now.Add(time.Hour), "unrelated:scope")
	altered.Certificate = strings.Replace(altered.Certificate, `["unrelated:scope"]`, `["*"]`, 1)
	prolonged := temporary(now.Add(-2*time.Hour), now.Add(-time.Hour), "*")
	prolonged.Certificate = strings.Replace(prolonged.Certificate,
		fmt.Sprint(now.Add(-time.Hour).UnixMilli()), fmt.Sprint(now.Add(time.Hour).UnixMilli()), 1)
	nobody := hawk.Credentials{ClientID: "matrix/nobody", AccessToken: strings.Repeat("x", 44)}
	more := w.client("matrix/small", now.Add(time.Hour), "unrelated:scope")
	more.AuthorizedScopes = []string{"*"}
	disabled := w.client("matrix/disabled", now.Add(time.Hour), "*")
	w.must("POST", "/api/auth/v1/clients/matrix%2Fdisabled/disable", nil)
	gone := w.client("matrix/gone", now.Add(time.Hour), "*")
	w.must("DELETE", "/api/auth/v1/clients/matrix%2Fgone", nil)
	return map[string]hawk.Credentials{
		"a wrong access token":                    wrong,
		"expired temporary credentials":           temporary(now.Add(-2*time.Hour), now.Add(-time.Hour), "*"),
		"temporary credentials of the future":     temporary(now.Add(time.Hour), now.Add(2*time.Hour), "*"),
		"a certificate with other scopes":         altered,
		"a certificate with another expiry":       prolonged,
		"a client that there is not":              nobody,
		"authorizedScopes that the client hasn't": more,
		"a disabled client":                       disabled,
		"an expired client":                       w.client("matrix/expired", now.Add(-time.Hour), "*"),
		"a deleted client":                        gone,
	}
}
