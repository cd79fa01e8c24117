package auth

import (
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/hawk"
)

func TestCreateClientIdempotency(t *testing.T) {
	d := deploy(t)
	body := d.clientBody("b", "a")
	first := d.call(d.root(), "PUT", "/clients/foo", body).want(200)
	with := func(name string, value any) map[string]any {
		changed := map[string]any{}
		for k, v := range body {
			changed[k] = v
		}
		if changed[name] = value; value == nil {
			delete(changed, name)
		}
		return changed
	}
	t.Run("B15 the same again", func(t *testing.T) {
		again := d.call(d.root(), "PUT", "/clients/foo", body).want(200)
		if again.body != first.body || !slices.Equal(again.strings("scopes"), []string{"b", "a"}) {
			t.Errorf("%s\n%s", first.body, again.body)
		}
	})
	t.Run("deleteOnExpiration is not compared", func(t *testing.T) {
		d.call(d.root(), "PUT", "/clients/foo", with("deleteOnExpiration", true)).want(200, `"deleteOnExpiration":false`)
	})
	for name, other := range map[string]map[string]any{
		"B15 another description":  with("description", "another"),
		"scopes in another order":  with("scopes", []string{"a", "b"}),
		"another expiry":           with("expires", d.clock.Now().Add(time.Hour).String()),
		"scopes that are left out": with("scopes", nil),
	} {
		t.Run(name, func(t *testing.T) {
			d.call(d.root(), "PUT", "/clients/foo", other).want(409, "RequestConflict", "Client already exists")
		})
	}
	t.Run("disabled in the meantime", func(t *testing.T) {
		d.call(d.root(), "POST", "/clients/foo/disable", nil).want(200, `"disabled":true`)
		d.call(d.root(), "PUT", "/clients/foo", body).want(409)
		d.call(d.root(), "POST", "/clients/foo/enable", nil).want(200, `"disabled":false`)
		d.call(d.root(), "PUT", "/clients/foo", body).want(200)
	})
	t.Run("a quarter of an hour later", func(t *testing.T) {
		d.clock.Advance(15*time.Minute - time.Second)
		d.call(d.root(), "PUT", "/clients/foo", body).want(200)
		d.clock.Advance(time.Second)
		d.call(d.root(), "PUT", "/clients/foo", body).want(409)
	})
}

func TestClients(t *testing.T) {
	t.Run("B16 a failed transaction leaves nothing, and repetition succeeds", func(t *testing.T) {
		d := deploy(t)
		body := d.clientBody()
		before := d.events.Head()
		working := d.service.log
		d.service.log = brokenLog(t)
		d.call(d.root(), "PUT", "/clients/foo", body).want(500, "Internal Server Error, incidentId")
		d.service.log = working
		d.call(d.root(), "GET", "/clients/foo", nil).want(404, "Client not found")
		d.call(d.root(), "PUT", "/clients/foo", body).want(200)
		if got := d.published(before); !slices.Equal(got, []string{"client-created foo"}) {
			t.Error(got)
		}
	})
	t.Run("B17 without scopes", func(t *testing.T) {
		d := deploy(t)
		body := d.clientBody()
		delete(body, "scopes")
		d.call(d.root(), "PUT", "/clients/foo", body).want(200, `"scopes":[]`, `"expandedScopes":[]`)
	})
	t.Run("expires in the past is allowed", func(t *testing.T) {
		d := deploy(t)
		body := d.clientBody()
		body["expires"] = "2001-01-01T00:00:00Z"
		d.call(d.root(), "PUT", "/clients/foo", body).want(200, `"2001-01-01T00:00:00.000Z"`)
	})
	t.Run("B18 the token is shown once", func(t *testing.T) {
		d := deploy(t)
		c := d.client("foo")
		if len(c.AccessToken) != 44 {
			t.Errorf("a token of %d characters", len(c.AccessToken))
		}
		for _, a := range []answer{
			d.call(d.root(), "GET", "/clients/foo", nil),
			d.call(d.root(), "GET", "/clients/", nil),
			d.call(d.root(), "POST", "/clients/foo", d.clientBody()),
			d.call(d.root(), "POST", "/clients/foo/disable", nil),
		} {
			if a.want(200); strings.Contains(a.body, "accessToken") || strings.Contains(a.body, c.AccessToken) {
				t.Errorf("%s shows the token", a.method)
			}
		}
	})
	t.Run("B19 reset", func(t *testing.T) {
		d := deploy(t)
		old := d.client("foo", "auth:current-scopes")
		d.call(old, "GET", "/scopes/current", nil).want(200)
		d.clock.Advance(time.Minute)
		a := d.call(d.root(), "POST", "/clients/foo/reset", nil).want(200)
		if a.string("lastRotated") != a.string("lastModified") || a.string("lastRotated") <= a.string("created") {
			t.Error(a.body)
		}
		d.call(old, "GET", "/scopes/current", nil).want(401, "Unauthorized: Bad mac")
		d.call(hawk.Credentials{ClientID: "foo", AccessToken: a.string("accessToken")}, "GET", "/scopes/current", nil).want(200)
	})
	t.Run("B20 update", func(t *testing.T) {
		d := deploy(t)
		d.client("foo", "b", "a")
		d.clock.Advance(time.Minute)
		body := map[string]any{"description": "other", "expires": "2030-01-01T00:00:00.000Z", "deleteOnExpiration": true}
		a := d.call(d.root(), "POST", "/clients/foo", body).want(200,
			`"description":"other"`, `"2030-01-01T00:00:00.000Z"`, `"deleteOnExpiration":true`, `"scopes":["b","a"]`)
		if a.string("lastRotated") != a.string("created") || a.string("lastModified") <= a.string("created") {
			t.Error(a.body)
		}
		delete(body, "deleteOnExpiration")
		body["scopes"] = []string{}
		d.call(d.root(), "POST", "/clients/foo", body).want(200, `"deleteOnExpiration":false`, `"scopes":[]`)
	})
	t.Run("B21 two stars at the end", func(t *testing.T) {
		d := deploy(t)
		weak := d.client("weak")
		d.client("foo")
		for _, scope := range []string{"a**", "a***", "**"} {
			d.call(weak, "PUT", "/clients/bar", d.clientBody(scope)).want(400, "InputError", "scopes must not end with `**`")
			d.call(weak, "POST", "/clients/foo", d.clientBody(scope)).want(400, "InputError")
		}
	})
	t.Run("B22 deletion", func(t *testing.T) {
		d := deploy(t)
		c := d.client("foo", "auth:current-scopes")
		d.call(c, "GET", "/scopes/current", nil).want(200)
		before := d.events.Head()
		d.call(d.root(), "DELETE", "/clients/foo", nil).want(204)
		d.call(d.root(), "DELETE", "/clients/foo", nil).want(204)
		if got := d.published(before); !slices.Equal(got, []string{"client-deleted foo"}) {
			t.Error(got)
		}
		d.call(c, "GET", "/scopes/current", nil).want(401, "Client with clientId 'foo' not found")
	})
	t.Run("B22 static clients", func(t *testing.T) {
		d := deploy(t)
		weak := d.client("weak")
		reserved := `clientId "static/taskcluster/queue" starts with "static/" which is reserved for statically configured clients.`
		path := clientPath("static/taskcluster/queue")
		for _, call := range [][2]string{{"PUT", path}, {"POST", path}, {"POST", path + "/reset"}, {"POST", path + "/enable"}, {"POST", path + "/disable"}, {"DELETE", path}} {
			var body any
			byURL := true
			if call[1] == path && call[0] != "DELETE" {
				body, byURL = d.clientBody(), false
			}
			d.call(d.root(), call[0], call[1], body).want(400, "InputError", reserved)
			if byURL {
				d.call(weak, call[0], call[1], body).want(403)
			} else {
				d.call(weak, call[0], call[1], body).want(400, "InputError", reserved)
			}
		}
	})
	t.Run("B23 bad credentials", func(t *testing.T) {
		d := deploy(t)
		d.client("foo")
		a := d.call(hawk.Credentials{ClientID: "ghost", AccessToken: "x"}, "DELETE", "/clients/foo", nil).want(401, "AuthenticationFailed", "Client with clientId 'ghost' not found")
		if a.header.Get("WWW-Authenticate") != "hawk" {
			t.Error(a.header)
		}
		d.call(hawk.Credentials{ClientID: "foo", AccessToken: "x"}, "DELETE", "/clients/foo", nil).want(401, "AuthenticationFailed", "Unauthorized: Bad mac")
		d.call(nobody, "DELETE", "/clients/foo", nil).want(403, "This request requires Taskcluster credentials")
	})
	t.Run("missing ones", func(t *testing.T) {
		d := deploy(t)
		d.call(d.root(), "GET", "/clients/foo", nil).want(404, "ResourceNotFound", "Client not found")
		d.call(d.root(), "POST", "/clients/foo/enable", nil).want(404)
		d.call(d.root(), "POST", "/clients/foo/disable", nil).want(404)
		d.call(d.root(), "POST", "/clients/foo/reset", nil).want(404)
		// Before authorization.
		d.call(nobody, "POST", "/clients/foo", d.clientBody("x")).want(404)
		// Bad names come after authorization.
		d.call(d.root(), "GET", clientPath("a b"), nil).want(400, "InvalidRequestArguments")
		d.call(nobody, "GET", clientPath("a b"), nil).want(403)
	})
	t.Run("B24 listing", func(t *testing.T) {
		d := deploy(t)
		for _, id := range []string{"a/2", "a/1", "b", "A", "a", "a|"} {
			d.client(id)
		}
		list := func(query string) (ids []string, token string) {
			a := d.call(d.root(), "GET", "/clients/?"+query, nil).want(200)
			for _, c := range a.object()["clients"].([]any) {
				ids = append(ids, c.(map[string]any)["clientId"].(string))
			}
			return ids, a.string("continuationToken")
		}
		if ids, token := list("prefix=a"); !slices.Equal(ids, []string{"a", "a/1", "a/2", "a|"}) || token != "" {
			t.Error(ids, token)
		}
		if ids, token := list("prefix=a&limit=4"); len(ids) != 4 || token != "" {
			t.Error("a full last page has no token:", ids, token)
		}
		var all []string
		token := ""
		for range 10 {
			ids, next := list("prefix=a&limit=1" + token)
			all = append(all, ids...)
			if next == "" {
				break
			}
			token = "&continuationToken=" + next
		}
		if !slices.Equal(all, []string{"a", "a/1", "a/2", "a|"}) {
			t.Error(all)
		}
		if ids, token := list("limit=0"); len(ids) != 0 || token != "" {
			t.Error(ids, token)
		}
		if ids, _ := list("prefix=a&limit=1&continuationToken=FOOBAR"); !slices.Equal(ids, []string{"a"}) {
			t.Error("a token without meaning starts over:", ids)
		}
		d.role("r-1")
		d.role("r-2")
		for _, path := range []string{"/roles2/?limit=1", "/roleids/?limit=1", "/clients/a/audit?limit=1", "/audit/client/a?limit=1"} {
			d.call(d.root(), "POST", "/clients/a", d.clientBody()).want(200)
			other := d.call(d.root(), "GET", path, nil).string("continuationToken")
			if strings.HasPrefix(path, "/clients/") { // root has done more than a
				other = d.call(d.root(), "GET", clientPath(rootID)+"/audit?limit=1", nil).string("continuationToken")
			}
			if other == "" {
				t.Fatal(path, "has no second page")
			}
			if ids, _ := list("prefix=a&limit=1&continuationToken=" + other); !slices.Equal(ids, []string{"a"}) {
				t.Errorf("the token of %s starts over: %s", path, ids)
			}
			_, own := list("limit=3")
			if path := strings.Replace(path, "/clients/a/", clientPath(rootID)+"/", 1); d.call(d.root(), "GET", path, nil).string("continuationToken") == "" {
				t.Error(path)
			} else if strings.HasPrefix(path, "/role") { // refuses what means nothing
				d.call(d.root(), "GET", path+"&continuationToken="+own, nil).want(400, "Invalid continuation token")
			} else if first := d.call(d.root(), "GET", path, nil); d.call(d.root(), "GET", path+"&continuationToken="+own, nil).body != first.body {
				t.Errorf("%s: a client's token does not start over", path)
			}
		}
		for _, token := range []string{"x", "0", "AAAAAAA", "AAAAAAAA", strings.Repeat("A", 2000)} {
			if ids, _ := list("prefix=a&limit=1&continuationToken=" + token); !slices.Equal(ids, []string{"a"}) {
				t.Errorf("%.20s starts over: %s", token, ids)
			}
		}
		for _, token := range []string{"x-", "%20", "A%3D", "%C3%A9", "a,b"} {
			d.call(d.root(), "GET", "/clients/?continuationToken="+token, nil).want(400, "InputError", "Invalid continuation token")
		}
		d.call(d.root(), "GET", "/clients/?continuationToken=%00", nil).want(400, "InvalidRequestArguments")
		d.call(d.root(), "GET", "/clients/?continuationToken=%40%40something%23%23", nil).want(400, "InputError", "Invalid continuation token")
		d.call(d.root(), "GET", "/clients/?prefix=%20", nil).want(400, "InvalidRequestArguments")
		d.call(d.root(), "GET", "/clients/?other=1", nil).want(400, "InvalidRequestArguments")
	})
	t.Run("B26 expiry", func(t *testing.T) {
		d := deploy(t)
		body := d.clientBody("auth:current-scopes")
		body["expires"] = d.clock.Now().Add(time.Minute).String()
		keep := hawk.Credentials{ClientID: "keep", AccessToken: d.call(d.root(), "PUT", "/clients/keep", body).want(200).string("accessToken")}
		body["deleteOnExpiration"] = true
		d.call(d.root(), "PUT", "/clients/drop", body).want(200)
		d.clock.Advance(time.Minute)
		d.call(keep, "GET", "/scopes/current", nil).want(200)
		purge(t, d)
		d.call(d.root(), "GET", "/clients/drop", nil).want(200)
		d.clock.Advance(time.Millisecond)
		d.call(keep, "GET", "/scopes/current", nil).want(401, "Client with clientId: 'keep' has expired")
		before := d.events.Head()
		purge(t, d)
		d.call(d.root(), "GET", "/clients/keep", nil).want(200)
		d.call(d.root(), "GET", "/clients/drop", nil).want(404)
		d.call(d.root(), "GET", "/audit/client/drop", nil).want(200, `"actionType":"expired"`, `"clientId":"static/taskcluster/auth"`)
		if got := d.published(before); got != nil {
			t.Error("the purge publishes nothing:", got)
		}
	})
	t.Run("B29 what a creator may hand on", func(t *testing.T) {
		d := deploy(t)
		issuer := d.client("idp", "auth:create-client:idp/*", "auth:update-client:idp/*", "a:*", "b")
		login, err := issuer.Temporary(hawk.TemporaryOptions{
			Name: "idp/person", Scopes: []string{"auth:create-client:idp/person/*", "auth:update-client:idp/person/*", "a:*"},
			Start: d.clock.Now().Std(), Expiry: d.clock.Now().Add(time.Hour).Std(),
		})
		if err != nil {
			t.Fatal(err)
		}
		// The issuer itself lacks auth:create-client:idp/person/* as such, but satisfies it.
		path := clientPath("idp/person/laptop")
		d.call(login, "PUT", path, d.clientBody("b")).want(403, "InsufficientScopes", "b")
		d.call(login, "PUT", path, d.clientBody("a:1", "a:2")).want(200)
		d.call(d.root(), "POST", path, d.clientBody("a:1", "b")).want(200)
		d.call(login, "POST", path, d.clientBody("b")).want(200) // removes a:1, keeps b
		d.call(login, "POST", path, d.clientBody("b", "c")).want(403, "c")
		d.call(login, "POST", path, d.clientBody("b", "a:9")).want(200)
		d.call(login, "PUT", clientPath("other"), d.clientBody()).want(403)
	})
	t.Run("updateClient compares scopes as text", func(t *testing.T) {
		d := deploy(t)
		d.client("foo", "x:*")
		editor := d.client("editor", "auth:update-client:foo")
		d.call(editor, "POST", "/clients/foo", d.clientBody("x:*")).want(200)
		d.call(editor, "POST", "/clients/foo", d.clientBody("x:*", "x:y")).want(403, "x:y")
	})
	t.Run("a disabled client, and what it issued", func(t *testing.T) {
		d := deploy(t)
		c := d.client("foo", "auth:current-scopes")
		temporary, err := c.Temporary(hawk.TemporaryOptions{Scopes: []string{"auth:current-scopes"}, Start: d.clock.Now().Std(), Expiry: d.clock.Now().Add(time.Hour).Std()})
		if err != nil {
			t.Fatal(err)
		}
		d.call(temporary, "GET", "/scopes/current", nil).want(200)
		d.call(d.root(), "POST", "/clients/foo/disable", nil).want(200)
		d.call(d.root(), "POST", "/clients/foo/disable", nil).want(200)
		d.call(c, "GET", "/scopes/current", nil).want(401, "Client with clientId 'foo' is disabled")
		d.call(temporary, "GET", "/scopes/current", nil).want(401, "Client with clientId 'foo' is disabled")
		d.call(d.root(), "POST", "/clients/foo/enable", nil).want(200)
		d.call(temporary, "GET", "/scopes/current", nil).want(200)
	})
	t.Run("messages", func(t *testing.T) {
		d := deploy(t)
		before := d.events.Head()
		d.client("foo")
		d.call(d.root(), "POST", "/clients/foo", d.clientBody()).want(200)
		d.call(d.root(), "POST", "/clients/foo/disable", nil).want(200)
		d.call(d.root(), "POST", "/clients/foo/enable", nil).want(200)
		d.call(d.root(), "POST", "/clients/foo/reset", nil).want(200)
		d.call(d.root(), "DELETE", "/clients/foo", nil).want(204)
		d.call(d.root(), "PUT", clientPath("static/x"), d.clientBody()).want(400)
		want := []string{"client-created foo", "client-updated foo", "client-updated foo", "client-updated foo", "client-updated foo", "client-deleted foo"}
		if got := d.published(before); !slices.Equal(got, want) {
			t.Error(got)
		}
	})
}

func purge(t *testing.T, d *deployment) {
	t.Helper()
	if err := d.service.purgeAll(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestScopes(t *testing.T) {
	d := deploy(t)
	d.role("one", "two:*")
	t.Run("B25 expandScopes does not add what everybody may do", func(t *testing.T) {
		for _, c := range []struct{ in, want []string }{
			{[]string{}, []string{}},
			{[]string{"y", "x", "x*"}, []string{"x*", "y"}},
			{[]string{"assume:one"}, []string{"assume:one", "two:*"}},
		} {
			a := d.call(d.root(), "POST", "/scopes/expand", map[string]any{"scopes": c.in}).want(200)
			if got := a.strings("scopes"); !slices.Equal(got, c.want) {
				t.Errorf("%q: %q", c.in, got)
			}
		}
	})
	t.Run("B25 currentScopes does", func(t *testing.T) {
		c := d.client("foo", "assume:one", "auth:current-scopes")
		got := d.call(c, "GET", "/scopes/current", nil).want(200).strings("scopes")
		for _, scope := range []string{"assume:anonymous", "assume:one", "queue:get-task:*", "two:*"} {
			if !slices.Contains(got, scope) {
				t.Errorf("%s is missing in %q", scope, got)
			}
		}
		if got := d.call(nobody, "GET", "/scopes/current", nil).want(200).strings("scopes"); !slices.Contains(got, "assume:anonymous") {
			t.Error(got)
		}
	})
}

func TestHistory(t *testing.T) {
	d := deploy(t)
	editor := d.client("editor", "auth:*")
	for _, id := range []string{"a/b", "c"} {
		d.call(editor, "PUT", clientPath(id), d.clientBody()).want(200)
		d.call(editor, "POST", clientPath(id), d.clientBody()).want(200)
	}
	d.call(editor, "POST", clientPath("c")+"/disable", nil).want(200)
	d.call(editor, "POST", clientPath("c")+"/enable", nil).want(200)
	d.call(editor, "POST", clientPath("c")+"/reset", nil).want(200)
	d.call(editor, "DELETE", clientPath("c"), nil).want(204)
	d.call(editor, "DELETE", clientPath("c"), nil).want(204)
	d.call(editor, "PUT", rolePath("r"), roleBody()).want(200)
	d.call(editor, "PUT", rolePath("r"), roleBody()).want(200)
	d.call(editor, "POST", rolePath("r"), roleBody()).want(200)
	d.call(editor, "DELETE", rolePath("r"), nil).want(204)
	d.call(editor, "POST", rolePath("r"), roleBody()).want(404)

	actions := func(path string) (all []string) {
		t.Helper()
		token := ""
		for range 100 {
			a := d.call(d.root(), "GET", path+"?limit=2"+token, nil).want(200)
			for _, x := range a.object()["auditHistory"].([]any) {
				row := x.(map[string]any)
				if row["clientId"] != "editor" || row["created"] != d.clock.Now().String() {
					t.Error(row)
				}
				all = append(all, row["entityType"].(string)+" "+row["entityId"].(string)+" "+row["actionType"].(string))
			}
			next := a.string("continuationToken")
			if next == "" {
				return all
			}
			token = "&continuationToken=" + next
		}
		t.Fatal("the pages do not end")
		return nil
	}
	t.Run("B27 of an entity whose id has a slash", func(t *testing.T) {
		if got := actions("/audit/client/a%2Fb"); !slices.Equal(got, []string{"client a/b created", "client a/b updated"}) {
			t.Error(got)
		}
	})
	ofC := []string{"client c created", "client c updated", "client c client disabled", "client c client enabled", "client c access token reset", "client c deleted"}
	ofR := []string{"role r created", "role r updated", "role r deleted"}
	t.Run("every action", func(t *testing.T) {
		if got := actions("/audit/client/c"); !slices.Equal(got, ofC) {
			t.Error(got)
		}
		if got := actions("/audit/role/r"); !slices.Equal(got, ofR) {
			t.Error(got)
		}
	})
	t.Run("B27 of a client", func(t *testing.T) {
		want := append(append([]string{"client a/b created", "client a/b updated"}, ofC...), ofR...)
		if got := actions("/clients/editor/audit"); !slices.Equal(got, want) {
			t.Error(got)
		}
	})
	t.Run("parameters", func(t *testing.T) {
		d.call(d.root(), "GET", "/audit/task/x", nil).want(400, "InvalidRequestArguments")
		d.call(d.root(), "GET", "/audit/client/nothing", nil).want(200, `{"auditHistory":[]}`)
		d.call(d.root(), "GET", "/audit/client/c?continuationToken=--", nil).want(400, "InputError")
		d.call(d.root(), "GET", "/audit/client/c?limit=0", nil).want(200, `{"auditHistory":[]}`)
		token := d.call(d.root(), "GET", "/audit/client/c?limit=2", nil).string("continuationToken")
		// Another listing's token starts over.
		d.call(d.root(), "GET", "/audit/role/r?limit=1&continuationToken="+token, nil).want(200, `"created"`)
	})
	t.Run("retention", func(t *testing.T) {
		d.clock.Advance(30 * 24 * time.Hour)
		purge(t, d)
		d.call(d.root(), "GET", "/audit/client/c", nil).want(200, "deleted")
		d.clock.Advance(time.Millisecond)
		purge(t, d)
		d.call(d.root(), "GET", "/audit/client/c", nil).want(200, `{"auditHistory":[]}`)
	})
}
