package auth

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"taskcluster/internal/api"
	"taskcluster/internal/hawk"
	"taskcluster/internal/store"
)

// doubling is role i of a chain of which each gives the next twice, with other
// parameters.
func doubling(i int) (id string, scopes []string) {
	next := fmt.Sprintf("assume:xp%02d-<..>", i+1)
	return fmt.Sprintf("xp%02d-*", i), []string{next + "a", next + "b"}
}

// storeRole puts a role into the database past all checks, as a version of this
// program that had none may have left it.
func (d *deployment) storeRole(id string, scopes ...string) {
	d.t.Helper()
	err := d.store.Write(d.t.Context(), func(tx *store.Tx) error {
		var version int64
		if err := tx.Row(stmt.roleSetVersion).Scan(&version); err != nil {
			return err
		}
		if _, err := tx.Exec(stmt.bumpRoleSet, version); err != nil {
			return err
		}
		return putRole(tx, &role{id: id, scopes: scopes, created: tx.Now(), lastModified: tx.Now()})
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// TestRoleGrowth: nobody makes roles that grow a holder's scopes without bound,
// in whatever order and by whichever method.
func TestRoleGrowth(t *testing.T) {
	const levels = 40
	orders := map[string]func(i int) int{
		"from the start": func(i int) int { return i },
		"from the end":   func(i int) int { return levels - 1 - i },
		"mixed":          func(i int) int { return i * 7 % levels },
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			d := deploy(t)
			editor := d.client("editor", "auth:create-role:xp*", "auth:update-role:xp*", "assume:xp*")
			made, refused := 0, 0
			for i := range levels {
				id, scopes := doubling(order(i))
				a := d.call(editor, "PUT", rolePath(id), roleBody(scopes...))
				if a.status == 200 {
					made++
					continue
				}
				refused++
				a.want(400, "InputError", "With this change the parameters of the role 'xp", "at most 100000 are allowed", "let fewer lead to another role")
				d.call(d.root(), "GET", rolePath(id), nil).want(404)
				// Nor by an update, even if each scope is there already.
				d.call(editor, "PUT", rolePath(id), roleBody()).want(200)
				d.call(editor, "POST", rolePath(id), roleBody(scopes...)).want(400, "InputError")
			}
			t.Logf("%d made, %d refused", made, refused)
			if made < 15 || refused == 0 {
				t.Errorf("%d made, %d refused", made, refused)
			}
			d.call(d.root(), "GET", "/roles/", nil).want(200)
			d.call(d.root(), "POST", "/scopes/expand", map[string]any{"scopes": []string{"assume:xp00-q"}}).want(200)
			// Other roles are not concerned.
			d.role("other*", "assume:another<..>", "x<..>")
			d.role("another*", "y<..>")
		})
	}
	t.Run("long scopes", func(t *testing.T) {
		d := deploy(t)
		long := strings.Repeat("y", 1<<20)
		triggers := []string{"assume:long-1", "assume:long-2", "assume:long-3", "assume:long-4", "assume:long-5"}
		d.role("long-*", "w<..>"+long, "x<..>"+long, "y<..>"+long, "z<..>"+long)
		d.call(d.root(), "PUT", rolePath("trigger"), roleBody(triggers...)).
			want(400, "InputError", "cannot be expanded", "'assume:long-*'", "16 MiB")
		d.call(d.root(), "GET", "/roles/trigger", nil).want(404)
		d.call(d.root(), "POST", "/roles/anonymous", roleBody(triggers...)).want(400, "InputError")
	})
}

// TestStoredGrowth: roles that were stored before there was a bound are read,
// and harm only those who hold them, until somebody repairs them.
func TestStoredGrowth(t *testing.T) {
	dir, c := t.TempDir(), testClock()
	d := deployIn(t, dir, c, testStatic())
	holder := d.client("holder", "assume:trigger", "y*")
	other := d.client("other", "assume:xp*", "auth:*")
	for i := range 40 {
		id, scopes := doubling(i)
		d.storeRole(id, scopes...)
	}
	d.storeRole("trigger", "assume:xp00-q", "z")
	d.stop()
	d = deployIn(t, dir, c, testStatic())

	// Its holders are refused, by whatever way they come to the scopes.
	const why = "The scopes cannot be expanded: roles with parameters, 'assume:xp"
	failed := func(a answer, what string) {
		t.Helper()
		if a.string("status") != api.AuthFailed || !strings.Contains(a.string("message"), what) || !strings.Contains(a.string("message"), why) {
			t.Errorf("%.300s", a.body)
		}
	}
	failed(d.signed(holder), "Client with clientId 'holder' cannot be used")
	failed(d.signed(holder), "Client with clientId 'holder' cannot be used")
	failed(d.bewit(holder), "Client with clientId 'holder' cannot be used")
	failed(d.signed(d.temporary(holder, "holder-2", "y")), "Client with clientId 'holder' cannot be used")
	failed(d.signed(d.temporary(other, "", "assume:xp00-q")), "ext.certificate cannot be used")
	narrow := other
	narrow.AuthorizedScopes = []string{"assume:xp00-q"}
	failed(d.signed(narrow), "ext.authorizedScopes cannot be used")
	// Who cannot sign has nothing expanded.
	forged := narrow
	forged.AccessToken = "x"
	if m := d.signed(forged).string("message"); strings.Contains(m, why) {
		t.Error(m)
	}
	d.call(holder, "GET", "/scopes/current", nil).want(401, "AuthenticationFailed", why)

	// Everybody else goes on.
	if a := d.signed(other); a.string("status") != api.AuthSuccess {
		t.Errorf("%.300s", a.body)
	}
	d.call(d.root(), "POST", "/scopes/expand", map[string]any{"scopes": []string{"assume:trigger"}}).want(400, "InputError", why)
	d.call(d.root(), "POST", "/scopes/expand", map[string]any{"scopes": []string{"assume:xp38-q"}}).want(200, "assume:xp40-qab")
	d.call(d.root(), "PUT", "/clients/third", d.clientBody("assume:trigger")).want(400, "InputError", why)
	d.call(d.root(), "GET", "/clients/third", nil).want(404)
	d.call(d.root(), "POST", "/clients/other", d.clientBody("assume:trigger")).want(400, "InputError", why)
	d.role("unrelated-*", "x<..>")

	// Listings show what there is.
	if got := d.call(d.root(), "GET", "/roles/trigger", nil).want(200).strings("expandedScopes"); !slices.Equal(got, []string{"assume:trigger"}) {
		t.Error(got)
	}
	if got := d.call(d.root(), "GET", "/clients/holder", nil).want(200).strings("expandedScopes"); !slices.Equal(got, []string{"assume:trigger", "y*"}) {
		t.Error(got)
	}
	for _, path := range []string{"/roles/", "/roles2/", "/roles2/?limit=1000"} {
		d.call(d.root(), "GET", path, nil).want(200, `"expandedScopes":["assume:trigger"]`)
	}
	d.call(d.root(), "GET", "/clients/", nil).want(200, `"expandedScopes":["assume:trigger","y*"]`)
	d.call(d.root(), "POST", "/clients/holder/disable", nil).want(200)
	d.call(d.root(), "POST", "/clients/holder/enable", nil).want(200)

	// It may not get worse, and whoever repairs it needs the added scopes.
	d.call(d.root(), "PUT", "/roles/trigger-2", roleBody("assume:xp00-r")).want(400, "InputError", why)
	editor := d.client("editor", "auth:update-role:*", "auth:delete-role:*")
	d.call(editor, "POST", "/roles/trigger", roleBody("assume:xp00-q", "z", "more")).want(403, "more")
	d.call(editor, "POST", "/roles/trigger", roleBody("z")).want(200)
	if a := d.signed(holder); a.string("status") != api.AuthSuccess || !slices.Contains(a.strings("scopes"), "z") {
		t.Errorf("%.300s", a.body)
	}
	d.call(d.root(), "POST", "/roles/trigger", roleBody("assume:xp00-q")).want(400, "InputError", why)
	d.call(editor, "DELETE", rolePath("xp20-*"), nil).want(204)
	d.call(editor, "POST", rolePath("xp10-*"), roleBody()).want(200)
	d.call(d.root(), "POST", "/scopes/expand", map[string]any{"scopes": []string{"assume:xp00-q"}}).want(200)
}

// TestStoredGrowthOfAnonymous: what everybody has is too much, and root can
// repair it.
func TestStoredGrowthOfAnonymous(t *testing.T) {
	dir, at := t.TempDir(), testClock()
	d := deployIn(t, dir, at, testStatic())
	c := d.client("c", "x")
	for i := range 40 {
		id, scopes := doubling(i)
		d.storeRole(id, scopes...)
	}
	d.storeRole("anonymous", "assume:xp00-q", "public:thing")
	d.stop()
	d = deployIn(t, dir, at, testStatic())
	failed := d.service.Authenticate(t.Context(), d.signedRequest(c))
	if failed.Status != api.AuthFailed || !strings.Contains(failed.Message, "cannot be expanded") {
		t.Errorf("%+v", failed)
	}
	if r := d.service.Authenticate(t.Context(), api.AuthRequest{Method: "GET", Resource: someResource, Host: testHost, Port: testPort}); r.Status != api.NoAuth || !slices.Equal(r.Scopes.Slice(), []string{anonymous}) {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(d.logged.String(), "nobody but holders of * can use this deployment") {
		t.Error("nothing is logged")
	}
	d.call(d.root(), "POST", "/roles/anonymous", roleBody("public:thing")).want(200)
	d.signed(c).succeeded("c", "x", "public:thing")
}

// TestGrantMemory: what expands to much is not remembered with each client and
// certificate, and is served all the same.
func TestGrantMemory(t *testing.T) {
	d := deploy(t)
	for i := range 13 {
		id, scopes := doubling(i)
		d.role(id, scopes...)
	}
	c := d.client("c", "assume:xp00-q*", "assume:xp00-q")
	large := d.temporary(c, "", "assume:xp00-q")
	small := d.temporary(c, "", "assume:xp12-q")
	for range 2 {
		for _, as := range []hawk.Credentials{large, small} {
			if a := d.signed(as); a.string("status") != api.AuthSuccess || !slices.ContainsFunc(a.strings("scopes"), func(s string) bool { return strings.HasPrefix(s, "assume:xp13-q") }) {
				t.Errorf("%.300s", a.body)
			}
		}
	}
	if n := len(d.service.realm.grants.entries); n != 1 {
		t.Errorf("%d certificates are remembered", n)
	}
}

// TestLargeListings: an answer ends where it would get too large, and says so.
func TestLargeListings(t *testing.T) {
	d := deploy(t)
	for _, id := range []string{"a", "b", "c"} {
		d.client("large/"+id, strings.Repeat(id, 1000))
		d.role("large/"+id, strings.Repeat(id, 1000))
	}
	d.service.maxListing = 2500
	d.call(d.root(), "GET", "/roles/", nil).want(400, "InputError", "ask `listRoles2` for them with a limit")
	d.call(d.root(), "GET", "/roles2/", nil).want(400, "InputError", "with a limit")
	for path, want := range map[string][]string{
		"/clients/?limit=1000&prefix=large": {"large/a large/b", "large/c"},
		"/roles2/?limit=1000":               {"anonymous large/a", "large/b large/c"},
	} {
		var pages []string
		for token := ""; ; {
			a := d.call(d.root(), "GET", path+token, nil).want(200)
			var ids []string
			for member, id := range map[string]string{"clients": "clientId", "roles": "roleId"} {
				list, _ := a.object()[member].([]any)
				for _, x := range list {
					ids = append(ids, x.(map[string]any)[id].(string))
				}
			}
			pages = append(pages, strings.Join(ids, " "))
			next := a.string("continuationToken")
			if next == "" || len(pages) > 9 {
				break
			}
			token = "&continuationToken=" + next
		}
		if !slices.Equal(pages, want) {
			t.Errorf("%s: %q", path, pages)
		}
	}
	// One that is too large by itself is a page.
	d.service.maxListing = 10
	d.call(d.root(), "GET", "/clients/?prefix=large/b", nil).want(200, `"large/b"`)
}
