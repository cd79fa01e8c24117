package auth

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/hawk"
)

// TestStaticConfiguration is B28: what is wrong with a configuration is named.
func TestStaticConfiguration(t *testing.T) {
	change := func(edit func([]StaticClient) []StaticClient) []StaticClient { return edit(testStatic()) }
	for _, c := range []struct {
		name   string
		static []StaticClient
		want   []string
	}{
		{"B28 scopes on the deployment's own", change(func(all []StaticClient) []StaticClient {
			all[0].Scopes = []string{"x"}
			return all
		}), []string{`"static/taskcluster/built-in-workers"`, "scopes are not allowed"}},
		{"B28 missing ones", change(func(all []StaticClient) []StaticClient { return all[2:] }),
			[]string{`"static/taskcluster/built-in-workers" is missing`, `"static/taskcluster/github" is missing`}},
		{"B28 one too many", change(func(all []StaticClient) []StaticClient {
			return append(all, StaticClient{ClientID: "static/taskcluster/extra", AccessToken: testToken("extra")})
		}), []string{`"static/taskcluster/extra": there is no such client`}},
		{"the reserved prefix without a slash", change(func(all []StaticClient) []StaticClient {
			return append(all, StaticClient{ClientID: "static/taskclusterx", AccessToken: testToken("extra")})
		}), []string{`"static/taskclusterx": there is no such client`}},
		{"another prefix", change(func(all []StaticClient) []StaticClient {
			return append(all, StaticClient{ClientID: "mine", AccessToken: testToken("mine"), Description: "x", Scopes: []string{}})
		}), []string{`"mine"`, `must begin with "static/"`}},
		{"short token", change(func(all []StaticClient) []StaticClient {
			all[3].AccessToken = "short-token"
			return all
		}), []string{"static/taskcluster/index", "accessToken must match"}},
		{"twice", change(func(all []StaticClient) []StaticClient { return append(all, all[0]) }), []string{"configured twice"}},
		{"others need scopes and description", change(func(all []StaticClient) []StaticClient {
			return append(all, StaticClient{ClientID: "static/mine", AccessToken: testToken("mine")})
		}), []string{`"static/mine": scopes and description are needed`}},
		{"two stars", change(func(all []StaticClient) []StaticClient {
			return append(all, StaticClient{ClientID: "static/mine", AccessToken: testToken("mine"), Description: "x", Scopes: []string{"a**"}})
		}), []string{"scopes must not end with `**`"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := checkStatic(c.static)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing: %v", want, err)
				}
			}
			for _, static := range c.static {
				if strings.Contains(err.Error(), static.AccessToken) {
					t.Errorf("the error shows a token: %v", err)
				}
			}
		})
	}
	if text := fmt.Sprintf("%v %+v %#v %s", testStatic(), testStatic(), testStatic()[0], testStatic()[0]); strings.Contains(text, rootTestToken) {
		t.Error("formatting shows a token")
	}
}

func TestStaticSync(t *testing.T) {
	dir, c := t.TempDir(), testClock()
	mine := StaticClient{ClientID: "static/mine", AccessToken: testToken("mine"), Description: "Mine", Scopes: []string{"b", "auth:current-scopes"}}
	d := deployIn(t, dir, c, append(testStatic(), mine))
	a := d.call(d.root(), "GET", clientPath("static/mine"), nil).want(200, `"scopes":["b","auth:current-scopes"]`, `"disabled":false`)
	if want := "Mine\n---\nThis is a **static client** inserted into this taskcluster deployment\nthrough static configuration. To modify this client you must contact the\nadministrator who deploys this taskcluster instance."; a.string("description") != want {
		t.Error(a.string("description"))
	}
	if got := a.string("expires"); got != "3025-09-04T03:02:01.000Z" { // 1000 years of 365 days
		t.Error(got)
	}
	if got := d.call(d.root(), "GET", clientPath("static/taskcluster/hooks"), nil).want(200).string("description"); !strings.HasPrefix(got, "Internal client\n---\n") {
		t.Error(got)
	}
	d.stop()

	c.Advance(time.Hour)
	changed := mine
	changed.AccessToken, changed.Scopes = testToken("changed"), []string{"auth:current-scopes", "c"}
	d = deployIn(t, dir, c, append(testStatic(), changed))
	b := d.call(d.root(), "GET", clientPath("static/mine"), nil).want(200, `"scopes":["auth:current-scopes","c"]`)
	if b.string("expires") != a.string("expires") || b.string("created") != a.string("created") || b.string("lastRotated") == a.string("lastRotated") {
		t.Error(b.body)
	}
	d.call(hawk.Credentials{ClientID: "static/mine", AccessToken: mine.AccessToken}, "GET", "/scopes/current", nil).want(401)
	d.call(hawk.Credentials{ClientID: "static/mine", AccessToken: changed.AccessToken}, "GET", "/scopes/current", nil).want(200, `"c"`)
	d.stop()

	d = deployIn(t, dir, c, testStatic())
	d.call(d.root(), "GET", clientPath("static/mine"), nil).want(404)
	for _, id := range InternalClients() {
		d.call(d.root(), "GET", clientPath(id), nil).want(200)
	}
}

// TestSeeds: what a new deployment lets everybody do, and what it does not.
func TestSeeds(t *testing.T) {
	d := deploy(t)
	everybody := d.service.Authenticate(t.Context(), d.signedRequest(d.client("new"))).Scopes
	for _, scope := range []string{
		"queue:get-task:x", "queue:status:x", "queue:list-task-group:x", "queue:list-dependent-tasks:x",
		"queue:get-artifact:public/build/x", "queue:list-artifacts:x", "queue:pending-count:a/b", "queue:claimed-count:a/b",
		"queue:pending-list:a/b", "queue:claimed-list:a/b", "queue:list-task-queues", "queue:get-worker:a/b/c/d", "index:find-task:a.b",
	} {
		if !everybody.Has(scope) {
			t.Errorf("everybody should have %s", scope)
		}
	}
	for _, scope := range []string{"queue:get-artifact:private/x", "queue:create-task:lowest:a/b", "auth:create-client:x", "secrets:get:x", "queue:claim-work:a/b"} {
		if everybody.Has(scope) {
			t.Errorf("nobody in particular should have %s", scope)
		}
	}
	for id, want := range map[string]int{"root": 1, "queue": 1, "built-in-workers": 2, "hooks": 3, "index": 2, "notify": 1, "worker-manager": 14, "github": 14, "web-server": 17, "object": 0, "purge-cache": 0, "secrets": 0} {
		if got := serviceScopes()[id]; len(got) != want {
			t.Errorf("%s has %d scopes: %q", id, len(got), got)
		}
	}
	if got := InternalClients(); len(got) != 12 || !slices.IsSorted(got) {
		t.Error(got)
	}
}
