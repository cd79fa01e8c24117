package auth

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
	"taskcluster/internal/testenv"
)

// TestOtherProcess: what one process changes, another learns without asking.
func TestOtherProcess(t *testing.T) {
	d := deploy(t)
	other := d.elsewhere()
	var group lifecycle.Group
	other.Start(&group)
	defer group.Stop(context.Background())
	c := d.client("foo", "assume:r", "auth:current-scopes")
	authenticate := func() string {
		r := d.signedRequest(c)
		got := other.Authenticate(t.Context(), r)
		return got.Message + strings.Join(got.Scopes.Slice(), " ")
	}
	check := func(want string, present bool) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		got := authenticate()
		for strings.Contains(got, want) != present {
			if time.Now().After(deadline) {
				t.Fatalf("%q must be there: %v; in %s", want, present, got)
			}
			runtime.Gosched()
			got = authenticate()
		}
	}
	check("assume:r", true)
	check("granted", false)
	d.role("r", "granted")
	check("granted", true)
	d.call(d.root(), "DELETE", "/roles/r", nil).want(204)
	check("granted", false)
	d.call(d.root(), "POST", "/clients/foo/disable", nil).want(200)
	check("is disabled", true)
	d.call(d.root(), "DELETE", "/clients/foo", nil).want(204)
	check("not found", true)
}

func TestStartAndStop(t *testing.T) {
	d := deploy(t)
	body := d.clientBody()
	body["deleteOnExpiration"] = true
	body["expires"] = "2001-01-01T00:00:00Z"
	d.call(d.root(), "PUT", "/clients/old", body).want(200)
	var group lifecycle.Group
	d.service.Start(&group)
	deadline := time.Now().Add(10 * time.Second)
	for d.call(d.root(), "GET", "/clients/old", nil).status != 404 {
		if time.Now().After(deadline) {
			t.Fatal("the expired client stays")
		}
	}
	if err := group.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRestart(t *testing.T) {
	dir, c := t.TempDir(), testClock()
	d := deployIn(t, dir, c, testStatic())
	foo := d.client("foo", "assume:r", "auth:current-scopes")
	d.role("r", "granted")
	before := d.call(d.root(), "GET", "/clients/", nil).want(200).body
	roles := d.call(d.root(), "GET", "/roles/", nil).want(200).body
	messages := d.published(0)
	d.stop()

	again := deployIn(t, dir, c, testStatic())
	again.call(foo, "GET", "/scopes/current", nil).want(200, "granted")
	if got := again.call(again.root(), "GET", "/clients/", nil).want(200).body; got != before {
		t.Errorf("%s\n%s", before, got)
	}
	if got := again.call(again.root(), "GET", "/roles/", nil).want(200).body; got != roles {
		t.Errorf("%s\n%s", roles, got)
	}
	if got := again.published(0); !slices.Equal(got, messages) {
		t.Error("a start that changes nothing publishes nothing:", got)
	}
	again.call(again.root(), "DELETE", "/roles/anonymous", nil).want(204)
	again.stop()

	third := deployIn(t, dir, c, testStatic())
	third.call(third.root(), "GET", "/roles/anonymous", nil).want(404) // deleted, and so it stays
}

// TestSecretsStayInside looks for every token in all that was logged, answered
// and published.
func TestSecretsStayInside(t *testing.T) {
	d := deploy(t)
	c := d.client("foo", "auth:current-scopes")
	d.replies = &testenv.Buffer{} // createClient's answer has it, and nothing after it
	temporary := d.temporary(c, "", "auth:current-scopes")
	d.call(temporary, "GET", "/scopes/current", nil).want(200)
	wrong := c
	wrong.AccessToken = "a-wrong-token-nobody-should-see"
	d.call(wrong, "GET", "/scopes/current", nil).want(401)
	d.call(c, "DELETE", "/clients/foo", nil).want(403)
	d.call(c, "POST", "/clients/foo", d.clientBody("x")).want(403)
	d.call(d.root(), "GET", "/clients/foo", nil).want(200)
	header := d.signedRequest(c).Authorization
	d.call(nobody, "POST", "/authenticate-hawk", map[string]any{"authorization": header, "resource": 1}).want(400)
	resource := d.bewitResource(c, "/x", time.Hour)
	d.call(nobody, "POST", "/authenticate-hawk", map[string]any{"resource": resource, "method": "nonsense"}).want(400)
	everywhere := d.logged.String() + d.replies.String() + strings.Join(d.published(0), " ")
	_, bewit, _ := strings.Cut(resource, "bewit=")
	for name, text := range map[string]string{
		"the token": c.AccessToken, "the temporary token": temporary.AccessToken, "a wrong token": wrong.AccessToken,
		"root's token": rootTestToken, "a header": header, "a bewit": bewit,
	} {
		if strings.Contains(everywhere, text) {
			t.Errorf("%s can be seen", name)
		}
	}
	var text []byte
	err := d.store.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Row(store.SQL(`SELECT access_token FROM auth_clients WHERE client_id = ?`), "foo").Scan(&text)
	})
	if err != nil || strings.Contains(string(text), c.AccessToken) || len(text) == 0 {
		t.Errorf("stored in clear: %v", err)
	}
}
