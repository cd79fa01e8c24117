package auth

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRoles(t *testing.T) {
	t.Run("B30 the same again, and another", func(t *testing.T) {
		d := deploy(t)
		before := d.events.Head()
		first := d.role("r", "y", "x*", "x")
		if got := first.strings("scopes"); !slices.Equal(got, []string{"x*", "x", "y"}) {
			t.Errorf("sorted, and none dropped: %q", got)
		}
		d.clock.Advance(time.Minute)
		if again := d.role("r", "x", "y", "x*"); again.body != first.body {
			t.Errorf("%s\n%s", first.body, again.body)
		}
		d.call(d.root(), "PUT", "/roles/r", roleBody("a")).want(409, "RequestConflict", "Role with roleId 'r' already exists")
		d.call(d.root(), "PUT", "/roles/r", map[string]any{"description": "x", "scopes": []string{"x", "y", "x*"}}).want(409)
		if got := d.published(before); !slices.Equal(got, []string{"role-created r", "role-created r"}) {
			t.Error(got)
		}
	})
	t.Run("B30 at the same time", func(t *testing.T) {
		d := deploy(t)
		other := d.another(testStatic()) // shares the store, not the memory
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				d.call(d.root(), "PUT", "/roles/same", roleBody("x")).want(200)
				d.call(d.root(), "PUT", rolePath(fmt.Sprintf("own-%d", i)), roleBody("x")).want(200)
			})
		}
		group.Wait()
		set, err := other.currentRoles(t.Context())
		if err != nil || len(set.roles) != 22 {
			t.Fatal(len(set.roles), err)
		}
		d.call(d.root(), "GET", "/roleids/", nil).want(200, "same", "own-0", "own-19")
	})
	t.Run("B31 cycles by parameters", func(t *testing.T) {
		d := deploy(t)
		d.role("test*", "assume:other<..>x")
		d.call(d.root(), "PUT", rolePath("other*"), roleBody("assume:te<..>")).want(400, "InputError", "Roles may not contain dependency cycles, found:")
		d.call(d.root(), "GET", rolePath("other*"), nil).want(404)
		d.role("test-1:*")
		d.role("test-2:*", "assume:test-1:prefix/<..>#some-suffix")
		d.call(d.root(), "POST", rolePath("test-1:*"), roleBody("assume:test-2:prefix-<..>/some-suffix")).want(400, "InputError", "dependency cycles")
		d.call(d.root(), "GET", rolePath("test-1:*"), nil).want(200, `"scopes":[]`)
		d.call(d.root(), "PUT", "/roles/self", roleBody("assume:self")).want(400, "'assume:self' -> 'assume:self'")
	})
	t.Run("parameters that are ambiguous", func(t *testing.T) {
		d := deploy(t)
		d.call(d.root(), "PUT", rolePath("p*"), roleBody("x<..>y<..>")).want(400, "InputError", "contains multiple '<..>'")
		d.call(d.root(), "PUT", rolePath("p*"), roleBody("x*<..>")).want(400, "InputError", "ambiguous kleene")
		d.role("plain", "x<..>y<..>")
		d.role("p*", "x<..>y")
	})
	t.Run("B32 updateRole: what the role's holders have already needs no possession", func(t *testing.T) {
		d := deploy(t)
		d.role("base", "deep:*")
		d.role("r", "assume:base", "x:*", "gone")
		editor := d.client("editor", "auth:update-role:r", "mine")
		update := func(scopes ...string) answer { return d.call(editor, "POST", "/roles/r", roleBody(scopes...)) }
		update("x:y", "assume:base", "x:*").want(200, `"scopes":["x:y","assume:base","x:*"]`) // as given
		update("deep:down", "deep:*", "assume:base", "mine").want(200)
		update("deep:down", "other").want(403, "InsufficientScopes", "other")
		update("deep:down").want(200)
		update("deep:down", "deep:*").want(403, "deep:*")
		update().want(200, `"scopes":[]`)
		update("x:*").want(403)
	})
	t.Run("updateRole: order of the checks", func(t *testing.T) {
		d := deploy(t)
		d.call(nobody, "POST", "/roles/r", roleBody("a**")).want(400, "scopes must not end with `**`")
		d.call(nobody, "POST", "/roles/r", roleBody("a")).want(404, "Role not found")
		d.call(nobody, "PUT", "/roles/r", roleBody("a**")).want(400, "InputError")
		d.call(nobody, "PUT", "/roles/r", roleBody("a")).want(403)
		d.role("r")
		d.call(nobody, "POST", "/roles/r", roleBody("assume:r")).want(403)
		d.call(nobody, "GET", "/roles/missing", nil).want(403)
		d.call(d.root(), "GET", "/roles/missing", nil).want(404, "ResourceNotFound", "Role not found")
		d.call(d.root(), "GET", "/roles/"+url.PathEscape("a\nb"), nil).want(400, "InvalidRequestArguments")
	})
	t.Run("B33 ids of all characters", func(t *testing.T) {
		d := deploy(t)
		for _, id := range []string{"a%b", "%2F", "a b/c", "*", "a?b#c", `"\`} {
			if got := d.role(id, "x").string("roleId"); got != id {
				t.Errorf("%q became %q", id, got)
			}
			if got := d.call(d.root(), "GET", rolePath(id), nil).want(200).string("roleId"); got != id {
				t.Errorf("%q became %q", id, got)
			}
		}
	})
	t.Run("B34 pages", func(t *testing.T) {
		d := deploy(t)
		for _, id := range []string{"c", "a", "b"} {
			d.role(id)
		}
		for _, path := range []string{"/roles2/", "/roleids/"} {
			for _, token := range []string{"FOOBAR", "%40%40something%23%23"} {
				d.call(d.root(), "GET", path+"?continuationToken="+token, nil).want(400, "InputError", "Invalid continuation token")
				d.call(d.root(), "GET", path+"?limit=1&continuationToken="+token, nil).want(400)
			}
			member := map[string]string{"/roles2/": "roles", "/roleids/": "roleIds"}[path]
			var all []string
			token := ""
			for range 10 {
				a := d.call(d.root(), "GET", path+"?limit=1"+token, nil).want(200)
				for _, x := range a.object()[member].([]any) {
					if role, ok := x.(map[string]any); ok {
						x = role["roleId"]
					}
					all = append(all, x.(string))
				}
				next := a.string("continuationToken")
				if next == "" {
					break
				}
				token = "&continuationToken=" + next
				// Without a limit it is everything, whatever the token.
				if a := d.call(d.root(), "GET", path+"?continuationToken="+next, nil).want(200); len(a.object()[member].([]any)) != 4 {
					t.Error(a.body)
				}
			}
			if !slices.Equal(all, []string{"a", "anonymous", "b", "c"}) {
				t.Error(all)
			}
			for query, want := range map[string]int{"": 4, "?limit=0": 0, "?limit=4": 4, "?limit=99999999999999999999": 4} {
				a := d.call(d.root(), "GET", path+query, nil).want(200)
				if len(a.object()[member].([]any)) != want || a.string("continuationToken") != "" {
					t.Error(query, a.body)
				}
			}
		}
		if a := d.call(d.root(), "GET", "/roles/", nil).want(200); strings.Count(a.body, `"roleId"`) != 4 || a.body[0] != '[' {
			t.Error(a.body)
		}
	})
	t.Run("B35 deletion", func(t *testing.T) {
		d := deploy(t)
		d.role("r", "x")
		holder := d.client("holder", "assume:r", "auth:current-scopes")
		d.call(holder, "GET", "/scopes/current", nil).want(200, `"x"`)
		working := d.service.log
		d.service.log = brokenLog(t)
		d.call(d.root(), "DELETE", "/roles/r", nil).want(500)
		d.service.log = working
		d.call(holder, "GET", "/scopes/current", nil).want(200, `"x"`)
		before := d.events.Head()
		d.call(d.root(), "DELETE", "/roles/r", nil).want(204)
		d.call(d.root(), "DELETE", "/roles/r", nil).want(204)
		if got := d.published(before); !slices.Equal(got, []string{"role-deleted r"}) {
			t.Error(got)
		}
		if a := d.call(holder, "GET", "/scopes/current", nil).want(200); strings.Contains(a.body, `"x"`) {
			t.Error(a.body)
		}
	})
	t.Run("B36 B37 B38 expansion", func(t *testing.T) {
		d := deploy(t)
		d.role("-", "dash")
		d.role("project-admin:*", "assume:admin-role:project-<..>/*")
		d.role("admin-role:*", "auth:create-role:<..>")
		if got := d.call(d.root(), "GET", "/roles/-", nil).strings("expandedScopes"); !slices.Equal(got, []string{"assume:-", "dash"}) {
			t.Error(got)
		}
		for i, star := range []string{"a*", "assume*", "assume:*", "*"} {
			c := d.call(d.root(), "PUT", clientPath(fmt.Sprintf("star-%d", i)), d.clientBody(star)).want(200)
			if got := c.strings("expandedScopes"); star != "*" && !slices.Contains(got, "dash") || star == "*" && !slices.Equal(got, []string{"*"}) {
				t.Errorf("%s: %q", star, got)
			}
		}
		a := d.call(d.root(), "POST", "/scopes/expand", map[string]any{"scopes": []string{"assume:project-admin:proj*"}}).want(200)
		if got := a.strings("scopes"); !slices.Contains(got, "auth:create-role:project-proj*") {
			t.Error(got)
		}
	})
	t.Run("a role in use is followed at once", func(t *testing.T) {
		d := deploy(t)
		c := d.client("c", "assume:r", "auth:current-scopes")
		if a := d.call(c, "GET", "/scopes/current", nil).want(200); strings.Contains(a.body, `"x"`) {
			t.Error(a.body)
		}
		d.role("r", "x")
		d.call(c, "GET", "/scopes/current", nil).want(200, `"x"`)
		d.call(d.root(), "POST", "/roles/r", roleBody("y")).want(200)
		d.call(c, "GET", "/scopes/current", nil).want(200, `"y"`)
		d.call(d.root(), "GET", "/clients/c", nil).want(200, `"expandedScopes":["assume:r","auth:current-scopes","y"]`)
		d.call(d.root(), "POST", "/roles/anonymous", roleBody("z")).want(200)
		d.call(c, "GET", "/scopes/current", nil).want(200, `"z"`)
	})
}

// TestRoleChain is B39: long chains work, and what closes them is refused, in
// whatever order the roles come.
func TestRoleChain(t *testing.T) {
	d := deploy(t)
	const length = 500
	for _, i := range rand.Perm(length) {
		id := fmt.Sprintf("chain-%d", i)
		_, _, err := d.service.changeRoles(t.Context(), nil, func(*roleSet) (roleChange, error) {
			r := &role{id: id, scopes: []string{fmt.Sprintf("assume:chain-%d", i+1)}}
			return roleChange{role: r, action: "created", exchange: roleCreated}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := d.call(d.root(), "GET", "/roles/chain-0", nil).want(200).strings("expandedScopes"); len(got) != length+1 {
		t.Error(len(got))
	}
	d.call(d.root(), "PUT", fmt.Sprintf("/roles/chain-%d", length), roleBody("assume:chain-0")).want(400, "dependency cycles")
	d.role(fmt.Sprintf("chain-%d", length), "end")
}

// TestRoleRace has two processes change roles at the same time: each change is
// made on what the other left, so that together they make no cycle.
func TestRoleRace(t *testing.T) {
	d := deploy(t)
	other := d.another(testStatic())
	for i := range 10 {
		a, b := fmt.Sprintf("a-%d", i), fmt.Sprintf("b-%d", i)
		var group sync.WaitGroup
		var errs [2]error
		for n, s := range []*Service{d.service, other} {
			group.Go(func() {
				r := &role{id: a, scopes: []string{"assume:" + b}}
				if n == 1 {
					r = &role{id: b, scopes: []string{"assume:" + a}}
				}
				_, _, errs[n] = s.changeRoles(t.Context(), nil, func(*roleSet) (roleChange, error) {
					return roleChange{role: r, action: "created", exchange: roleCreated}, nil
				})
			})
		}
		group.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("one of two must be refused: %v", errs)
		}
	}
	set, err := d.service.currentRoles(t.Context())
	if err != nil || len(set.roles) != 11 {
		t.Fatal(len(set.roles), err)
	}
}

// TestRoleWriteCost: a change of one role among thousands writes a few rows
// and reads none of the others.
func TestRoleWriteCost(t *testing.T) {
	d := deploy(t)
	d.role("warm", "x")
	before := d.store.Stats()
	d.role("one-more", "x")
	after := d.store.Stats()
	// The version; the version again, the role, history, the call, the event.
	if n := after.Statements - before.Statements; n > 6 {
		t.Errorf("%d statements", n)
	}
	if n := after.Commits - before.Commits; n != 1 {
		t.Errorf("%d commits", n)
	}
}
